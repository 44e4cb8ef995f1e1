//! Files that are there whole or not at all: written beside their final name, flushed to disk, then renamed.

use std::fs::{File, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::ModelError;

/// A file being written; dropping it leaves what stood at its name untouched.
#[derive(Debug)]
pub struct PendingFile {
    writer: BufWriter<NamedTempFile>,
    target: PathBuf,
}

impl PendingFile {
    /// Opens a temporary file beside `target`; makes the folder.
    pub fn create(target: &Path) -> Result<Self, ModelError> {
        let folder = parent(target);
        let open = || {
            std::fs::create_dir_all(folder)?;
            let mut builder = tempfile::Builder::new();
            // the process's umask applies, as for any other file
            builder.prefix(".writing-").permissions(Permissions::from_mode(0o666)).tempfile_in(folder)
        };
        let file = open().map_err(|source| ModelError::Write { path: target.into(), source })?;
        Ok(Self { writer: BufWriter::with_capacity(1 << 20, file), target: target.into() })
    }

    /// Appends.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ModelError> {
        self.writer.write_all(bytes).map_err(|source| ModelError::Write { path: self.target.clone(), source })
    }

    /// Flushes to disk; a full disk shows here at the latest.
    pub fn flush(&mut self) -> Result<(), ModelError> {
        let flush = |writer: &mut BufWriter<NamedTempFile>| {
            writer.flush()?;
            writer.get_ref().as_file().sync_all()
        };
        flush(&mut self.writer).map_err(|source| ModelError::Write { path: self.target.clone(), source })
    }

    /// Flushes and takes the final name.
    pub fn finish(mut self) -> Result<(), ModelError> {
        self.flush()?;
        let target = self.target;
        let failed = |source: std::io::Error| ModelError::Write { path: target.clone(), source };
        let file = self.writer.into_inner().map_err(|error| failed(error.into_error()))?;
        file.persist(&target).map_err(|error| failed(error.error))?;
        // the rename itself must survive a power cut
        File::open(parent(&target)).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

/// Writes one small file whole.
pub fn write(target: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let mut file = PendingFile::create(target)?;
    file.write(bytes)?;
    file.finish()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.json");
        write(&target, b"old").unwrap();
        let mut pending = PendingFile::create(&target).unwrap();
        pending.write(b"new").unwrap();
        drop(pending);
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn errors_name_the_file() {
        let error = write(Path::new("/proc/no/such/file"), b"x").unwrap_err().to_string();
        assert!(error.starts_with("cannot write `/proc/no/such/file`"), "{error}");
    }
}
