//! Stamps: what a finished stage was made from, so that it is not made again.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::write_whole::write_json;

/// Raised when a stage's output changes for the same inputs.
pub const STAGE_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "/1");

/// Hash of every input of a stage, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inputs(pub BTreeMap<String, String>);

impl Inputs {
    /// Only the program's own version.
    #[must_use]
    pub fn new() -> Self {
        Self(BTreeMap::from([("program".to_owned(), STAGE_VERSION.to_owned())]))
    }

    /// A part of the settings.
    pub fn settings(&mut self, name: &str, value: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string(value).with_context(|| format!("cannot encode `{name}`"))?;
        self.0.insert(name.to_owned(), blake3::hash(text.as_bytes()).to_hex().to_string());
        Ok(())
    }

    /// A hash made elsewhere.
    pub fn hash(&mut self, name: &str, hash: impl Into<String>) {
        self.0.insert(name.to_owned(), hash.into());
    }

    /// The content of a file, or of all files of a folder.
    pub fn path(&mut self, name: &str, path: &Path) -> anyhow::Result<()> {
        self.0.insert(name.to_owned(), hash_path(path)?);
        Ok(())
    }

    /// The names, sizes and times of a folder's files: of models, which are too large to read for it.
    pub fn listing(&mut self, name: &str, folder: &Path) -> anyhow::Result<()> {
        let listed = || format!("cannot list `{}`", folder.display());
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).with_context(listed)? {
            let entry = entry.with_context(listed)?;
            // a link to nothing is no reason to refuse the folder
            let metadata = fs::metadata(entry.path()).or_else(|_| entry.metadata()).with_context(listed)?;
            let changed = metadata.modified().with_context(listed)?.duration_since(UNIX_EPOCH).unwrap_or_default();
            files.push((entry.file_name().to_string_lossy().into_owned(), metadata.len(), changed));
        }
        files.sort();
        self.settings(name, &files)
    }

    /// One hash over all.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for (name, hash) in &self.0 {
            hasher.update(name.as_bytes()).update(b"=").update(hash.as_bytes()).update(b"\n");
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// Why a stage has to be done, or that it has not.
#[derive(Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Made from the same inputs, and its outputs are there.
    Fresh,
    /// Never finished.
    New,
    /// These inputs changed.
    Changed(Vec<String>),
    /// This output is gone.
    Missing(PathBuf),
}

/// A stage's stamp on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Stamp {
    inputs: Inputs,
    outputs: Vec<PathBuf>,
    digest: String,
}

/// Compares `inputs` with the stamp at `path`.
pub fn freshness(path: &Path, inputs: &Inputs) -> Freshness {
    let stamp = fs::read_to_string(path).ok().and_then(|text| serde_json::from_str::<Stamp>(&text).ok());
    let Some(stamp) = stamp else {
        return Freshness::New;
    };
    let names = inputs.0.keys().chain(stamp.inputs.0.keys());
    let mut changed: Vec<String> =
        names.filter(|name| inputs.0.get(*name) != stamp.inputs.0.get(*name)).cloned().collect();
    changed.sort();
    changed.dedup();
    if !changed.is_empty() {
        return Freshness::Changed(changed);
    }
    match stamp.outputs.iter().find(|output| !output.exists()) {
        Some(output) => Freshness::Missing(output.clone()),
        None => Freshness::Fresh,
    }
}

/// Which of these inputs a finished stage was not made from; none where it never finished.
pub fn changed(path: &Path, inputs: &Inputs) -> Vec<String> {
    let stamp = fs::read_to_string(path).ok().and_then(|text| serde_json::from_str::<Stamp>(&text).ok());
    let Some(stamp) = stamp else { return Vec::new() };
    inputs
        .0
        .iter()
        .filter(|(name, hash)| stamp.inputs.0.get(*name) != Some(hash))
        .map(|(name, _)| name.clone())
        .collect()
}

/// Marks a stage as done.
///
/// # Errors
/// When the stamp cannot be written.
pub fn write(path: &Path, inputs: &Inputs, outputs: &[PathBuf]) -> anyhow::Result<()> {
    write_json(path, &Stamp { inputs: inputs.clone(), outputs: outputs.to_vec(), digest: inputs.digest() })
}

/// Takes a stamp away before its stage is done again.
pub fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

/// Hash of a file's bytes, or of all files below a folder with their names.
///
/// # Errors
/// When something cannot be read.
pub fn hash_path(path: &Path) -> anyhow::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let metadata = fs::metadata(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    if metadata.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
            .with_context(|| format!("cannot list `{}`", path.display()))?;
        entries.sort();
        for entry in entries {
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            hasher.update(name.as_bytes()).update(hash_path(&entry)?.as_bytes());
        }
    } else {
        let mut file = fs::File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut buffer).with_context(|| format!("cannot read `{}`", path.display()))?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_fresh_until_an_input_or_output_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (stamp, output) = (folder.path().join("stamps/a.json"), folder.path().join("out"));
        let mut inputs = Inputs::new();
        inputs.settings("data", &[1, 2]).unwrap();
        assert_eq!(freshness(&stamp, &inputs), Freshness::New);
        fs::write(&output, "x").unwrap();
        write(&stamp, &inputs, std::slice::from_ref(&output)).unwrap();
        assert_eq!(freshness(&stamp, &inputs), Freshness::Fresh);
        inputs.settings("data", &[1, 3]).unwrap();
        assert_eq!(freshness(&stamp, &inputs), Freshness::Changed(vec!["data".into()]));
        inputs.settings("data", &[1, 2]).unwrap();
        fs::remove_file(&output).unwrap();
        assert_eq!(freshness(&stamp, &inputs), Freshness::Missing(output));
    }

    #[test]
    fn folders_hash_names_and_contents() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "1").unwrap();
        let before = hash_path(folder.path()).unwrap();
        fs::rename(folder.path().join("a"), folder.path().join("b")).unwrap();
        assert_ne!(before, hash_path(folder.path()).unwrap());
    }
}
