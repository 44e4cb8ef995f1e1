//! Texts with branches: a background and questions about it, or a document some of whose paragraphs are read side by side.
//!
//! They are what columnar parallel decoding is trained and evaluated on; a model that reads one question at a time takes the same
//! texts one branch after the other.

mod config;
mod documents;
mod examples;
mod prompt;
mod questions;
mod rows;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

pub use config::{BranchedSetConfig, BranchedSource, DocumentsConfig, QuestionRowsConfig, SquadQuestionsConfig};
pub use examples::{ColumnarTexts, Learned, SequentialTexts};
pub use prompt::{BranchPromptConfig, BranchPrompts};

use crate::SetReport;

/// A background and its branches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchedText {
    /// Unique in its set.
    pub id: String,
    /// What all branches can read; may be empty.
    pub background: String,
    /// At least one.
    pub branches: Vec<Branch>,
    /// Kind of source.
    #[serde(default)]
    pub origin: String,
}

/// A question and its accepted answers, or (without a prompt) a paragraph as the only answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// Unique in its set.
    pub id: String,
    /// The question; empty for a paragraph.
    pub prompt: String,
    /// Accepted answers, the first of which is learned; empty when unknown.
    pub answers: Vec<String>,
}

/// Takes the texts of a source, keeps those that are whole, and counts.
pub(crate) struct TextSink<'a> {
    emit: &'a mut dyn FnMut(BranchedText) -> Result<(), crate::DataError>,
    /// Counts so far.
    pub(crate) report: SetReport,
    seen: HashSet<String>,
    most: u64,
}

impl TextSink<'_> {
    /// A text; false when no further one is wanted.
    ///
    /// # Errors
    /// An id that occurred before, or what the taker finds.
    fn offer(&mut self, text: BranchedText, path: &std::path::Path, line: u64) -> Result<bool, crate::DataError> {
        for (kind, id) in std::iter::once(("text", &text.id)).chain(text.branches.iter().map(|b| ("branch", &b.id))) {
            if !self.seen.insert(format!("{kind} {id}")) {
                return Err(crate::DataError::DuplicateId { path: path.to_owned(), line, kind, id: id.clone() });
            }
        }
        self.report.keep_sample();
        (self.emit)(text)?;
        Ok(self.report.kept < self.most)
    }
}

/// Calls `emit` with the texts of a set.
///
/// # Errors
/// Bad settings, files that cannot be read, malformed rows when reading strictly, or no text at all.
pub fn for_each_text(
    config: &BranchedSetConfig,
    emit: &mut dyn FnMut(BranchedText) -> Result<(), crate::DataError>,
) -> Result<SetReport, crate::DataError> {
    let problems = config.validate();
    if !problems.is_empty() {
        return Err(crate::DataError::Config { problems });
    }
    let path = config.files().first().map(|path| format!(" {}", path.display())).unwrap_or_default();
    let report = SetReport::new(format!("{}{path}", config.source.kind()), config.strict);
    let most = config.max_texts.map_or(u64::MAX, |most| most as u64);
    let mut sink = TextSink { emit, report, seen: HashSet::new(), most };
    match &config.source {
        BranchedSource::SquadQuestions(source) => source.read(&mut sink)?,
        BranchedSource::Documents(source) => source.read(&mut sink)?,
        BranchedSource::Questions(source) => source.read(&mut sink)?,
    }
    sink.report.require_kept()?;
    Ok(sink.report)
}

/// The texts of a set and what was left out.
///
/// # Errors
/// As [`for_each_text`].
pub fn load(config: &BranchedSetConfig) -> Result<(Vec<BranchedText>, SetReport), crate::DataError> {
    let mut texts = Vec::new();
    let report = for_each_text(config, &mut |text| {
        texts.push(text);
        Ok(())
    })?;
    Ok((texts, report))
}
