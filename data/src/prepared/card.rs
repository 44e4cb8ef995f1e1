//! What a prepared set is.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::FORMAT_VERSION;
use crate::report::SetReport;
use crate::sources::RankingSetConfig;
use crate::{DataError, RankingSample};

/// A file that went into a set, or came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CardFile {
    /// Path as in the settings.
    pub path: PathBuf,
    /// Size as stored.
    pub bytes: u64,
    /// Hash (hex) of the bytes as stored.
    pub blake3: String,
}

/// Candidates per list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ListLengths {
    /// Shortest list.
    pub min: usize,
    /// Longest list.
    pub max: usize,
    /// Mean.
    pub mean: f64,
}

/// Everything known about a prepared set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Layout version.
    pub format_version: u32,
    /// Name in the experiment.
    pub name: String,
    /// Version of the program.
    pub made_by: String,
    /// Settings it was made with; None for sets written from samples.
    pub config: Option<RankingSetConfig>,
    /// What was read, kept and dropped.
    pub report: SetReport,
    /// Files read.
    pub inputs: Vec<CardFile>,
    /// Hash (hex) of settings, inputs and code version: equal hash, equal samples.
    pub content_hash: String,
    /// The samples' file.
    pub samples: CardFile,
    /// Candidates per list.
    pub candidates: ListLengths,
    /// Lists with a target order.
    pub with_target: u64,
    /// Candidates with a label.
    pub labelled: u64,
}

/// Counts taken while samples go by.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) lists: u64,
    passages: u64,
    min: usize,
    max: usize,
    pub(super) with_target: u64,
    pub(super) labelled: u64,
}

impl Tally {
    pub(super) fn add(&mut self, sample: &RankingSample) {
        let n = sample.passages.len();
        self.min = if self.lists == 0 { n } else { self.min.min(n) };
        self.max = self.max.max(n);
        self.lists += 1;
        self.passages += n as u64;
        self.with_target += u64::from(sample.target.is_some());
        self.labelled += sample.passages.iter().filter(|passage| passage.label.is_some()).count() as u64;
    }

    pub(super) fn lengths(&self) -> ListLengths {
        let mean = if self.lists == 0 { 0.0 } else { self.passages as f64 / self.lists as f64 };
        ListLengths { min: self.min, max: self.max, mean }
    }
}

/// Hash (hex) of everything that decides a set's samples: settings, bytes of all files, code version.
pub fn content_hash(config: &RankingSetConfig) -> Result<String, DataError> {
    Ok(hash_of_inputs(config, &hash_inputs(config)?))
}

pub(super) fn hash_inputs(config: &RankingSetConfig) -> Result<Vec<CardFile>, DataError> {
    config.files().iter().map(|path| hash_file(path)).collect()
}

pub(super) fn hash_of_inputs(config: &RankingSetConfig, inputs: &[CardFile]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("monopass data {} {FORMAT_VERSION}\n", env!("CARGO_PKG_VERSION")).as_bytes());
    // Where the files lie does not matter, what is in them does.
    let mut without_paths = config.clone();
    without_paths.paths_mut().into_iter().for_each(|path| *path = PathBuf::new());
    hasher.update(serde_json::to_string(&without_paths).unwrap_or_default().as_bytes());
    for input in inputs {
        hasher.update(input.blake3.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// Size and hash of a file, read in pieces.
pub(super) fn hash_file(path: &Path) -> Result<CardFile, DataError> {
    let mut file = std::fs::File::open(path).map_err(DataError::io(path))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer).map_err(DataError::io(path))? {
            0 => break,
            read => {
                hasher.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
    Ok(CardFile { path: path.to_owned(), bytes, blake3: hasher.finalize().to_hex().to_string() })
}

impl Card {
    /// The card as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n\n", self.name);
        let lengths = self.candidates;
        let _ = writeln!(text, "- source: {}", self.report.source);
        let _ = writeln!(text, "- lists: {} kept of {} read", self.report.kept, self.report.read);
        let _ = writeln!(text, "- candidates per list: {} to {}, mean {:.1}", lengths.min, lengths.max, lengths.mean);
        let _ = writeln!(text, "- lists with a target order: {}", self.with_target);
        let _ = writeln!(text, "- candidates with a label: {}", self.labelled);
        let _ = writeln!(text, "- content hash: `{}`", self.content_hash);
        let _ = writeln!(text, "- made by: {}", self.made_by);
        if !self.report.dropped.is_empty() {
            text.push_str("\n## Left out\n\n| reason | lists |\n| --- | --- |\n");
            for (reason, count) in &self.report.dropped {
                let _ = writeln!(text, "| {reason} | {count} |");
            }
        }
        if !self.report.notes.is_empty() {
            text.push_str("\n## Noted\n\n| what | count |\n| --- | --- |\n");
            for (what, count) in &self.report.notes {
                let _ = writeln!(text, "| {what} | {count} |");
            }
        }
        if !self.report.malformed.is_empty() {
            text.push_str("\n## First malformed rows\n\n");
            for row in &self.report.malformed {
                let _ = writeln!(text, "- {row}");
            }
        }
        if !self.inputs.is_empty() {
            text.push_str("\n## Read from\n\n| file | bytes | blake3 |\n| --- | --- | --- |\n");
            for input in &self.inputs {
                let _ = writeln!(text, "| {} | {} | `{}` |", input.path.display(), input.bytes, input.blake3);
            }
        }
        text
    }
}
