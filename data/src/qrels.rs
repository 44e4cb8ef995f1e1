//! Relevance judgements: TREC qrels and BEIR's tab-separated qrels.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

use crate::{DataError, files};

/// Grades by query and document. Queries keep the order of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Qrels {
    order: Vec<String>,
    grades: HashMap<String, HashMap<String, i32>>,
}

impl Qrels {
    /// Reads `query-id 0 document-id grade` (four columns, blanks or tabs) or BEIR's `query-id corpus-id score` with a
    /// header; a line that begins with `#` and is no such row is a comment. Gzip is unpacked.
    ///
    /// # Errors
    /// A row of another shape, a grade that is no integer, or a pair judged twice, each with file and line.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let mut qrels = Self::default();
        let mut columns = None;
        files::for_each_line(path, |number, line| {
            let line = line.map_err(|message| DataError::malformed(path, number, message))?;
            let fields: Vec<&str> = line.split_whitespace().collect();
            // A query's id may begin so too.
            let is_row = || match fields[..] {
                [query, .., grade] => {
                    let columns = [3, 4].contains(&fields.len()) && columns.is_none_or(|wanted| wanted == fields.len());
                    query.len() > 1 && columns && grade.parse::<i32>().is_ok()
                }
                _ => false,
            };
            if line.starts_with('#') && !is_row() {
                return Ok(ControlFlow::Continue(()));
            }
            let is_header = columns.is_none() && fields.first() == Some(&"query-id");
            let wanted = *columns.get_or_insert(if is_header { 3 } else { fields.len() });
            if is_header {
                return Ok(ControlFlow::Continue(()));
            }
            qrels.add_row(path, number, &fields, wanted)?;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(qrels)
    }

    fn add_row(&mut self, path: &Path, number: u64, fields: &[&str], wanted: usize) -> Result<(), DataError> {
        let (query, document, grade) = match (fields, wanted) {
            ([query, _, document, grade], 4) | ([query, document, grade], 3) => (query, document, grade),
            _ => {
                let message = format!(
                    "{} columns, wanted 4 (query, 0, document, grade) or BEIR's 3 (query-id, corpus-id, score)",
                    fields.len()
                );
                return Err(DataError::malformed(path, number, message));
            }
        };
        let grade: i32 = grade
            .parse()
            .map_err(|_| DataError::malformed(path, number, format!("grade `{grade}` is not an integer")))?;
        if self.insert(query, document, grade).is_some() {
            return Err(DataError::DuplicateId {
                path: path.to_owned(),
                line: number,
                kind: "judgement",
                id: format!("{query} {document}"),
            });
        }
        Ok(())
    }

    /// Sets a grade; gives back the one that was there.
    pub fn insert(&mut self, query: &str, document: &str, grade: i32) -> Option<i32> {
        if !self.grades.contains_key(query) {
            self.order.push(query.to_owned());
        }
        self.grades.entry(query.to_owned()).or_default().insert(document.to_owned(), grade)
    }

    /// Grade of a pair, if judged.
    #[must_use]
    pub fn grade(&self, query: &str, document: &str) -> Option<i32> {
        self.grades.get(query)?.get(document).copied()
    }

    /// All judged documents of a query.
    #[must_use]
    pub fn judged(&self, query: &str) -> Option<&HashMap<String, i32>> {
        self.grades.get(query)
    }

    /// Judged queries in the order of the file.
    pub fn queries(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// Number of judged queries.
    #[must_use]
    pub fn num_queries(&self) -> usize {
        self.order.len()
    }

    /// Number of judgements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.grades.values().map(HashMap::len).sum()
    }

    /// True when nothing is judged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Judgements taken from the labels of samples.
    #[must_use]
    pub fn from_samples<'a>(samples: impl IntoIterator<Item = &'a crate::RankingSample>) -> Self {
        let mut qrels = Self::default();
        for sample in samples {
            for passage in &sample.passages {
                if let Some(label) = passage.label {
                    qrels.insert(&sample.query_id, &passage.doc_id, label);
                }
            }
        }
        qrels
    }

    /// Writes TREC's four columns, documents in byte order, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), DataError> {
        let mut text = String::new();
        for query in &self.order {
            let mut documents: Vec<_> = self.grades[query].iter().collect();
            documents.sort();
            for (document, grade) in documents {
                let _ = writeln!(text, "{query} 0 {document} {grade}");
            }
        }
        files::write_whole(path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Qrels, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qrels.txt");
        std::fs::write(&path, text).unwrap();
        Qrels::read(&path)
    }

    #[test]
    fn both_layouts_and_round_trip() {
        let trec = read("# TREC DL 2019\n2 0 d1 1\n2 Q0 d2 -1\n1\t0\td1\t3\n#3 0 d1 2\n").unwrap();
        assert_eq!(trec.grade("2", "d2"), Some(-1));
        assert_eq!(trec.queries().collect::<Vec<_>>(), ["2", "1", "#3"], "a comment is no row, an id may begin as one");
        let beir = read("query-id\tcorpus-id\tscore\n2\td1\t1\n2\td2\t-1\n1\td1\t3\n#3\td1\t2\n").unwrap();
        assert_eq!(trec, beir);
        let folder = tempfile::tempdir().unwrap();
        trec.write(&folder.path().join("out")).unwrap();
        assert_eq!(Qrels::read(&folder.path().join("out")).unwrap(), trec);
        assert_eq!(trec.len(), 4);
    }

    #[test]
    fn errors_name_file_and_line() {
        for (text, wanted) in [
            ("1 0 d1 1\n1 0 d2\n", ":2: 3 columns, wanted 4"),
            ("1 0 d1 one\n", ":1: grade `one` is not an integer"),
            ("1 0 d1 1\n1 0 d1 0\n", ":2: judgement `1 d1` occurs a second time"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}");
        }
    }
}
