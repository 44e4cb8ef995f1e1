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

/// One rank's part of the optimiser's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The rank, from 0.
    pub rank: usize,
    /// Ranks.
    pub world_size: usize,
}

impl Share {
    fn file(self) -> String {
        format!("optimizer-{:05}-of-{:05}.safetensors", self.rank + 1, self.world_size)
    }

    /// What the manifest will say of the file; read and removed by [`finish`].
    fn entry_file(self) -> String {
        format!("{}.json", self.file())
    }
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
    let needed = needed_bytes(content.weights.iter().chain(content.optimizer));
    begin_with(folder, content.state.step, needed, &free_bytes)?;
    end(folder, content, &[], keep, needed, &free_bytes)
}

/// Makes room for the parts of a checkpoint of `needed` bytes of tensors. For rank 0, when several ranks write.
///
/// # Errors
/// As [`save`].
pub fn begin(folder: &Path, step: u64, needed: u64) -> Result<(), TrainError> {
    begin_with(folder, step, needed + SPARE_BYTES, &free_bytes)
}

fn begin_with(
    folder: &Path,
    step: u64,
    needed: u64,
    free_bytes: &dyn Fn(&Path) -> Option<u64>,
) -> Result<(), TrainError> {
    fs::create_dir_all(folder).map_err(TrainError::io("create", folder))?;
    remove_unfinished(folder)?;
    if let Some(free) = free_bytes(folder).filter(|free| *free < needed) {
        return Err(disk_full(folder, free, needed));
    }
    let temporary = temporary(folder, step);
    fs::create_dir(&temporary).map_err(TrainError::io("create", &temporary))
}

/// Writes this rank's part of the optimiser's state, after [`begin`].
///
/// # Errors
/// As [`save`].
pub fn write_share(folder: &Path, step: u64, share: Share, tensors: &[(String, Tensor)]) -> Result<(), TrainError> {
    let temporary = temporary(folder, step);
    let name = share.file();
    let written = write_tensors(&temporary.join(&name), tensors).and_then(|(bytes, blake3)| {
        // Others take the entry for the sign that the share is whole, so it appears in one step.
        let partial = format!("{}.partial", share.entry_file());
        write_json(&temporary, &partial, &ManifestEntry { name, bytes, blake3 })?;
        let (from, to) = (temporary.join(partial), temporary.join(share.entry_file()));
        fs::rename(&from, &to).map_err(TrainError::io("rename", &from))
    });
    written.map_err(|error| explain(error, folder, needed_bytes(tensors.iter()), &free_bytes))
}

/// Whether a rank's part, of [`write_share`], is whole on the disk.
pub fn share_is_there(folder: &Path, step: u64, share: Share) -> bool {
    temporary(folder, step).join(share.entry_file()).exists()
}

/// Completes a checkpoint whose parts all ranks have written: weights, state and manifest, then the rename. For rank 0.
///
/// # Errors
/// As [`save`].
pub fn finish(folder: &Path, content: &Content<'_>, world_size: usize, keep: usize) -> Result<PathBuf, TrainError> {
    let shares: Vec<Share> = (0..world_size).map(|rank| Share { rank, world_size }).collect();
    let needed = needed_bytes(content.weights.iter());
    end(folder, content, &shares, keep, needed, &free_bytes)
}

/// Everything after the parts; without `shares` the optimiser's one file is written here.
fn end(
    folder: &Path,
    content: &Content<'_>,
    shares: &[Share],
    keep: usize,
    needed: u64,
    free_bytes: &dyn Fn(&Path) -> Option<u64>,
) -> Result<PathBuf, TrainError> {
    let temporary = temporary(folder, content.state.step);
    let path = folder.join(super::folder_name(content.state.step));
    let written = write_all(&temporary, content, shares).and_then(|()| move_into_place(&temporary, &path));
    if let Err(error) = written {
        abandon(folder, content.state.step);
        return Err(explain(error, folder, needed, free_bytes));
    }
    sync_folder(folder)?;
    // A later one is damaged: the run would have gone on from it.
    let (later, others): (Vec<_>, Vec<_>) =
        super::list(folder)?.into_iter().partition(|(step, _)| *step > content.state.step);
    for (_, old) in later.into_iter().chain(others.into_iter().skip(keep.max(1))) {
        fs::remove_dir_all(&old).map_err(TrainError::io("remove", &old))?;
    }
    Ok(path)
}

/// Removes the parts of a checkpoint that will not be finished. What cannot be removed now is removed by the next run.
pub(crate) fn abandon(folder: &Path, step: u64) {
    let _ = fs::remove_dir_all(temporary(folder, step));
}

fn temporary(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("{TEMPORARY_PREFIX}{}", super::folder_name(step)))
}

fn disk_full(folder: &Path, free: u64, needed: u64) -> TrainError {
    TrainError::DiskFull {
        path: folder.to_path_buf(),
        free_mib: free / BYTES_PER_MIB,
        needed_mib: needed.div_ceil(BYTES_PER_MIB),
    }
}

/// A disk that became full on the way, in the words of one that was.
fn explain(error: TrainError, folder: &Path, needed: u64, free_bytes: &dyn Fn(&Path) -> Option<u64>) -> TrainError {
    match error {
        TrainError::Io { ref source, .. } if source.kind() == ErrorKind::StorageFull => {
            disk_full(folder, free_bytes(folder).unwrap_or(0), needed)
        }
        other => other,
    }
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

fn write_all(temporary: &Path, content: &Content<'_>, shares: &[Share]) -> Result<(), TrainError> {
    let mut files = Vec::new();
    let mut write = |name: &str, tensors| -> Result<(), TrainError> {
        let (bytes, blake3) = write_tensors(&temporary.join(name), tensors)?;
        files.push(ManifestEntry { name: name.to_owned(), bytes, blake3 });
        Ok(())
    };
    write(WEIGHTS, content.weights)?;
    if shares.is_empty() {
        write(OPTIMIZER, content.optimizer)?;
    }
    for share in shares {
        let path = temporary.join(share.entry_file());
        let text = fs::read_to_string(&path).map_err(TrainError::io("read", &path))?;
        let damaged = |problem: String| TrainError::DamagedCheckpoint { path: path.clone(), problem };
        files.push(serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?);
        fs::remove_file(&path).map_err(TrainError::io("remove", &path))?;
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

fn needed_bytes<'a>(tensors: impl Iterator<Item = &'a (String, Tensor)>) -> u64 {
    tensors.map(|(_, tensor)| bytes_of(tensor)).sum::<u64>() + SPARE_BYTES
}

/// Bytes of a tensor in a file.
pub(crate) fn bytes_of(tensor: &Tensor) -> u64 {
    (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64
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
    fn a_damaged_later_one_does_not_push_the_new_one_out() {
        let folder = tempfile::tempdir().unwrap();
        for step in [4, 6] {
            save_at(folder.path(), step, None).unwrap();
        }
        fs::write(folder.path().join("step-00000006/state.json"), "{").unwrap();
        assert_eq!(find_latest(folder.path()).unwrap().unwrap().state.step, 4);
        save_at(folder.path(), 5, None).unwrap();
        let steps: Vec<u64> = list(folder.path()).unwrap().into_iter().map(|(step, _)| step).collect();
        assert_eq!(steps, [5, 4]);
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
