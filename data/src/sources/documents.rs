//! Corpora and query files: BEIR's JSONL or `id<TAB>text`.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::Value;

use crate::report::SetReport;
use crate::rows::text_of;
use crate::{DataError, Passage, files};

/// A document's texts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Document {
    pub(super) title: String,
    pub(super) text: String,
}

impl Document {
    pub(super) fn passage(&self, doc_id: &str, score: Option<f32>, label: Option<i32>) -> Passage {
        Passage {
            doc_id: doc_id.to_owned(),
            title: self.title.clone(),
            text: self.text.clone(),
            first_stage_score: score,
            label,
        }
    }

    /// Title and body, as they are searched.
    pub(super) fn searchable(&self) -> String {
        if self.title.is_empty() { self.text.clone() } else { format!("{} {}", self.title, self.text) }
    }
}

/// Names of a body in JSON corpora, in the order they are looked for (as RankLLM does).
pub(super) const TEXT_KEYS: [&str; 6] = ["text", "segment", "contents", "content", "body", "passage"];
/// Names of an id.
pub(super) const ID_KEYS: [&str; 6] = ["_id", "id", "docid", "doc_id", "qid", "query_id"];

/// Reads a corpus; with `wanted`, only those documents are kept in memory.
pub(super) fn read_corpus(
    path: &Path,
    wanted: Option<&HashSet<String>>,
    report: &mut SetReport,
) -> Result<HashMap<String, Document>, DataError> {
    let mut documents = HashMap::new();
    let mut seen = HashSet::new();
    for_each_text(path, report, |line, id, document, _| {
        let new = match wanted {
            // Ids of documents nobody asked for need not be unique, nor be held.
            Some(wanted) if !wanted.contains(&id) => true,
            _ => seen.insert(id.clone()) && documents.insert(id.clone(), document).is_none(),
        };
        if new { Ok(()) } else { Err(DataError::DuplicateId { path: path.to_owned(), line, kind: "document", id }) }
    })?;
    Ok(documents)
}

/// Reads queries in the order of the file: id, text, line.
pub(super) fn read_queries(path: &Path, report: &mut SetReport) -> Result<Vec<(String, String, u64)>, DataError> {
    let mut queries = Vec::new();
    let mut seen = HashSet::new();
    for_each_text(path, report, |line, id, document, report| {
        if !seen.insert(id.clone()) {
            return Err(DataError::DuplicateId { path: path.to_owned(), line, kind: "query", id });
        }
        if document.text.trim().is_empty() {
            return report.malformed_row(path, line, format!("query `{id}` has no text"));
        }
        queries.push((id, document.text, line));
        Ok(())
    })?;
    Ok(queries)
}

fn for_each_text(
    path: &Path,
    report: &mut SetReport,
    mut each: impl FnMut(u64, String, Document, &mut SetReport) -> Result<(), DataError>,
) -> Result<(), DataError> {
    files::for_each_line(path, |line, text| {
        match text.and_then(parse_line) {
            Ok((id, document)) => each(line, id, document, report)?,
            Err(message) => report.malformed_row(path, line, message)?,
        }
        Ok(ControlFlow::Continue(()))
    })
}

fn parse_line(line: &str) -> Result<(String, Document), String> {
    if line.trim_start().starts_with('{') {
        let row: Value = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
        return parse_object(&row);
    }
    let (id, text) = line.split_once('\t').ok_or("neither a JSON object nor `id<TAB>text`")?;
    if id.trim().is_empty() {
        return Err("empty id before the tab".to_owned());
    }
    Ok((id.trim().to_owned(), Document { title: String::new(), text: text.trim().to_owned() }))
}

fn parse_object(row: &Value) -> Result<(String, Document), String> {
    let id = text_of(row, &ID_KEYS).ok_or("no `_id`")?;
    let text = text_of(row, &TEXT_KEYS).or_else(|| text_of(row, &["query"])).ok_or("no `text`")?;
    let title = text_of(row, &["title"]).unwrap_or_default();
    Ok((id, Document { title: title.trim().to_owned(), text: text.trim().to_owned() }))
}
