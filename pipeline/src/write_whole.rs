//! Files appear whole or not at all.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

/// Writes `bytes` beside `path`, makes sure they are on the disk, and renames.
///
/// # Errors
/// When the folder is not writable or the disk is full; what stood there before is untouched.
pub fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        let file = file.persist(path).map_err(|error| error.error)?;
        drop(file);
        fs::File::open(folder)?.sync_all()
    };
    write().with_context(|| format!("cannot write `{}`", path.display()))
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
