//! RankLLM's retrieve-results files: `[{query, hits: [...]}]` and the newer `{query: {text, qid}, candidates: [...]}`.

use std::collections::HashSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::documents::TEXT_KEYS;
use super::{Sink, trec};
use crate::rows::text_of;
use crate::{DataError, Passage, Qrels, RankingSample};

/// First-stage lists with their passages, as RankLLM stores and publishes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetrieveResultsConfig {
    /// JSON array or JSONL (`.gz` works); both layouts, `hits` and `candidates`.
    pub path: PathBuf,
    /// TREC or BEIR qrels: labels of the candidates. Default: none.
    #[serde(default)]
    pub qrels: Option<PathBuf>,
}

impl RetrieveResultsConfig {
    pub(super) fn read(&self, sink: &mut Sink<'_>) -> Result<(), DataError> {
        let qrels = self.qrels.as_deref().map(Qrels::read).transpose()?;
        let mut queries = HashSet::new();
        let mut documents = HashSet::new();
        let mut stopped = false;
        sink.for_each_row(&self.path, |sink, line, row| {
            let mut sample = match parse_row(&row, line) {
                Ok(sample) => sample,
                Err(message) => return sink.malformed(&self.path, line, message),
            };
            if let Some(qrels) = &qrels {
                for passage in &mut sample.passages {
                    passage.label = qrels.grade(&sample.query_id, &passage.doc_id);
                }
                documents.extend(sample.passages.iter().map(|p| p.doc_id.clone()));
                queries.insert(sample.query_id.clone());
            }
            let flow = sink.offer(sample, &self.path, line)?;
            stopped = flow.is_break();
            Ok(flow)
        })?;
        if let (Some(qrels), false) = (&qrels, stopped) {
            let known: HashSet<&str> = queries.iter().map(String::as_str).collect();
            let unjudged = known.iter().filter(|query| qrels.judged(query).is_none()).count();
            sink.report.note("queries without judgements", unjudged as u64);
            trec::note_unknown(qrels, &known, |document| documents.contains(document), &mut sink.report);
        }
        Ok(())
    }
}

fn parse_row(row: &Value, line: u64) -> Result<RankingSample, String> {
    let (query, query_id) = match row.get("query") {
        Some(Value::String(text)) => (text.clone(), None),
        Some(object @ Value::Object(_)) => {
            let text = text_of(object, &["text", "query"]).ok_or("`query` has no `text`")?;
            (text, text_of(object, &["qid", "id", "_id"]))
        }
        _ => return Err("no `query`".to_owned()),
    };
    let candidates = row
        .get("hits")
        .or_else(|| row.get("candidates"))
        .and_then(Value::as_array)
        .ok_or("neither `hits` nor `candidates`")?;
    let first_qid = candidates.first().and_then(|hit| text_of(hit, &["qid"]));
    let query_id =
        query_id.or_else(|| text_of(row, &["qid", "query_id"])).or(first_qid).unwrap_or_else(|| line.to_string());
    let mut ranked = Vec::with_capacity(candidates.len());
    for (place, hit) in candidates.iter().enumerate() {
        let passage = parse_hit(hit).map_err(|message| format!("candidate {}: {message}", place + 1))?;
        let rank = hit.get("rank").and_then(Value::as_i64).unwrap_or(place as i64 + 1);
        ranked.push((rank, passage));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    Ok(RankingSample {
        query_id,
        query,
        passages: ranked.into_iter().map(|(_, passage)| passage).collect(),
        target: None,
        origin: "retrieve_results".to_owned(),
    })
}

fn parse_hit(hit: &Value) -> Result<Passage, String> {
    let doc_id = text_of(hit, &["docid", "doc_id", "id"]).ok_or("no `docid`")?;
    let (title, text) = match hit.get("doc") {
        Some(Value::String(text)) => (String::new(), text.clone()),
        Some(document) => {
            let text = text_of(document, &TEXT_KEYS).ok_or("`doc` has no text")?;
            (text_of(document, &["title"]).unwrap_or_default(), text)
        }
        None => (String::new(), text_of(hit, &TEXT_KEYS).ok_or("no `content`")?),
    };
    // Corpora without titles were written with empty headings.
    let text = text.replace("Title: Content: ", "").trim().to_owned();
    let score = hit.get("score").and_then(Value::as_f64).map(|score| score as f32);
    Ok(Passage { doc_id, title, text, first_stage_score: score, label: None })
}
