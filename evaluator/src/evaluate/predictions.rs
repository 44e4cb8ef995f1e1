//! One line a query: what every decoder made of it. Append-only, so that a stopped evaluation goes on where it was.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use data::{RankingRecord, RankingSample};
use serde::{Deserialize, Serialize};

use crate::EvaluatorError;
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

/// All lines of a file, whatever they depend on; those that cannot be read are left out.
///
/// # Errors
/// The file cannot be read.
pub fn read_lines(path: &Path) -> Result<Vec<PredictionLine>, EvaluatorError> {
    let text = String::from_utf8_lossy(&data::files::read_bytes(path)?).into_owned();
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Lines by query, and the file they are appended to.
#[derive(Debug)]
pub struct Predictions {
    content_key: String,
    lines: HashMap<String, PredictionLine>,
    file: Option<(PathBuf, File)>,
}

impl Predictions {
    /// Without a file.
    #[must_use]
    pub fn in_memory(content_key: &str) -> Self {
        Self { content_key: content_key.to_owned(), lines: HashMap::new(), file: None }
    }

    /// Opens or creates `path`. Lines of the same key and the same candidates are kept; others, and a last line that was
    /// cut short, are taken out of the file.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(path: &Path, content_key: &str, samples: &[RankingSample]) -> Result<Self, EvaluatorError> {
        let (lines, kept, text) = fitting_lines(path, content_key, samples)?;
        if kept != text {
            let dropped = text.lines().count() - kept.lines().count();
            tracing::info!(
                "`{}`: dropped {dropped} lines (of other settings, or cut short), kept {}",
                path.display(),
                lines.len()
            );
            data::files::write_whole(path, kept.as_bytes())?;
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(EvaluatorError::write(folder))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(EvaluatorError::write(path))?;
        Ok(Self { content_key: content_key.to_owned(), lines, file: Some((path.to_owned(), file)) })
    }

    /// The lines of a file that fit, without touching it; none where there is no file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read(path: &Path, content_key: &str, samples: &[RankingSample]) -> Result<Self, EvaluatorError> {
        let (lines, ..) = fitting_lines(path, content_key, samples)?;
        Ok(Self { content_key: content_key.to_owned(), lines, file: None })
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
        if let Some((path, file)) = &mut self.file {
            let json = serde_json::to_string(&line).map_err(|source| EvaluatorError::Json {
                path: path.clone(),
                line: self.lines.len() as u64 + 1,
                source,
            })?;
            // one write, so that a kill leaves a whole line or a cut one, never two mixed
            file.write_all((json + "\n").as_bytes()).map_err(EvaluatorError::write(path))?;
        }
        self.lines.insert(sample.query_id.clone(), line);
        Ok(())
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

/// Lines of the same key and the same candidates by query, their text, and the text of the whole file.
fn fitting_lines(
    path: &Path,
    content_key: &str,
    samples: &[RankingSample],
) -> Result<(HashMap<String, PredictionLine>, String, String), EvaluatorError> {
    let wanted: HashMap<&str, &RankingSample> = samples.iter().map(|s| (s.query_id.as_str(), s)).collect();
    let text = if path.exists() { data::files::read_bytes(path)? } else { Vec::new() };
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut lines = HashMap::new();
    let mut kept = String::new();
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let Ok(parsed) = serde_json::from_str::<PredictionLine>(line) else { continue };
        let fits = parsed.content_key == content_key
            && wanted.get(parsed.query_id.as_str()).is_some_and(|sample| has_candidates(sample, &parsed.candidates));
        if fits && !lines.contains_key(&parsed.query_id) {
            kept += line;
            lines.insert(parsed.query_id.clone(), parsed);
        }
    }
    Ok((lines, kept, text))
}

fn has_candidates(sample: &RankingSample, candidates: &[String]) -> bool {
    sample.passages.iter().map(|passage| &passage.doc_id).eq(candidates)
}
