//! Documents cut into a background (their first paragraphs) and branches (the others), for pretraining.

use std::ops::ControlFlow;

use super::{Branch, BranchedText, DocumentsConfig, TextSink};
use crate::rows::{for_each_row, text_of};
use crate::{DataError, files};

impl DocumentsConfig {
    pub(super) fn read(&self, sink: &mut TextSink<'_>) -> Result<(), DataError> {
        let name = self.path.to_string_lossy().to_lowercase();
        if name.ends_with(".txt") || name.ends_with(".txt.gz") {
            return self.read_plain(sink);
        }
        // Rows come with the report; the sink needs it too, so it is lent out in turn.
        let mut report = std::mem::take(&mut sink.report);
        let result = for_each_row(&self.path, &mut report, |row, value, report| {
            let Some(text) = text_of(&value, &[&self.text_field]) else {
                report.malformed_sample(&self.path, row, format!("no text in `{}`", self.text_field))?;
                return Ok(ControlFlow::Continue(()));
            };
            std::mem::swap(&mut sink.report, report);
            let more = self.offer(&format!("{row}"), &text, row, sink);
            std::mem::swap(&mut sink.report, report);
            Ok(if more? { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        });
        sink.report = report;
        result
    }

    /// A text file: one document, or one for each heading of the first level (` = Title = `, as in WikiText). Lower headings (` = = Part = = `) are
    /// no paragraphs.
    fn read_plain(&self, sink: &mut TextSink<'_>) -> Result<(), DataError> {
        let bytes = files::read_bytes(&self.path)?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|error| DataError::malformed(&self.path, 1, format!("not UTF-8: {error}")))?;
        let is_heading = |line: &str| {
            let line = line.trim();
            line.starts_with("= ") && line.ends_with(" =") && !line.starts_with("= =")
        };
        let is_lower_heading = |line: &str| line.trim().starts_with("= = ") && line.trim().ends_with(" = =");
        let mut document = String::new();
        let mut begins = 1;
        for (number, line) in text.lines().enumerate() {
            if is_heading(line) {
                if !document.trim().is_empty() && !self.offer(&format!("{begins}"), &document, begins, sink)? {
                    return Ok(());
                }
                document.clear();
                begins = number as u64 + 1;
            } else if is_lower_heading(line) {
                sink.report.note("headings left out", 1);
            } else {
                document.push_str(line);
                document.push('\n');
            }
        }
        if !document.trim().is_empty() {
            self.offer(&format!("{begins}"), &document, begins, sink)?;
        }
        Ok(())
    }

    /// Offers the texts of a document; false when no further one is wanted.
    fn offer(&self, id: &str, document: &str, line: u64, sink: &mut TextSink<'_>) -> Result<bool, DataError> {
        let mut paragraphs = Vec::new();
        for paragraph in split_paragraphs(document) {
            let words: Vec<&str> = paragraph.split_whitespace().collect();
            if words.len() < self.min_paragraph_words {
                sink.report.note("short paragraphs left out", 1);
                continue;
            }
            let kept = self.max_paragraph_words.unwrap_or(usize::MAX).min(words.len());
            sink.report.note("paragraphs cut", u64::from(kept < words.len()));
            paragraphs.push((words[..kept].join(" "), kept));
        }
        if paragraphs.is_empty() {
            sink.report.drop_sample("no paragraph long enough");
        }
        for (number, piece) in pieces(&paragraphs, self.max_words).enumerate() {
            let Some(text) = self.text(format!("{id}-{number}"), piece) else {
                sink.report.drop_sample("too few paragraphs");
                continue;
            };
            if !sink.offer(text, &self.path, line)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The text of some paragraphs; none when there are too few for a background and a branch.
    fn text(&self, id: String, paragraphs: &[(String, usize)]) -> Option<BranchedText> {
        let background = self.background_paragraphs.unwrap_or_else(|| (paragraphs.len() / 2).max(2));
        let (background, others) = paragraphs.split_at_checked(background)?;
        if others.is_empty() {
            return None;
        }
        let most = self.max_branches.unwrap_or(usize::MAX);
        let branch = |(number, (paragraph, _)): (usize, &(String, usize))| Branch {
            id: format!("{id}/{number}"),
            prompt: String::new(),
            answers: vec![paragraph.clone()],
        };
        let branches = others.iter().take(most).enumerate().map(branch).collect();
        let background: Vec<&str> = background.iter().map(|(paragraph, _)| paragraph.as_str()).collect();
        Some(BranchedText { branches, background: background.join("\n\n"), origin: "documents".into(), id })
    }
}

/// Paragraphs: between blank lines, or lines when there is no blank one.
fn split_paragraphs(text: &str) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    let blank_lines = text.trim().lines().any(|line| line.trim().is_empty());
    for line in text.lines() {
        let last = paragraphs.last_mut().expect("there is always one");
        match line.trim() {
            "" => paragraphs.push(String::new()),
            line if blank_lines => {
                last.push_str(line);
                last.push(' ');
            }
            line => {
                last.push_str(line);
                paragraphs.push(String::new());
            }
        }
    }
    paragraphs.retain(|paragraph| !paragraph.trim().is_empty());
    paragraphs
}

/// Runs of paragraphs of at most `most` words together (a longer paragraph stands alone).
fn pieces(paragraphs: &[(String, usize)], most: usize) -> impl Iterator<Item = &[(String, usize)]> {
    let mut rest = paragraphs;
    std::iter::from_fn(move || {
        let mut words = 0;
        let fits = |(_, length): &&(String, usize)| {
            words += length;
            words <= most
        };
        let taken = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (piece, others) = rest.split_at(taken);
        rest = others;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use crate::branched::{BranchedSetConfig, BranchedSource, load};

    fn set(path: &std::path::Path, more: &str) -> BranchedSetConfig {
        let text = format!(r#"{{"source": {{"documents": {{"path": {path:?}{more}}}}}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn first_paragraphs_are_the_background_and_the_others_branches() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("documents.jsonl");
        let paragraph = |n: usize| format!("paragraph {n} has a few words");
        let five: Vec<String> = (0..5).map(paragraph).collect();
        let rows = [
            serde_json::json!({"text": five.join("\n\n")}),
            serde_json::json!({"text": "one line of five words\nanother line of five words\na third one, five words"}),
            serde_json::json!({"text": "Heading\n\nonly one paragraph of text here"}),
            serde_json::json!({"title": "nothing"}),
            serde_json::json!({"text": "too short"}),
        ];
        std::fs::write(&path, rows.map(|row| row.to_string() + "\n").concat()).unwrap();
        let (texts, report) = load(&set(&path, "")).unwrap();
        assert_eq!(texts.len(), 2);
        assert_eq!(texts[0].background, format!("{}\n\n{}", paragraph(0), paragraph(1)));
        assert_eq!(texts[0].branches.len(), 3);
        assert_eq!(texts[0].branches[2].answers, [paragraph(4)]);
        assert_eq!(texts[1].branches.len(), 1);
        assert_eq!((report.read, report.kept, report.dropped["too few paragraphs"]), (5, 2, 1));
        assert_eq!(report.dropped["no paragraph long enough"], 1, "every row is kept or counted");
        assert_eq!(report.malformed.len(), 1);

        let (texts, _) = load(&set(&path, r#", "max_words": 12, "background_paragraphs": 1"#)).unwrap();
        let ids: Vec<&str> = texts.iter().map(|text| text.id.as_str()).collect();
        assert_eq!(ids, ["1-0", "1-1", "2-0"], "two paragraphs a text; a last one alone is left out");
        let BranchedSource::Documents(source) = set(&path, "").source else { panic!("documents") };
        assert_eq!(source.max_words, 800);
    }

    #[test]
    fn headings_part_a_plain_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wiki.txt");
        let body = "first paragraph of five words\nsecond paragraph of five words\nthird paragraph of five words\n";
        let part = " = = A part of One = = \n";
        std::fs::write(&path, format!(" = One = \n{body}{part} = Two = \n{body}")).unwrap();
        let (texts, report) = load(&set(&path, "")).unwrap();
        assert_eq!(texts.len(), 2);
        assert_eq!([texts[0].branches.len(), texts[1].branches.len()], [1, 1]);
        assert_eq!(report.notes["headings left out"], 1);
    }
}
