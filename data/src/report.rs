//! What was read, kept and dropped, and why.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::DataError;

/// How many malformed rows are kept word for word.
const SHOWN: usize = 5;

/// A row that could not be used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MalformedRow {
    /// File it stands in.
    pub path: PathBuf,
    /// 1-based line, or row in formats without lines.
    pub line: u64,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for MalformedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.message)
    }
}

/// Counts of one set. `read = kept + sum of dropped` always holds for samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SetReport {
    /// Kind and path of the source.
    pub source: String,
    /// Samples (queries) the source offered.
    pub read: u64,
    /// Samples that came out.
    pub kept: u64,
    /// Samples left out, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Smaller things that did not cost a sample, by kind: candidates cut off, qrels for unknown documents, ...
    pub notes: BTreeMap<String, u64>,
    /// The first malformed rows.
    pub malformed: Vec<MalformedRow>,
    /// Whether malformed rows are fatal.
    #[serde(skip)]
    pub strict: bool,
}

impl SetReport {
    /// An empty report.
    #[must_use]
    pub fn new(source: impl Into<String>, strict: bool) -> Self {
        Self { source: source.into(), strict, ..Self::default() }
    }

    /// Counts a sample that is left out.
    pub fn drop_sample(&mut self, reason: &str) {
        self.read += 1;
        *self.dropped.entry(reason.to_owned()).or_default() += 1;
    }

    /// Counts a sample that comes out.
    pub fn keep_sample(&mut self) {
        self.read += 1;
        self.kept += 1;
    }

    /// Counts something that did not cost a sample.
    pub fn note(&mut self, kind: &str, count: u64) {
        if count > 0 {
            *self.notes.entry(kind.to_owned()).or_default() += count;
        }
    }

    /// A malformed row that would have been a sample: counted and remembered, or an error when reading strictly.
    pub fn malformed_sample(&mut self, path: &Path, line: u64, message: impl Into<String>) -> Result<(), DataError> {
        self.remember(path, line, message.into())?;
        self.drop_sample("malformed row");
        Ok(())
    }

    /// A malformed row of a side file (corpus, qrels, run).
    pub fn malformed_row(&mut self, path: &Path, line: u64, message: impl Into<String>) -> Result<(), DataError> {
        self.remember(path, line, message.into())?;
        self.note("malformed rows of side files", 1);
        Ok(())
    }

    fn remember(&mut self, path: &Path, line: u64, message: String) -> Result<(), DataError> {
        if self.strict {
            return Err(DataError::malformed(path, line, message));
        }
        if self.malformed.len() < SHOWN {
            self.malformed.push(MalformedRow { path: path.to_owned(), line, message });
        }
        Ok(())
    }

    /// Error when nothing came out.
    pub fn require_kept(&self) -> Result<(), DataError> {
        if self.kept > 0 {
            return Ok(());
        }
        Err(DataError::Empty { name: self.source.clone(), summary: self.to_string() })
    }
}

impl fmt::Display for SetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read {}, kept {}", self.read, self.kept)?;
        for (reason, count) in &self.dropped {
            write!(f, ", dropped {count} ({reason})")?;
        }
        for (kind, count) in &self.notes {
            write!(f, ", {kind}: {count}")?;
        }
        for row in &self.malformed {
            write!(f, "\n  {row}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_rows_are_counted_and_the_first_shown() {
        let mut report = SetReport::new("jsonl x", false);
        for line in 1..=9 {
            report.malformed_sample(Path::new("x"), line, "no `query`").unwrap();
        }
        report.keep_sample();
        report.note("candidates cut", 0);
        assert_eq!((report.read, report.kept, report.malformed.len()), (10, 1, 5));
        assert!(report.to_string().contains("dropped 9 (malformed row)\n  x:1: no `query`"), "{report}");
        assert!(report.require_kept().is_ok());
    }

    #[test]
    fn strict_makes_them_fatal() {
        let error = SetReport::new("x", true).malformed_sample(Path::new("x"), 3, "bad").unwrap_err();
        assert_eq!(error.to_string(), "x:3: bad");
    }

    #[test]
    fn nothing_kept_is_an_error_that_says_why() {
        let mut report = SetReport::new("jsonl x", false);
        report.drop_sample("no target");
        assert_eq!(
            report.require_kept().unwrap_err().to_string(),
            "no samples left from `jsonl x`: read 1, kept 0, dropped 1 (no target)"
        );
    }
}
