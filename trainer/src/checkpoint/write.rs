//! Writing a checkpoint.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tch::Tensor;

use super::tensor_file::write_tensors;
use super::{CONFIG, MANIFEST, Manifest, ManifestEntry, OPTIMIZER, STATE, TEMPORARY_PREFIX, TrainerState, WEIGHTS};
use crate::TrainError;

const BYTES_PER_MIB: u64 = 1 << 20;
/// Headers, JSON files and the file system's own bookkeeping.
const SPARE_BYTES: u64 = 4 * BYTES_PER_MIB;

/// What goes into a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    /// Trainable weights.
    pub weights: &'a [(String, Tensor)],
    /// Masters and moments.
    pub optimizer: &'a [(String, Tensor)],
    /// Where the run stands.
    pub state: &'a TrainerState,
    /// Resolved settings.
    pub config: &'a serde_json::Value,
}

/// Writes a checkpoint into `folder` and removes all but the newest `keep`. Returns its path.
///
/// # Errors
/// [`TrainError::DiskFull`] before or while writing, [`TrainError::Io`] otherwise; nothing half-written stays, and earlier
/// checkpoints are untouched.
pub fn save(folder: &Path, content: &Content<'_>, keep: usize) -> Result<PathBuf, TrainError> {
    save_with(folder, content, keep, free_bytes)
}

fn save_with(
    folder: &Path,
    content: &Content<'_>,
    keep: usize,
    free_bytes: impl Fn(&Path) -> Option<u64>,
) -> Result<PathBuf, TrainError> {
    fs::create_dir_all(folder).map_err(TrainError::io("create", folder))?;
    remove_unfinished(folder)?;
    let needed = needed_bytes(content);
    let disk_full = |free: u64| TrainError::DiskFull {
        path: folder.to_path_buf(),
        free_mib: free / BYTES_PER_MIB,
        needed_mib: needed.div_ceil(BYTES_PER_MIB),
    };
    if let Some(free) = free_bytes(folder).filter(|free| *free < needed) {
        return Err(disk_full(free));
    }
    let name = super::folder_name(content.state.step);
    let temporary = folder.join(format!("{TEMPORARY_PREFIX}{name}"));
    let path = folder.join(&name);
    let written = write_all(&temporary, content).and_then(|()| move_into_place(&temporary, &path));
    if let Err(error) = written {
        // Already failing: what cannot be removed now is removed by the next run.
        let _ = fs::remove_dir_all(&temporary);
        return Err(match error {
            TrainError::Io { ref source, .. } if source.kind() == ErrorKind::StorageFull => {
                disk_full(free_bytes(folder).unwrap_or(0))
            }
            other => other,
        });
    }
    sync_folder(folder)?;
    for (_, old) in super::list(folder)?.into_iter().skip(keep.max(1)) {
        fs::remove_dir_all(&old).map_err(TrainError::io("remove", &old))?;
    }
    Ok(path)
}

/// Removes what a killed run left half-written.
fn remove_unfinished(folder: &Path) -> Result<(), TrainError> {
    for entry in fs::read_dir(folder).map_err(TrainError::io("read", folder))? {
        let path = entry.map_err(TrainError::io("read", folder))?.path();
        let unfinished = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY_PREFIX));
        if unfinished {
            tracing::info!("removing `{}`, left by a run that was killed while saving", path.display());
            fs::remove_dir_all(&path).map_err(TrainError::io("remove", &path))?;
        }
    }
    Ok(())
}

fn write_all(temporary: &Path, content: &Content<'_>) -> Result<(), TrainError> {
    fs::create_dir(temporary).map_err(TrainError::io("create", temporary))?;
    let mut files = Vec::new();
    for (name, tensors) in [(WEIGHTS, content.weights), (OPTIMIZER, content.optimizer)] {
        let (bytes, blake3) = write_tensors(&temporary.join(name), tensors)?;
        files.push(ManifestEntry { name: name.to_owned(), bytes, blake3 });
    }
    files.push(write_json(temporary, STATE, content.state)?);
    files.push(write_json(temporary, CONFIG, content.config)?);
    write_json(temporary, MANIFEST, &Manifest { format: content.state.format, files })?;
    sync_folder(temporary)
}

fn write_json(folder: &Path, name: &str, value: &impl Serialize) -> Result<ManifestEntry, TrainError> {
    let path = folder.join(name);
    let text = serde_json::to_string_pretty(value).expect("plain structs with string keys always serialise") + "\n";
    let mut file = File::create(&path).map_err(TrainError::io("create", &path))?;
    file.write_all(text.as_bytes()).map_err(TrainError::io("write", &path))?;
    file.sync_all().map_err(TrainError::io("sync", &path))?;
    let blake3 = blake3::hash(text.as_bytes()).to_hex().to_string();
    Ok(ManifestEntry { name: name.to_owned(), bytes: text.len() as u64, blake3 })
}

/// Renames in one step; a folder of the same step (saved again after a resume from an earlier one) makes way first.
fn move_into_place(temporary: &Path, path: &Path) -> Result<(), TrainError> {
    if path.exists() {
        fs::remove_dir_all(path).map_err(TrainError::io("remove", path))?;
    }
    fs::rename(temporary, path).map_err(TrainError::io("rename", temporary))
}

/// A rename is durable once its folder is synced.
fn sync_folder(folder: &Path) -> Result<(), TrainError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(TrainError::io("sync", folder))
}

fn needed_bytes(content: &Content<'_>) -> u64 {
    let tensors = content.weights.iter().chain(content.optimizer);
    let bytes: usize = tensors.map(|(_, tensor)| tensor.numel() * tensor.kind().elt_size_in_bytes()).sum();
    bytes as u64 + SPARE_BYTES
}

/// Bytes this user may still write; None where the system does not say.
fn free_bytes(folder: &Path) -> Option<u64> {
    let figures = rustix::fs::statvfs(folder).ok()?;
    Some(figures.f_bavail * figures.f_frsize)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::checkpoint::{find_latest, list};
    use tch::{Device, Kind};

    pub(crate) fn state(step: u64) -> TrainerState {
        TrainerState {
            format: 1,
            step,
            epoch: 0,
            updates: step as i64,
            skipped_steps: 0,
            samples: 0,
            tokens: 0,
            seconds: 0.5,
            last_loss: Some(0.25),
            seed: 1,
            num_steps: 10,
            world_size: 1,
            data_fingerprint: "d".to_owned(),
        }
    }

    pub(crate) fn save_at(folder: &Path, step: u64, free: Option<u64>) -> Result<PathBuf, TrainError> {
        let weights = vec![("w".to_owned(), Tensor::full([8], step as f64, (Kind::Float, Device::Cpu)))];
        let content = Content {
            weights: &weights,
            optimizer: &weights,
            state: &state(step),
            config: &serde_json::json!({"learning_rate": 0.1}),
        };
        save_with(folder, &content, 2, |_| free)
    }

    #[test]
    fn the_newest_are_kept_and_leftovers_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join(".unfinished-step-00000009")).unwrap();
        for step in [1, 2, 3, 3] {
            save_at(folder.path(), step, None).unwrap();
        }
        let steps: Vec<u64> = list(folder.path()).unwrap().into_iter().map(|(step, _)| step).collect();
        assert_eq!(steps, [3, 2]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_full_disk_leaves_the_earlier_checkpoints() {
        let folder = tempfile::tempdir().unwrap();
        save_at(folder.path(), 1, None).unwrap();
        let error = save_at(folder.path(), 2, Some(1 << 20)).unwrap_err().to_string();
        assert!(error.contains("1 MiB free, 5 MiB needed"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(find_latest(folder.path()).unwrap().unwrap().state, state(1));
    }
}
