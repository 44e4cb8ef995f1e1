//! Checkpoints: folders that are whole or absent.
//!
//! `checkpoints/step-00000100/` holds
//! - `weights.safetensors`: trainable weights by name, in the model's kind;
//! - `optimizer.safetensors`: `master.*`, `exp_avg.*`, `exp_avg_sq.*`; where ranks hold shares of them, a file a rank
//!   (`optimizer-00001-of-00002.safetensors`) of flat tensors whose names end in `@` and their first element;
//! - `state.json`: where the run stands ([`TrainerState`]);
//! - `config.json`: the resolved settings;
//! - `manifest.json`: size and BLAKE3 of each of the above, written last.
//!
//! It is written under a temporary name beside its own, synced, and renamed in one step. Random state needs no file: every
//! seed is a function of (run seed, step, rank, micro-batch); see [`crate::seeds`].

mod read;
mod tensor_file;
mod write;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::TrainError;

pub use read::{Found, find_latest, load_optimizer, verify};
pub use tensor_file::{read_into, read_overlaps, write_tensors};
pub use write::{Content, Share, begin, finish, save, share_is_there, write_share};
pub(crate) use write::{abandon, bytes_of};

const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
const MANIFEST: &str = "manifest.json";
const PREFIX: &str = "step-";
const TEMPORARY_PREFIX: &str = ".unfinished-";

/// Where a run stands between two optimiser steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// Layout of the checkpoint; 1.
    pub format: u32,
    /// Optimiser steps done, skipped ones included: also the data cursor, since the order of samples is a function of
    /// (seed, epoch, step, rank, world size).
    pub step: u64,
    /// Epoch of the last step done.
    pub epoch: u64,
    /// Updates made (AdamW's bias correction counts them).
    pub updates: i64,
    /// Steps skipped because loss or gradient was not finite.
    pub skipped_steps: u64,
    /// Samples seen over all ranks.
    pub samples: u64,
    /// Tokens read over all ranks.
    pub tokens: u64,
    /// Seconds of training so far, over all sessions.
    pub seconds: f64,
    /// Loss of the last step.
    pub last_loss: Option<f64>,
    /// Seed of the run.
    pub seed: u64,
    /// Steps planned.
    pub num_steps: u64,
    /// Processes.
    pub world_size: usize,
    /// What the stage was trained on (content hash).
    pub data_fingerprint: String,
}

/// Sizes and checksums of a checkpoint's files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    files: Vec<ManifestEntry>,
}

/// One file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestEntry {
    name: String,
    bytes: u64,
    blake3: String,
}

/// Steps of the checkpoints in `folder`, newest first; whether they are whole is not looked at. An absent folder has none.
///
/// # Errors
/// The folder cannot be read.
pub fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>, TrainError> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(TrainError::io("read", folder))? {
        let entry = entry.map_err(TrainError::io("read", folder))?;
        let step = entry.file_name().to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
        if let Some(step) = step {
            found.push((step, entry.path()));
        }
    }
    found.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
    Ok(found)
}

pub(crate) fn folder_name(step: u64) -> String {
    format!("{PREFIX}{step:08}")
}
