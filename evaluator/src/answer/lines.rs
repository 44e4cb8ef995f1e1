//! One line a text: what every decoder answered. Append-only, so that a stopped evaluation goes on where it was.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use data::branched::BranchedText;

use super::config::AnswerDecoder;
use super::evaluate::AnswerLine;
use crate::EvaluatorError;

/// Lines by text, and the file that new ones are appended to.
pub struct KeptLines {
    file: Option<(PathBuf, File)>,
    lines: HashMap<String, AnswerLine>,
}

impl KeptLines {
    /// Without lines and without a file.
    pub fn none() -> Self {
        Self { file: None, lines: HashMap::new() }
    }

    /// The lines of a file, which need not exist, that have this key. The file stays as it is.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path, content_key: &str) -> Result<Self, EvaluatorError> {
        Ok(Self { file: None, lines: fitting(path, content_key)?.0 })
    }

    /// As [`Self::read`], to be added to. Lines of another key, and a last line that was cut short, are taken out of the file.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(path: &Path, content_key: &str) -> Result<Self, EvaluatorError> {
        let (lines, kept, text) = fitting(path, content_key)?;
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
        Ok(Self { file: Some((path.to_owned(), file)), lines })
    }

    /// The line of a text, where it has answers by these decoders to all its questions.
    pub fn get(&self, text: &BranchedText, decoders: &[AnswerDecoder]) -> Option<&AnswerLine> {
        let line = self.lines.get(&text.id)?;
        let fits = line.decoders.iter().map(|d| d.decoder).eq(decoders.iter().copied())
            && line.decoders.iter().all(|d| d.answers.len() == text.branches.len());
        fits.then_some(line)
    }

    /// Adds a line, to the file too where there is one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&mut self, line: AnswerLine) -> Result<(), EvaluatorError> {
        if let Some((path, file)) = &mut self.file {
            let json = serde_json::to_string(&line).expect("strings and numbers") + "\n";
            // one write, so that a kill leaves a whole line or a cut one, never two mixed
            file.write_all(json.as_bytes()).map_err(EvaluatorError::write(path))?;
        }
        self.lines.insert(line.id.clone(), line);
        Ok(())
    }
}

/// The lines of a file that have this key, their text, and all of the file's text.
fn fitting(path: &Path, content_key: &str) -> Result<(HashMap<String, AnswerLine>, String, String), EvaluatorError> {
    let bytes = if path.exists() { data::files::read_bytes(path)? } else { Vec::new() };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = HashMap::new();
    let mut kept = String::new();
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let Ok(parsed) = serde_json::from_str::<AnswerLine>(line) else { continue };
        if parsed.content_key == content_key {
            kept += line;
            lines.insert(parsed.id.clone(), parsed);
        }
    }
    Ok((lines, kept, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_another_key_and_cut_lines_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.jsonl");
        let text = |id: &str| BranchedText {
            id: id.into(),
            background: String::new(),
            branches: vec![],
            origin: String::new(),
        };
        let line = |key: &str, id: &str| AnswerLine { content_key: key.into(), id: id.into(), decoders: vec![] };
        let mut kept = KeptLines::open(&path, "a").unwrap();
        for (key, id) in [("a", "1"), ("b", "2"), ("a", "3")] {
            kept.add(line(key, id)).unwrap();
        }
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let read = KeptLines::read(&path, "a").unwrap();
        assert_eq!((read.get(&text("1"), &[]), read.get(&text("2"), &[])), (Some(&line("a", "1")), None));
        assert_eq!(std::fs::read_to_string(&path).unwrap().len(), whole.len() - 5, "reading changes nothing");
        let again = KeptLines::open(&path, "a").unwrap();
        assert_eq!(again.get(&text("1"), &[]), Some(&line("a", "1")));
        assert_eq!((again.get(&text("2"), &[]), again.get(&text("3"), &[])), (None, None));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    }
}
