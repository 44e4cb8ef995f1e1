//! A set dealt out over ranks: what is whose, and where each keeps its lines until they become one file.

use std::path::{Path, PathBuf};

use crate::EvaluatorError;

/// Which queries or texts are a rank's: every `world_size`-th one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankShare {
    /// This rank, from 0.
    pub rank: usize,
    /// Ranks.
    pub world_size: usize,
}

impl RankShare {
    /// This rank's places of `count`.
    pub(crate) fn of(self, count: usize) -> impl Iterator<Item = usize> {
        (self.rank..count).step_by(self.world_size)
    }

    /// Where this rank's lines are kept until they are merged.
    pub(crate) fn part(self, predictions: &Path) -> PathBuf {
        let mut name = predictions.file_name().unwrap_or_default().to_owned();
        name.push(format!(".rank-{}", self.rank));
        predictions.with_file_name(name)
    }
}

/// The parts beside a file, of whatever number of ranks.
///
/// # Errors
/// The folder cannot be read.
pub fn parts(predictions: &Path) -> Result<Vec<PathBuf>, EvaluatorError> {
    let (Some(folder), Some(name)) = (predictions.parent(), predictions.file_name()) else { return Ok(Vec::new()) };
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let prefix = format!("{}.rank-", name.to_string_lossy());
    let io = |source| EvaluatorError::Io { path: folder.to_owned(), source };
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            parts.push(entry.path());
        }
    }
    parts.sort();
    Ok(parts)
}
