//! Finding a whole checkpoint and reading it.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use tch::Tensor;

use super::tensor_file::{read_into, read_overlaps};
use super::{CONFIG, MANIFEST, Manifest, OPTIMIZER, STATE, TrainerState, WEIGHTS};
use crate::TrainError;
use crate::config::TrainConfig;

/// A checkpoint whose files match its manifest.
#[derive(Debug)]
pub struct Found {
    /// Its folder.
    pub path: PathBuf,
    /// Where the run stood.
    pub state: TrainerState,
    /// Settings it was trained with.
    pub config: serde_json::Value,
    /// Newer ones that were damaged, and how.
    pub damaged: Vec<String>,
}

/// The newest checkpoint of `folder` that is whole. Damaged ones are named in a warning and passed over. None when there are
/// no checkpoints.
///
/// # Errors
/// [`TrainError::NoUsableCheckpoint`] when all are damaged.
pub fn find_latest(folder: &Path) -> Result<Option<Found>, TrainError> {
    let mut damaged = Vec::new();
    for (_, path) in super::list(folder)? {
        match verify(&path) {
            Ok((state, config)) => return Ok(Some(Found { path, state, config, damaged })),
            Err(error) => {
                tracing::warn!("{error}; trying the one before");
                damaged.push(error.to_string());
            }
        }
    }
    if damaged.is_empty() {
        return Ok(None);
    }
    Err(TrainError::NoUsableCheckpoint { folder: folder.to_path_buf(), tried: damaged })
}

impl Found {
    /// The settings it was trained with, those that came later at their defaults.
    ///
    /// # Errors
    /// They are none of this program's.
    pub fn settings(&self) -> Result<TrainConfig, TrainError> {
        serde_json::from_value(self.config.clone()).map_err(|error| TrainError::DamagedCheckpoint {
            path: self.path.clone(),
            problem: format!("`{CONFIG}`: {error}"),
        })
    }

    /// Reads weights and optimiser state into their places.
    ///
    /// # Errors
    /// The tensors are not those of this model.
    pub fn load(&self, weights: &[(String, Tensor)], optimizer: &[(String, Tensor)]) -> Result<(), TrainError> {
        self.load_weights(weights)?;
        load_optimizer(&self.path, optimizer)
    }

    /// Reads the weights into their places.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_weights(&self, weights: &[(String, Tensor)]) -> Result<(), TrainError> {
        read_into(&self.path.join(WEIGHTS), weights)
    }
}

/// Reads optimiser state, or a rank's share of it, into its place, in whatever shares the checkpoint in `path` holds it.
///
/// # Errors
/// The tensors are not those of this model.
pub fn load_optimizer(path: &Path, wanted: &[(String, Tensor)]) -> Result<(), TrainError> {
    let manifest: Manifest = read_json(path, MANIFEST)?;
    let files: Vec<PathBuf> = manifest.optimizer_files().map(|name| path.join(name)).collect();
    let whole = wanted.iter().all(|(name, _)| !name.contains('@'));
    match &files[..] {
        [file] if whole && file.ends_with(OPTIMIZER) => read_into(file, wanted),
        files => read_overlaps(files, wanted),
    }
}

impl Manifest {
    fn optimizer_files(&self) -> impl Iterator<Item = &str> {
        let names = self.files.iter().map(|file| file.name.as_str());
        names.filter(|name| name.starts_with("optimizer") && name.ends_with(".safetensors"))
    }
}

/// Where the run stood at a checkpoint and with which settings, once all its files match the manifest.
///
/// # Errors
/// [`TrainError::DamagedCheckpoint`], with what is wrong.
pub fn verify(path: &Path) -> Result<(TrainerState, serde_json::Value), TrainError> {
    let damaged = |problem: String| TrainError::DamagedCheckpoint { path: path.to_path_buf(), problem };
    let manifest: Manifest = read_json(path, MANIFEST)?;
    for wanted in [WEIGHTS, STATE, CONFIG] {
        if !manifest.files.iter().any(|file| file.name == wanted) {
            return Err(damaged(format!("`{MANIFEST}` does not list `{wanted}`")));
        }
    }
    if manifest.optimizer_files().next().is_none() {
        return Err(damaged(format!("`{MANIFEST}` does not list `{OPTIMIZER}` or parts of it")));
    }
    for file in &manifest.files {
        let (bytes, hash) =
            hash_file(&path.join(&file.name)).map_err(|error| damaged(format!("`{}`: {error}", file.name)))?;
        if bytes != file.bytes {
            return Err(damaged(format!("`{}` has {bytes} bytes, wanted {}", file.name, file.bytes)));
        }
        if hash != file.blake3 {
            return Err(damaged(format!("`{}` does not match its checksum", file.name)));
        }
    }
    Ok((read_json(path, STATE)?, read_json(path, CONFIG)?))
}

fn read_json<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<T, TrainError> {
    let damaged = |problem: String| TrainError::DamagedCheckpoint { path: folder.to_path_buf(), problem };
    let text = fs::read_to_string(folder.join(name)).map_err(|error| damaged(format!("`{name}`: {error}")))?;
    serde_json::from_str(&text).map_err(|error| damaged(format!("`{name}`: {error}")))
}

fn hash_file(path: &Path) -> std::io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((bytes, hasher.finalize().to_hex().to_string()));
        }
        bytes += read as u64;
        hasher.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::write::tests::{save_at, state};
    use super::*;

    #[test]
    fn a_damaged_checkpoint_is_named_and_the_one_before_used() {
        let folder = tempfile::tempdir().unwrap();
        assert!(find_latest(folder.path()).unwrap().is_none());
        save_at(folder.path(), 1, None).unwrap();
        let newest = save_at(folder.path(), 2, None).unwrap();
        assert_eq!(find_latest(folder.path()).unwrap().unwrap().state, state(2));

        let file = newest.join(WEIGHTS);
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&file, &bytes).unwrap();
        let found = find_latest(folder.path()).unwrap().unwrap();
        assert_eq!(found.state, state(1));
        assert!(found.damaged[0].contains("step-00000002"), "{:?}", found.damaged);
        assert!(found.damaged[0].contains("`weights.safetensors` does not match its checksum"), "{:?}", found.damaged);

        bytes.truncate(20);
        fs::write(&file, &bytes).unwrap();
        let found = find_latest(folder.path()).unwrap().unwrap();
        assert!(found.damaged[0].contains("has 20 bytes"), "{:?}", found.damaged);

        fs::remove_file(folder.path().join("step-00000001").join(MANIFEST)).unwrap();
        let error = find_latest(folder.path()).unwrap_err().to_string();
        assert!(error.contains("step-00000001") && error.contains("step-00000002"), "{error}");
    }
}
