//! Own rows with a background and questions.

use std::ops::ControlFlow;

use serde::Deserialize;

use super::{Branch, BranchedText, QuestionRowsConfig, TextSink};
use crate::DataError;
use crate::rows::for_each_row;

#[derive(Deserialize)]
struct Row {
    id: Option<String>,
    background: String,
    questions: Vec<Question>,
}

#[derive(Deserialize)]
struct Question {
    id: Option<String>,
    question: String,
    #[serde(default)]
    answers: Vec<String>,
}

impl QuestionRowsConfig {
    pub(super) fn read(&self, sink: &mut TextSink<'_>) -> Result<(), DataError> {
        let mut report = std::mem::take(&mut sink.report);
        let result = for_each_row(&self.path, &mut report, |row, value, report| {
            let text = serde_json::from_value::<Row>(value).map_err(|error| error.to_string());
            match text.and_then(|text| text.branched(row)) {
                Err(problem) => {
                    report.malformed_sample(&self.path, row, problem)?;
                    Ok(ControlFlow::Continue(()))
                }
                Ok(text) => {
                    std::mem::swap(&mut sink.report, report);
                    let more = sink.offer(text, &self.path, row);
                    std::mem::swap(&mut sink.report, report);
                    Ok(if more? { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
                }
            }
        });
        sink.report = report;
        result
    }
}

impl Row {
    /// The text; ids that are not given are made of the row's number.
    fn branched(self, row: u64) -> Result<BranchedText, String> {
        let id = self.id.unwrap_or_else(|| row.to_string());
        if self.questions.is_empty() {
            return Err("no `questions`".into());
        }
        if self.questions.iter().any(|question| question.question.trim().is_empty()) {
            return Err("an empty `question`".into());
        }
        let branch = |(number, question): (usize, Question)| Branch {
            id: question.id.unwrap_or_else(|| format!("{id}/{number}")),
            prompt: question.question.trim().to_owned(),
            answers: question.answers,
        };
        let branches = self.questions.into_iter().enumerate().map(branch).collect();
        Ok(BranchedText { branches, background: self.background, origin: "questions".into(), id })
    }
}
