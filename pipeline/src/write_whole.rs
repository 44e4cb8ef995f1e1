//! Files appear whole or not at all.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// Writes `bytes` beside `path`, makes sure they are on the disk, and renames.
///
/// # Errors
/// When the folder is not writable or the disk is full; what stood there before is untouched.
pub fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    }
    Ok(data::files::write_whole(path, bytes)?)
}

/// What [`write_json`] wrote.
///
/// # Errors
/// When the file cannot be read or holds something else.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("`{}` is damaged", path.display()))
}

/// As [`write_whole`], as indented JSON.
///
/// # Errors
/// As [`write_whole`].
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text =
        serde_json::to_string_pretty(value).with_context(|| format!("cannot encode `{}`", path.display()))?;
    text.push('\n');
    write_whole(path, text.as_bytes())
}
