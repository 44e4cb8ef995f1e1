//! What a prepared set is.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{CARD_FILE, FORMAT_VERSION};
use crate::DataError;
use crate::report::SetReport;
use crate::sources::RankingSetConfig;

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

/// Candidates of lists, or branches of texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ListLengths {
    /// Fewest.
    pub min: usize,
    /// Most.
    pub max: usize,
    /// Mean.
    pub mean: f64,
}

/// What a set of candidate lists holds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ListCounts {
    /// Candidates per list.
    pub candidates: ListLengths,
    /// Lists with a target order.
    pub with_target: u64,
    /// Candidates with a label.
    pub labelled: u64,
}

/// What a set of branched texts holds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TextCounts {
    /// Branches per text.
    pub branches: ListLengths,
    /// Branches with an answer.
    pub answered: u64,
}

/// What a set holds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Counts {
    /// Candidate lists.
    Lists(ListCounts),
    /// Branched texts.
    Texts(TextCounts),
}

impl Counts {
    /// In words: name and figure.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let lengths = |l: &ListLengths| format!("{} to {}, mean {:.1}", l.min, l.max, l.mean);
        match self {
            Self::Lists(lists) => vec![
                ("candidates per list", lengths(&lists.candidates)),
                ("lists with a target order", lists.with_target.to_string()),
                ("candidates with a label", lists.labelled.to_string()),
            ],
            Self::Texts(texts) => vec![
                ("branches per text", lengths(&texts.branches)),
                ("branches with an answer", texts.answered.to_string()),
            ],
        }
    }

    /// What its rows are called.
    #[must_use]
    pub fn rows(&self) -> &'static str {
        match self {
            Self::Lists(_) => "lists",
            Self::Texts(_) => "texts",
        }
    }
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
    pub config: Option<serde_json::Value>,
    /// What was read, kept and dropped.
    pub report: SetReport,
    /// Files read.
    pub inputs: Vec<CardFile>,
    /// Hash (hex) of settings, inputs and code version: equal hash, equal samples.
    pub content_hash: String,
    /// The samples' file.
    pub samples: CardFile,
    /// What its rows hold.
    #[serde(flatten)]
    pub counts: Counts,
}

/// Hash (hex) of everything that decides a set's samples: settings, bytes of all files, code version.
pub fn content_hash(config: &RankingSetConfig) -> Result<String, DataError> {
    Ok(hash_of_inputs(&without_paths(config), config.version(), &hash_inputs(&config.files())?))
}

/// The settings without paths: where the files lie does not matter, what is in them does.
pub(super) fn without_paths(config: &RankingSetConfig) -> RankingSetConfig {
    let mut config = config.clone();
    config.paths_mut().into_iter().for_each(|path| *path = PathBuf::new());
    config
}

pub(super) fn hash_inputs(files: &[PathBuf]) -> Result<Vec<CardFile>, DataError> {
    files.iter().map(|path| hash_file(path)).collect()
}

/// `version` is the source's: [`RankingSetConfig::version`], [`BranchedSetConfig::version`](crate::branched::BranchedSetConfig::version).
pub(super) fn hash_of_inputs(settings: &impl Serialize, version: u32, inputs: &[CardFile]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("monopass data {} {FORMAT_VERSION}\n", env!("CARGO_PKG_VERSION")).as_bytes());
    hasher.update(serde_json::to_string(settings).unwrap_or_default().as_bytes());
    if version > 1 {
        hasher.update(&version.to_le_bytes());
    }
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
    /// The card in a set's folder; the samples are not looked at.
    ///
    /// # Errors
    /// A missing or malformed card, or one of another layout version.
    pub fn read(folder: &Path) -> Result<Self, DataError> {
        let path = folder.join(CARD_FILE);
        let bytes = std::fs::read(&path).map_err(DataError::io(&path))?;
        let damaged = |message: String| DataError::Prepared { path: folder.to_owned(), message };
        let card: Self =
            serde_json::from_slice(&bytes).map_err(|error| damaged(format!("`{CARD_FILE}` is malformed: {error}")))?;
        if card.format_version != FORMAT_VERSION {
            let version = card.format_version;
            return Err(damaged(format!("its layout is version {version}, this program reads {FORMAT_VERSION}")));
        }
        Ok(card)
    }

    /// The card as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n\n", self.name);
        let rows = self.counts.rows();
        let _ = writeln!(text, "- source: {}", self.report.source);
        let _ = writeln!(text, "- {rows}: {} kept of {} read", self.report.kept, self.report.read);
        for (name, figure) in self.counts.facts() {
            let _ = writeln!(text, "- {name}: {figure}");
        }
        let _ = writeln!(text, "- content hash: `{}`", self.content_hash);
        let _ = writeln!(text, "- made by: {}", self.made_by);
        if !self.report.dropped.is_empty() {
            text.push_str("\n## Left out\n\n");
            let _ = writeln!(text, "| reason | {rows} |\n| --- | --- |");
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
