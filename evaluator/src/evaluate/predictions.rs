//! One line a query: what every decoder made of it.

use std::collections::HashMap;
use std::path::Path;

use data::{RankingRecord, RankingSample};
use serde::{Deserialize, Serialize};

use crate::EvaluatorError;
use crate::kept_lines::{KeptLine, KeptLines};
use crate::sliding::Reranked;

/// All decoders on one query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictionLine {
    /// What it depends on; see [`crate::evaluate::EvaluationJob::content_key`].
    pub content_key: String,
    /// Query id.
    pub query_id: String,
    /// Document ids in the order that `order` counts.
    pub candidates: Vec<String>,
    /// In the order of the table.
    pub decoders: Vec<DecoderLine>,
}

/// One decoder on one query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecoderLine {
    /// Its name.
    pub decoder: String,
    /// Order and cost; `seconds` is the median of `all_seconds`.
    pub ranking: Reranked,
    /// Every timed run.
    pub all_seconds: Vec<f64>,
}

impl DecoderLine {
    /// Of a decoder that ran once.
    #[must_use]
    pub fn once(decoder: &str, ranking: Reranked) -> Self {
        Self { decoder: decoder.to_owned(), all_seconds: vec![ranking.seconds], ranking }
    }
}

impl PredictionLine {
    /// As rows of a `rankings` set.
    pub fn records(&self) -> impl Iterator<Item = RankingRecord> + '_ {
        self.decoders.iter().map(|line| RankingRecord {
            query_id: self.query_id.clone(),
            decoder: line.decoder.clone(),
            order: line.ranking.order.clone(),
            scores: line.ranking.scores.clone(),
            forward_passes: line.ranking.forward_passes,
            new_tokens: line.ranking.new_tokens,
            seconds: line.ranking.seconds,
        })
    }
}

impl KeptLine for PredictionLine {
    fn content_key(&self) -> &str {
        &self.content_key
    }

    fn id(&self) -> &str {
        &self.query_id
    }
}

/// Lines by query, and the file they are appended to.
#[derive(Debug)]
pub struct Predictions {
    content_key: String,
    lines: KeptLines<PredictionLine>,
}

impl Predictions {
    /// Without a file.
    #[must_use]
    pub fn in_memory(content_key: &str) -> Self {
        Self { content_key: content_key.to_owned(), lines: KeptLines::none() }
    }

    /// Opens or creates `path`. Lines of the same key and the same candidates are kept; others, and a last line that was
    /// cut short, are taken out of the file.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(path: &Path, content_key: &str, samples: &[RankingSample]) -> Result<Self, EvaluatorError> {
        let lines = KeptLines::open(path, content_key, has_candidates_of(samples))?;
        Ok(Self { content_key: content_key.to_owned(), lines })
    }

    /// The lines of a file that fit, without touching it; none where there is no file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read(path: &Path, content_key: &str, samples: &[RankingSample]) -> Result<Self, EvaluatorError> {
        let lines = KeptLines::read(path, content_key, has_candidates_of(samples))?;
        Ok(Self { content_key: content_key.to_owned(), lines })
    }

    /// Adds a query's line, in the file first.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&mut self, sample: &RankingSample, decoders: Vec<DecoderLine>) -> Result<(), EvaluatorError> {
        let line = PredictionLine {
            content_key: self.content_key.clone(),
            query_id: sample.query_id.clone(),
            candidates: sample.passages.iter().map(|passage| passage.doc_id.clone()).collect(),
            decoders,
        };
        self.lines.add(line)
    }

    /// Line of a query.
    #[must_use]
    pub fn get(&self, query_id: &str) -> Option<&PredictionLine> {
        self.lines.get(query_id)
    }

    /// All decoders' rankings of `samples`, as rows of a `rankings` set.
    #[must_use]
    pub fn records(&self, samples: &[RankingSample]) -> Vec<RankingRecord> {
        let lines = samples.iter().filter_map(|sample| self.get(&sample.query_id));
        lines.flat_map(PredictionLine::records).collect()
    }

    /// Queries done.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// True when none is done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// Whether a line is of one of the samples, with its candidates.
fn has_candidates_of(samples: &[RankingSample]) -> impl Fn(&PredictionLine) -> bool {
    let wanted: HashMap<&str, &RankingSample> = samples.iter().map(|s| (s.query_id.as_str(), s)).collect();
    move |line| wanted.get(line.query_id.as_str()).is_some_and(|sample| has_candidates(sample, &line.candidates))
}

fn has_candidates(sample: &RankingSample, candidates: &[String]) -> bool {
    sample.passages.iter().map(|passage| &passage.doc_id).eq(candidates)
}
