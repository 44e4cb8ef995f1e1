//! Reranks a set with several decoders in turn and measures what comes out.
//!
//! For each query every decoder runs before the next query begins, so that whatever else the machine does meets all of
//! them alike: speedups are ratios within a query and a process. One line a query goes to a JSONL file as soon as it is
//! done; a second run with the same content key goes on from there.

mod config;
mod memory;
mod predictions;
mod result;
mod run_pairs;
mod runs;
mod share;
mod summary;
mod tables;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use data::RankingSample;
use model::CausalLm;

pub use config::{EvaluateConfig, LatencyConfig, SignificanceBaseline};
pub use memory::measure_memory;
pub use predictions::{DecoderLine, PredictionLine, Predictions};
pub use result::{Comparison, Cost, FIRST_STAGE, MeasuredValue, RowEvaluation, SetEvaluation, compare_rows};
pub use run_pairs::{RunPair, best_pairs};
pub(crate) use runs::distinct;
pub use runs::{RowName, RunBaseline, RunEvaluations, runs_table};
pub use share::{evaluate_share, merge_shares};
pub use summary::{first_stage_order, summarise};
pub use tables::{baseline_of, comparison_table, cost_table, fidelity_table, results_table};

use crate::decode::Decoder;
use crate::measures::Judgements;
use crate::sliding::{PromptSource, Reranked, WindowConfig, rerank};
use crate::{EvaluatorError, stats};

/// One model on one set.
pub struct EvaluationJob<'a> {
    /// Name of the set, for tables.
    pub set: &'a str,
    /// Name of the model, for tables.
    pub model_name: &'a str,
    /// The model.
    pub model: &'a CausalLm,
    /// Writes the windows' prompts.
    pub prompts: &'a dyn PromptSource,
    /// Queries with their candidates in first-stage order.
    pub samples: &'a [RankingSample],
    /// All judgements of the set: ideal lists and missing queries are taken from here.
    pub judgements: &'a Judgements,
    /// Decoders, in the order of the table.
    pub decoders: &'a [Box<dyn Decoder>],
    /// Lets the decoders forget passes that they share: called before each round, so that a repeated round is timed anew.
    pub forget_passes: &'a dyn Fn(),
    /// Settings.
    pub config: &'a EvaluateConfig,
    /// Hash of everything a prediction depends on (weights, samples, prompt, decoders, windows): lines written under
    /// another key are not used.
    pub content_key: &'a str,
    /// Where the lines go and come from; nothing is kept when absent.
    pub predictions: Option<&'a Path>,
}

/// What is known after each query.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Queries done, those taken from the file included.
    pub done: usize,
    /// Queries in all.
    pub total: usize,
    /// The one just done.
    pub query_id: &'a str,
    /// Seconds since the first query that had to be decoded.
    pub seconds: f64,
    /// Queries taken from the file.
    pub resumed: usize,
}

/// Evaluates. `on_query` is called after each query; `Break` ends the run with [`EvaluatorError::Interrupted`], and what
/// is done stays in the file.
///
/// # Errors
/// Bad settings, no samples, what decoders, prompts and files say.
pub fn evaluate(
    job: &EvaluationJob,
    on_query: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<SetEvaluation, EvaluatorError> {
    check(job)?;
    let samples = limited(job);
    let mut predictions = match job.predictions {
        Some(path) => Predictions::open(path, job.content_key, job.samples)?,
        None => Predictions::in_memory(job.content_key),
    };
    let resumed = samples.iter().filter(|sample| predictions.get(&sample.query_id).is_some()).count();
    if resumed < samples.len() {
        warm_up(job, &samples[0])?;
    }
    let started = Instant::now();
    let mut done = resumed;
    for (index, sample) in samples.iter().enumerate() {
        if predictions.get(&sample.query_id).is_some() {
            continue;
        }
        let decoders = decode_query(job, sample, index)?;
        predictions.add(sample, decoders)?;
        done += 1;
        let seconds = started.elapsed().as_secs_f64();
        let progress = Progress { done, total: samples.len(), query_id: &sample.query_id, seconds, resumed };
        if on_query(&progress).is_break() {
            return Err(EvaluatorError::Interrupted);
        }
    }
    summarise(job, samples, &predictions)
}

fn check(job: &EvaluationJob) -> Result<(), EvaluatorError> {
    let problems = job.config.validate();
    if !problems.is_empty() {
        return Err(EvaluatorError::Config { problems });
    }
    if job.samples.is_empty() || job.config.max_queries == Some(0) {
        return Err(EvaluatorError::NoSamples { set: job.set.to_owned() });
    }
    // A set may have no judgements at all; those of other queries are a mistake, told before hours of decoding.
    let judged = job.samples.iter().any(|sample| job.judgements.contains_key(&sample.query_id));
    if !judged && !job.judgements.is_empty() {
        let (judged, retrieved) = (job.judgements.len(), job.samples.len());
        return Err(EvaluatorError::NothingToScore { judged, retrieved });
    }
    Ok(())
}

/// The queries that are decoded.
fn limited<'a>(job: &EvaluationJob<'a>) -> &'a [RankingSample] {
    &job.samples[..job.config.max_queries.unwrap_or(usize::MAX).min(job.samples.len())]
}

/// Allocator, caches and clocks settle.
fn warm_up(job: &EvaluationJob, sample: &RankingSample) -> Result<(), EvaluatorError> {
    (0..job.config.latency.warmup).try_for_each(|_| {
        (job.forget_passes)();
        one_window(job, sample)
    })
}

/// One window of each decoder.
fn one_window(job: &EvaluationJob, sample: &RankingSample) -> Result<(), EvaluatorError> {
    let sample = first_window(job, sample);
    for decoder in job.decoders {
        rerank(job.model, decoder.as_ref(), job.prompts, &sample, &job.config.window)?;
    }
    Ok(())
}

/// The candidates that the first window of a list holds.
fn first_window(job: &EvaluationJob, sample: &RankingSample) -> RankingSample {
    let window = sample.passages.len().min(job.config.window.size);
    let first: Vec<u16> = (0..window as u16).collect();
    sample.select(&first)
}

/// All decoders on one query, the first one another each time.
fn decode_query(job: &EvaluationJob, sample: &RankingSample, index: usize) -> Result<Vec<DecoderLine>, EvaluatorError> {
    let num_decoders = job.decoders.len();
    let mut runs: Vec<Vec<Reranked>> = vec![Vec::new(); num_decoders];
    for repeat in 0..job.config.latency.repeats {
        (job.forget_passes)();
        for turn in 0..num_decoders {
            let which = (turn + index + repeat) % num_decoders;
            let decoder = job.decoders[which].as_ref();
            let window: &WindowConfig = &job.config.window;
            runs[which].push(rerank(job.model, decoder, job.prompts, sample, window)?);
        }
    }
    let line = |(decoder, runs): (&dyn Decoder, Vec<Reranked>)| {
        let all_seconds: Vec<f64> = runs.iter().map(|run| run.seconds).collect();
        let mut ranking = runs.into_iter().next()?;
        ranking.seconds = stats::percentile(&all_seconds, 50.0);
        Some(DecoderLine { decoder: decoder.name().to_owned(), ranking, all_seconds })
    };
    Ok(job.decoders.iter().map(Box::as_ref).zip(runs).filter_map(line).collect())
}
