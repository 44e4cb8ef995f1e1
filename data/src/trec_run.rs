//! TREC runs: `query Q0 document rank score tag`.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

use crate::{DataError, files};

/// One retrieved document.
#[derive(Debug, Clone, PartialEq)]
pub struct RunEntry {
    /// Document id.
    pub doc_id: String,
    /// Rank as written in the file (trec_eval ignores it).
    pub rank: i64,
    /// Score, higher is better.
    pub score: f64,
}

/// Ranked lists of several queries, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrecRun {
    order: Vec<String>,
    entries: HashMap<String, Vec<RunEntry>>,
    /// Last column of the first row.
    pub tag: String,
}

impl TrecRun {
    /// An empty run.
    #[must_use]
    pub fn new(tag: impl Into<String>) -> Self {
        Self { tag: tag.into(), ..Self::default() }
    }

    /// Reads six columns separated by blanks or tabs; a line that begins with `#` is a comment, unless it has six columns and the first is more than that. Gzip is
    /// unpacked.
    ///
    /// # Errors
    /// A row of another shape, a rank or score that is no (finite) number, or a document twice for one query, each with
    /// file and line.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let mut run = Self::default();
        let mut seen: HashSet<(String, String)> = HashSet::new();
        files::for_each_line(path, |number, line| {
            let line = line.map_err(|message| DataError::malformed(path, number, message))?;
            let fields: Vec<&str> = line.split_whitespace().collect();
            // A query's id may begin so too.
            let is_row = fields.len() == 6 && fields[0].len() > 1;
            if line.starts_with('#') && !is_row {
                return Ok(ControlFlow::Continue(()));
            }
            let [query, _, document, rank, score, tag] = fields[..] else {
                let message = format!("{} columns, wanted 6 (query, Q0, document, rank, score, tag)", fields.len());
                return Err(DataError::malformed(path, number, message));
            };
            let entry = parse_entry(document, rank, score).map_err(|m| DataError::malformed(path, number, m))?;
            if !seen.insert((query.to_owned(), document.to_owned())) {
                return Err(DataError::DuplicateId {
                    path: path.to_owned(),
                    line: number,
                    kind: "document",
                    id: format!("{document}` of query `{query}"),
                });
            }
            if run.tag.is_empty() {
                tag.clone_into(&mut run.tag);
            }
            run.push(query, entry);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(run)
    }

    /// Adds a document at the end of a query's list.
    pub fn push(&mut self, query: &str, entry: RunEntry) {
        if !self.entries.contains_key(query) {
            self.order.push(query.to_owned());
        }
        self.entries.entry(query.to_owned()).or_default().push(entry);
    }

    /// Adds a whole ranking, best first, with scores `n, n-1, ..., 1`: strictly decreasing and distinct in float32, so
    /// that no tool re-orders ties.
    pub fn push_ranking<'a>(&mut self, query: &str, doc_ids: impl ExactSizeIterator<Item = &'a str>) {
        let n = doc_ids.len();
        for (place, doc_id) in doc_ids.enumerate() {
            let entry = RunEntry { doc_id: doc_id.to_owned(), rank: place as i64 + 1, score: (n - place) as f64 };
            self.push(query, entry);
        }
    }

    /// Queries in the order of the file.
    pub fn queries(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// Number of queries.
    #[must_use]
    pub fn num_queries(&self) -> usize {
        self.order.len()
    }

    /// Entries of a query as they stand in the file.
    #[must_use]
    pub fn entries(&self, query: &str) -> Option<&[RunEntry]> {
        self.entries.get(query).map(Vec::as_slice)
    }

    /// Entries of a query by score, highest first; equal scores by rank, then in the order of the file. (trec_eval
    /// breaks ties by document id instead: that is the evaluator's business.)
    #[must_use]
    pub fn ranked(&self, query: &str) -> Option<Vec<&RunEntry>> {
        let mut entries: Vec<&RunEntry> = self.entries.get(query)?.iter().collect();
        entries.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.rank.cmp(&b.rank)));
        Some(entries)
    }

    /// The run of samples in their present order, best first.
    #[must_use]
    pub fn from_samples<'a>(
        samples: impl IntoIterator<Item = &'a crate::RankingSample>,
        tag: impl Into<String>,
    ) -> Self {
        let mut run = Self::new(tag);
        for sample in samples {
            run.push_ranking(&sample.query_id, sample.passages.iter().map(|p| p.doc_id.as_str()));
        }
        run
    }

    /// Writes the run whole or not at all. Each query's list is written by score with ranks from 1; a score that is not
    /// below the one before it in float32 is lowered to the next float32, so that the order survives any reader.
    pub fn write(&self, path: &Path) -> Result<(), DataError> {
        let ids = self.order.iter().chain(self.entries.values().flatten().map(|entry| &entry.doc_id));
        if let Some(id) = ids.into_iter().find(|id| !fits(id)) {
            return Err(DataError::BlankId { id: id.clone(), path: path.to_owned() });
        }
        let tag = if self.tag.is_empty() { "monopass" } else { self.tag.as_str() };
        let mut text = String::new();
        for query in &self.order {
            let mut previous = f32::INFINITY;
            for (place, entry) in self.ranked(query).into_iter().flatten().enumerate() {
                let score = (entry.score as f32).min(previous.next_down());
                let _ = writeln!(text, "{query} Q0 {} {} {score} {tag}", entry.doc_id, place + 1);
                previous = score;
            }
        }
        files::write_whole(path, text.as_bytes())
    }
}

/// True for ids that a TREC run can hold: its columns are separated by blanks.
#[must_use]
pub fn fits(id: &str) -> bool {
    !id.is_empty() && !id.contains(char::is_whitespace)
}

fn parse_entry(document: &str, rank: &str, score: &str) -> Result<RunEntry, String> {
    let rank = rank.parse().map_err(|_| format!("rank `{rank}` is not an integer"))?;
    let score: f64 = score.parse().map_err(|_| format!("score `{score}` is not a number"))?;
    if !score.is_finite() {
        return Err(format!("score `{score}` is not finite"));
    }
    Ok(RunEntry { doc_id: document.to_owned(), rank, score })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TrecRun, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.txt");
        std::fs::write(&path, text).unwrap();
        TrecRun::read(&path)
    }

    #[test]
    fn ties_and_tiny_steps_are_written_strictly_decreasing_in_float32() {
        let run = read("q Q0 a 1 5.0 t\nq Q0 c 2 5.0 t\nq Q0 b 3 4.9999999999 t\nq Q0 d 9 7 t\n").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        run.write(&path).unwrap();
        let again = TrecRun::read(&path).unwrap();
        let entries = again.entries("q").unwrap();
        let ids: Vec<_> = entries.iter().map(|e| e.doc_id.as_str()).collect();
        assert_eq!(ids, ["d", "a", "c", "b"]);
        assert!(entries.windows(2).all(|pair| (pair[0].score as f32) > (pair[1].score as f32)), "{entries:?}");
        assert_eq!(entries.iter().map(|e| e.rank).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }

    #[test]
    fn a_query_id_may_begin_as_a_comment_does() {
        let run = read("# run made by BM25 baseline\n#1 Q0 a 1 5 t\nq Q0 a 1 5 t\n").unwrap();
        assert_eq!(run.queries().collect::<Vec<_>>(), ["#1", "q"]);
    }

    #[test]
    fn errors_name_file_and_line() {
        for (text, wanted) in [
            ("q Q0 a 1 5\n", ":1: 5 columns, wanted 6"),
            ("q Q0 a 1 5 t\nq Q0 b x 5 t\n", ":2: rank `x` is not an integer"),
            ("q Q0 a 1 high t\n", "score `high` is not a number"),
            ("q Q0 a 1 NaN t\n", "is not finite"),
            ("q Q0 a 1 5 t\nq Q0 a 2 4 t\n", ":2: document `a` of query `q` occurs a second time"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}");
        }
    }
}
