//! Files of one JSON line a query or text. Append-only, so that a stopped evaluation goes on where it was.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::EvaluatorError;

/// A line of such a file.
pub trait KeptLine: Serialize + DeserializeOwned {
    /// What it depends on: a line of another key is no longer right.
    fn content_key(&self) -> &str;
    /// Query or text that it is of.
    fn id(&self) -> &str;
}

/// Lines by id, and the file that new ones are appended to.
#[derive(Debug)]
pub struct KeptLines<L> {
    lines: HashMap<String, L>,
    file: Option<(PathBuf, File)>,
}

impl<L: KeptLine> KeptLines<L> {
    /// Without lines and without a file.
    pub fn none() -> Self {
        Self { lines: HashMap::new(), file: None }
    }

    /// The lines of a file, which need not exist, that have this key and fit. The file stays as it is.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path, content_key: &str, fits: impl Fn(&L) -> bool) -> Result<Self, EvaluatorError> {
        Ok(Self { lines: fitting(path, content_key, fits)?.0, file: None })
    }

    /// As [`Self::read`], to be added to. Other lines, and a last line that was cut short, are taken out of the file, and counted in the log.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(path: &Path, content_key: &str, fits: impl Fn(&L) -> bool) -> Result<Self, EvaluatorError> {
        let (lines, kept, text) = fitting(path, content_key, fits)?;
        if kept != text {
            let (dropped, left) = (text.lines().count() - kept.lines().count(), lines.len());
            tracing::info!(
                "`{}`: dropped {dropped} lines (of other settings, or cut short), kept {left}",
                path.display()
            );
            data::files::write_whole(path, kept.as_bytes())?;
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(EvaluatorError::write(folder))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(EvaluatorError::write(path))?;
        Ok(Self { lines, file: Some((path.to_owned(), file)) })
    }

    /// The line of an id.
    pub fn get(&self, id: &str) -> Option<&L> {
        self.lines.get(id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Adds a line, to the file first where there is one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&mut self, line: L) -> Result<(), EvaluatorError> {
        if let Some((path, file)) = &mut self.file {
            let json = serde_json::to_string(&line).map_err(|source| EvaluatorError::Json {
                path: path.clone(),
                line: self.lines.len() as u64 + 1,
                source,
            })?;
            // one write, so that a kill leaves a whole line or a cut one, never two mixed
            file.write_all((json + "\n").as_bytes()).map_err(EvaluatorError::write(path))?;
        }
        self.lines.insert(line.id().to_owned(), line);
        Ok(())
    }
}

/// All lines of a file, whatever they depend on; those that cannot be read are left out.
///
/// # Errors
/// The file cannot be read.
pub fn read_lines<L: KeptLine>(path: &Path) -> Result<Vec<L>, EvaluatorError> {
    let text = String::from_utf8_lossy(&data::files::read_bytes(path)?).into_owned();
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Lines that fit, the first of each id; their text; and the text of the whole file.
fn fitting<L: KeptLine>(
    path: &Path,
    content_key: &str,
    fits: impl Fn(&L) -> bool,
) -> Result<(HashMap<String, L>, String, String), EvaluatorError> {
    let bytes = if path.exists() { data::files::read_bytes(path)? } else { Vec::new() };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = HashMap::new();
    let mut kept = String::new();
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let Ok(parsed) = serde_json::from_str::<L>(line) else { continue };
        if parsed.content_key() == content_key && !lines.contains_key(parsed.id()) && fits(&parsed) {
            kept += line;
            lines.insert(parsed.id().to_owned(), parsed);
        }
    }
    Ok((lines, kept, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
    struct Line {
        key: String,
        id: String,
        value: u32,
    }

    impl KeptLine for Line {
        fn content_key(&self) -> &str {
            &self.key
        }
        fn id(&self) -> &str {
            &self.id
        }
    }

    fn line(key: &str, id: &str, value: u32) -> Line {
        Line { key: key.into(), id: id.into(), value }
    }

    #[test]
    fn lines_of_another_key_that_do_not_fit_or_were_cut_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/lines.jsonl");
        let mut kept = KeptLines::open(&path, "a", |_: &Line| true).unwrap();
        for line in [line("a", "1", 5), line("b", "2", 5), line("a", "3", 50), line("a", "1", 6), line("a", "4", 5)] {
            kept.add(line).unwrap();
        }
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let small = |line: &Line| line.value < 10;
        let read = KeptLines::read(&path, "a", small).unwrap();
        assert_eq!((read.len(), read.get("1")), (1, Some(&line("a", "1", 5))), "the first of an id");
        assert_eq!(std::fs::read_to_string(&path).unwrap().len(), whole.len() - 5, "reading changes nothing");
        let again = KeptLines::open(&path, "a", small).unwrap();
        assert_eq!((again.len(), again.get("2"), again.get("3"), again.get("4")), (1, None, None, None));
        assert_eq!(read_lines::<Line>(&path).unwrap(), [line("a", "1", 5)]);
    }

    #[test]
    fn without_a_file_lines_are_kept_in_memory() {
        let mut kept = KeptLines::none();
        kept.add(line("a", "1", 5)).unwrap();
        assert!(!kept.is_empty());
        assert_eq!((kept.len(), kept.get("1")), (1, Some(&line("a", "1", 5))));
    }
}
