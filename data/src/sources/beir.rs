//! BEIR folders (Thakur et al. 2021).

use std::collections::HashSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::documents::{read_corpus, read_queries};
use super::{Sink, trec};
use crate::bm25::{Bm25Document, Bm25Index};
use crate::{DataError, Qrels, RankingSample, TrecRun};

/// A BEIR folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BeirConfig {
    /// Folder with corpus.jsonl, queries.jsonl and qrels/.
    pub path: PathBuf,
    /// Judgements to use: `qrels/<split>.tsv`. Queries without any are left out and counted, and so is a candidate with the query's own id, as BEIR's
    /// evaluation does. Default: `test`.
    #[serde(default = "test")]
    pub split: String,
    /// First stage made elsewhere, as a TREC run. Default: BM25 over the whole corpus.
    #[serde(default)]
    pub run: Option<PathBuf>,
    /// Candidates per query from BM25. Default: 100.
    #[serde(default = "hundred")]
    pub num_candidates: usize,
}

fn test() -> String {
    "test".to_owned()
}

fn hundred() -> usize {
    100
}

impl BeirConfig {
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.file("corpus.jsonl"), self.file("queries.jsonl"), self.qrels()];
        files.extend(self.run.clone());
        files
    }

    pub(super) fn problems(&self) -> Vec<String> {
        if self.num_candidates > 0 {
            return Vec::new();
        }
        vec!["`beir.num_candidates` is 0; give at least 1 (100 is usual)".to_owned()]
    }

    /// The file of the judgements.
    #[must_use]
    pub fn qrels(&self) -> PathBuf {
        self.file(&format!("qrels/{}.tsv", self.split))
    }

    /// The file, or its packed twin when only that is there.
    fn file(&self, name: &str) -> PathBuf {
        let plain = self.path.join(name);
        let packed = self.path.join(format!("{name}.gz"));
        if !plain.exists() && packed.exists() { packed } else { plain }
    }

    pub(super) fn read(&self, sink: &mut Sink<'_>) -> Result<(), DataError> {
        let qrels = Qrels::read(&self.qrels())?;
        if let Some(run) = &self.run {
            let inputs = trec::Inputs {
                run: TrecRun::read(run)?,
                run_path: run.clone(),
                qrels: Some(qrels),
                beir_rules: true,
                corpus: self.file("corpus.jsonl"),
                queries: self.file("queries.jsonl"),
                origin: "beir",
            };
            return inputs.read(sink);
        }
        let path = self.file("queries.jsonl");
        let corpus = read_corpus(&self.file("corpus.jsonl"), None, &mut sink.report)?;
        let queries = read_queries(&path, &mut sink.report)?;
        let known: HashSet<&str> = queries.iter().map(|query| query.0.as_str()).collect();
        trec::note_unknown(&qrels, &known, |document| corpus.contains_key(document), &mut sink.report);
        let texts: Vec<(&str, String)> =
            corpus.iter().map(|(id, document)| (id.as_str(), document.searchable())).collect();
        let index = Bm25Index::build(texts.iter().map(|(doc_id, text)| Bm25Document { doc_id, text, group: "" }))?;
        for (query_id, query, line) in &queries {
            if qrels.judged(query_id).is_none() {
                sink.report.drop_sample("query without judgements");
                continue;
            }
            // One more, for a query that is a document of the corpus itself (ArguAna): BEIR leaves it out of every list.
            let mut found = index.search(query, self.num_candidates + 1, None)?;
            let with_itself = found.len();
            found.retain(|(id, _)| *id != *query_id);
            sink.report.note("queries among their own candidates left out", (with_itself - found.len()) as u64);
            found.truncate(self.num_candidates);
            if found.is_empty() {
                sink.report.drop_sample("BM25 finds nothing");
                continue;
            }
            let passages = found
                .iter()
                .map(|(id, score)| corpus[*id].passage(id, Some(*score), qrels.grade(query_id, id)))
                .collect();
            let sample = RankingSample {
                query_id: query_id.clone(),
                query: query.clone(),
                passages,
                target: None,
                origin: "beir".to_owned(),
            };
            if sink.offer(sample, &path, *line)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}
