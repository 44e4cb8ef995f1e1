//! TREC runs with their corpus and queries.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Sink;
use super::documents::{read_corpus, read_queries};
use crate::report::SetReport;
use crate::{DataError, Qrels, RankingSample, TrecRun};

/// A first-stage run made by any tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrecConfig {
    /// Six-column run (`.gz` works); its order is the candidates' order.
    pub run: PathBuf,
    /// TREC or BEIR qrels: labels of the candidates. Default: none.
    #[serde(default)]
    pub qrels: Option<PathBuf>,
    /// BEIR jsonl or `id<TAB>text`. Only documents of the run are held in memory.
    pub corpus: PathBuf,
    /// BEIR jsonl or `id<TAB>text`.
    pub queries: PathBuf,
}

impl TrecConfig {
    pub(super) fn read(&self, sink: &mut Sink<'_>) -> Result<(), DataError> {
        let inputs = Inputs {
            run: TrecRun::read(&self.run)?,
            run_path: self.run.clone(),
            qrels: self.qrels.as_deref().map(Qrels::read).transpose()?,
            beir_rules: false,
            corpus: self.corpus.clone(),
            queries: self.queries.clone(),
            origin: "trec",
        };
        inputs.read(sink)
    }
}

/// A run and what belongs to it.
pub(super) struct Inputs {
    pub(super) run: TrecRun,
    pub(super) run_path: PathBuf,
    pub(super) qrels: Option<Qrels>,
    /// Whether queries without judgements, and candidates with the query's own id, are left out.
    pub(super) beir_rules: bool,
    pub(super) corpus: PathBuf,
    pub(super) queries: PathBuf,
    pub(super) origin: &'static str,
}

impl Inputs {
    pub(super) fn read(self, sink: &mut Sink<'_>) -> Result<(), DataError> {
        let mut wanted: HashSet<String> = self
            .run
            .queries()
            .flat_map(|q| self.run.entries(q).into_iter().flatten())
            .map(|e| e.doc_id.clone())
            .collect();
        // Judged documents are looked up too, so that qrels for documents nobody has can be told apart.
        let judged = self.qrels.iter().flat_map(|qrels| qrels.queries().filter_map(|query| qrels.judged(query)));
        wanted.extend(judged.flat_map(|documents| documents.keys().cloned()));
        let corpus = read_corpus(&self.corpus, Some(&wanted), &mut sink.report)?;
        let queries: HashMap<String, String> =
            read_queries(&self.queries, &mut sink.report)?.into_iter().map(|(id, text, _)| (id, text)).collect();
        if let Some(qrels) = &self.qrels {
            let known: HashSet<&str> = queries.keys().map(String::as_str).collect();
            note_unknown(qrels, &known, |document| corpus.contains_key(document), &mut sink.report);
        }
        for (place, query_id) in self.run.queries().enumerate() {
            let Some(query) = queries.get(query_id) else {
                sink.report.drop_sample("query of the run without text");
                continue;
            };
            if self.beir_rules && self.qrels.as_ref().is_some_and(|qrels| qrels.judged(query_id).is_none()) {
                sink.report.drop_sample("query without judgements");
                continue;
            }
            let mut ranked = self.run.ranked(query_id).unwrap_or_default();
            if self.beir_rules {
                let all = ranked.len();
                ranked.retain(|entry| entry.doc_id != query_id);
                sink.report.note("queries among their own candidates left out", (all - ranked.len()) as u64);
            }
            let passages: Vec<_> = ranked
                .iter()
                .filter_map(|entry| {
                    let label = self.qrels.as_ref().and_then(|qrels| qrels.grade(query_id, &entry.doc_id));
                    Some(corpus.get(&entry.doc_id)?.passage(&entry.doc_id, Some(entry.score as f32), label))
                })
                .collect();
            sink.report.note("candidates not in the corpus", (ranked.len() - passages.len()) as u64);
            if passages.is_empty() {
                sink.report.drop_sample("no candidate is in the corpus");
                continue;
            }
            let sample = RankingSample {
                query_id: query_id.to_owned(),
                query: query.clone(),
                passages,
                target: None,
                origin: self.origin.to_owned(),
            };
            if sink.offer(sample, &self.run_path, place as u64 + 1)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Counts judgements of queries and documents that nobody knows.
pub(super) fn note_unknown(
    qrels: &Qrels,
    queries: &HashSet<&str>,
    has_document: impl Fn(&str) -> bool,
    report: &mut SetReport,
) {
    for query in qrels.queries() {
        let judged = qrels.judged(query).into_iter().flatten();
        if queries.contains(query) {
            let unknown = judged.filter(|(document, _)| !has_document(document)).count();
            report.note("qrels for unknown documents", unknown as u64);
        } else {
            report.note("qrels for unknown queries", judged.count() as u64);
        }
    }
}
