//! Answers to questions, one a row, as parquet.

use std::path::Path;

use polars::prelude::*;

use crate::{DataError, files};

/// One decoder's answer to a question.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerRecord {
    /// Id of the text.
    pub text_id: String,
    /// Id of the question.
    pub question_id: String,
    /// The question.
    pub question: String,
    /// Name of the decoder.
    pub decoder: String,
    /// First line of the answer.
    pub answer: String,
    /// Exact match with an accepted answer, 0 or 1; none without accepted answers.
    pub exact_match: Option<f64>,
    /// Best F1 over the accepted answers; none without accepted answers.
    pub f1: Option<f64>,
}

/// Writes answers, whole or not at all: columns as the fields of [`AnswerRecord`].
///
/// # Errors
/// The file cannot be written.
pub fn write_answers(path: &Path, records: &[AnswerRecord]) -> Result<(), DataError> {
    let strings = |name: &str, text: fn(&AnswerRecord) -> &str| {
        StringChunked::from_iter_values(name.into(), records.iter().map(text)).into_series()
    };
    let numbers = |name: &str, number: fn(&AnswerRecord) -> Option<f64>| {
        Float64Chunked::from_iter_options(name.into(), records.iter().map(number)).into_series()
    };
    let columns = vec![
        strings("text_id", |record| &record.text_id),
        strings("question_id", |record| &record.question_id),
        strings("question", |record| &record.question),
        strings("decoder", |record| &record.decoder),
        strings("answer", |record| &record.answer),
        numbers("exact_match", |record| record.exact_match),
        numbers("f1", |record| record.f1),
    ];
    let columns = columns.into_iter().map(Column::from).collect();
    let mut frame = DataFrame::new(records.len(), columns).map_err(DataError::table(path))?;
    files::write_with(path, |file| {
        ParquetWriter::new(file).set_parallel(false).finish(&mut frame).map_err(DataError::table(path))?;
        Ok(())
    })
}
