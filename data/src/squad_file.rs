//! SQuAD v1.1's own JSON (Rajpurkar et al. 2016).

use std::path::Path;

use serde::Deserialize;

use crate::{DataError, files};

/// The whole file.
#[derive(Debug, Deserialize)]
pub(crate) struct SquadFile {
    pub data: Vec<SquadArticle>,
}

/// An article.
#[derive(Debug, Deserialize)]
pub(crate) struct SquadArticle {
    #[serde(default)]
    pub title: String,
    pub paragraphs: Vec<SquadParagraph>,
}

/// A paragraph and what was asked about it.
#[derive(Debug, Deserialize)]
pub(crate) struct SquadParagraph {
    pub context: String,
    pub qas: Vec<SquadQuestion>,
}

/// A question.
#[derive(Debug, Deserialize)]
pub(crate) struct SquadQuestion {
    pub id: String,
    pub question: String,
    #[serde(default)]
    pub answers: Vec<SquadAnswer>,
}

/// An accepted answer.
#[derive(Debug, Deserialize)]
pub(crate) struct SquadAnswer {
    pub text: String,
    /// Where it starts in the paragraph, in characters.
    pub answer_start: usize,
}

impl SquadFile {
    /// Reads a file; gzip is recognised.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        serde_json::from_slice(&files::read_bytes(path)?)
            .map_err(|error| DataError::malformed(path, error.line() as u64, error.to_string()))
    }
}
