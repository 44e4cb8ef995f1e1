//! Opening (gzip or not), reading line by line with numbers, and writing whole.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::DataError;

/// Opens a file; gzip is recognised by its first two bytes, whatever the name.
pub fn open(path: &Path) -> Result<Box<dyn BufRead + Send>, DataError> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path).map_err(DataError::io(path))?);
    let head = reader.fill_buf().map_err(DataError::io(path))?;
    if head.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(reader))));
    }
    Ok(Box::new(reader))
}

/// Whole content, unpacked.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).map_err(DataError::io(path))?;
    Ok(bytes)
}

/// Calls `each` with the 1-based number and the text of every line that is not blank; a byte order mark and the
/// line's end are taken off. A line that is not UTF-8 is passed as an error text for the caller to count.
pub fn for_each_line(
    path: &Path,
    mut each: impl FnMut(u64, Result<&str, String>) -> Result<std::ops::ControlFlow<()>, DataError>,
) -> Result<(), DataError> {
    let mut reader = open(path)?;
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(DataError::io(path))? == 0 {
            return Ok(());
        }
        number += 1;
        let flow = match std::str::from_utf8(&line) {
            Ok(text) => {
                let text = if number == 1 { text.trim_start_matches('\u{feff}') } else { text };
                let text = text.trim_end_matches(['\n', '\r']);
                if text.trim().is_empty() {
                    continue;
                }
                each(number, Ok(text))?
            }
            Err(error) => each(number, Err(format!("not UTF-8: {error}")))?,
        };
        if flow.is_break() {
            return Ok(());
        }
    }
}

/// Writes a file whole or not at all: temporary beside it, fsync, rename.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), DataError> {
    write_with(path, |file| file.write_all(content).map_err(DataError::write(path)))
}

/// As [`write_whole`], with the content written by `fill`.
pub fn write_with(path: &Path, fill: impl FnOnce(&mut File) -> Result<(), DataError>) -> Result<(), DataError> {
    let folder = parent(path);
    std::fs::create_dir_all(&folder).map_err(DataError::write(&folder))?;
    let mut temporary =
        tempfile::Builder::new().prefix(".writing-").tempfile_in(&folder).map_err(DataError::write(path))?;
    fill(temporary.as_file_mut())?;
    temporary.as_file().sync_all().map_err(DataError::write(path))?;
    readable_by_all(temporary.as_file());
    temporary.persist(path).map_err(|error| DataError::Write { path: path.to_owned(), source: error.error })?;
    sync_folder(&folder);
    Ok(())
}

/// The folder a path lies in.
pub(crate) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Temporary files are made for their owner only; results are for the group as well.
fn readable_by_all(file: &File) {
    use std::os::unix::fs::PermissionsExt;
    // Best effort: a file system without modes keeps what it has.
    let _ = file.set_permissions(std::fs::Permissions::from_mode(0o644));
}

/// Makes a rename durable, where the file system lets a folder be synced.
pub(crate) fn sync_folder(folder: &Path) {
    if let Ok(handle) = File::open(folder) {
        let _ = handle.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::ControlFlow;

    #[test]
    fn gzip_is_transparent_and_lines_are_numbered() {
        let folder = tempfile::tempdir().unwrap();
        let text = "\u{feff}one\r\n\n  \nfour\n";
        let plain = folder.path().join("plain.txt");
        let packed = folder.path().join("packed"); // no .gz in its name
        write_whole(&plain, text.as_bytes()).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        write_whole(&packed, &encoder.finish().unwrap()).unwrap();
        for path in [plain, packed] {
            let mut lines = Vec::new();
            for_each_line(&path, |number, line| {
                lines.push((number, line.unwrap().to_owned()));
                Ok(ControlFlow::Continue(()))
            })
            .unwrap();
            assert_eq!(lines, [(1, "one".to_owned()), (4, "four".to_owned())]);
        }
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_whole(&path, b"old").unwrap();
        let failed = write_with(&path, |file| {
            file.write_all(b"half").unwrap();
            Err(DataError::write(&path)(std::io::Error::other("disk full")))
        });
        assert!(failed.unwrap_err().to_string().contains("disk full"));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_missing_file_is_named() {
        let message = read_bytes(Path::new("no/such/file.jsonl")).unwrap_err().to_string();
        assert!(message.starts_with("cannot read `no/such/file.jsonl`"), "{message}");
    }
}
