//! From predictions to figures.

use std::collections::BTreeMap;

use data::RankingSample;

use super::predictions::{DecoderLine, Predictions};
use super::result::{Cost, FIRST_STAGE, MeasuredValue, RowEvaluation, SetEvaluation};
use super::{EvaluateConfig, EvaluationJob};
use crate::EvaluatorError;
use crate::decode::{DecoderKind, RepairCounts};
use crate::latency::{Latency, Speedup};
use crate::measures::trec_eval::{order_of, scored_in_order};
use crate::measures::{Averaging, Fidelity, Judgements, RankedLists, RunEvaluation, compare_orders, evaluate_run};
use crate::stats::mean;

/// Figures of all decoders from the lines of `samples`.
///
/// # Errors
/// A line that is missing.
pub fn summarise(
    job: &EvaluationJob,
    samples: &[RankingSample],
    predictions: &Predictions,
) -> Result<SetEvaluation, EvaluatorError> {
    let config = job.config;
    let whole = samples.len() == job.samples.len();
    let averaging = if config.complete && whole { Averaging::Complete } else { Averaging::InRun };
    let scoring = Scoring { judgements: job.judgements, averaging, config };
    let (first_stage, run) = scoring.row(FIRST_STAGE, &first_stage_lists(samples))?;
    let decoders: Vec<&str> = job.decoders.iter().map(|decoder| decoder.name()).collect();
    let lines = decoders.iter().map(|name| lines_of(name, samples, predictions)).collect::<Result<Vec<_>, _>>()?;
    let position =
        |kind: Option<DecoderKind>| kind.and_then(|kind| decoders.iter().position(|name| kind.name() == *name));
    let (baseline, reference) = (position(config.speedup_baseline()), position(config.fidelity_reference()));
    let forced = position(Some(DecoderKind::AutoregressiveForced));
    let mut rows = Vec::new();
    for (index, name) in decoders.iter().enumerate() {
        let (mut row, _) = scoring.row(name, &reranked_lists(samples, &lines[index]))?;
        let others = |other: Option<usize>| other.filter(|other| *other != index).map(|other| lines[other].as_slice());
        row.cost = Some(cost(&lines[index], others(baseline), others(forced), config)?);
        if let Some(reference) = reference {
            row.fidelity = fidelity(&lines[index], &lines[reference], config)?;
        }
        lines[index].iter().for_each(|line| row.repair.add(&line.ranking.repair));
        rows.push(row);
    }
    let queries = run.per_query.values().next().map(|values| values.keys().cloned().collect()).unwrap_or_default();
    let name = |index: Option<usize>| index.map(|index| decoders[index].to_owned());
    Ok(SetEvaluation {
        set: job.set.to_owned(),
        model: job.model_name.to_owned(),
        num_queries: samples.len(),
        queries,
        missing: if whole { run.missing } else { Vec::new() },
        num_unjudged: run.num_unjudged,
        complete: averaging == Averaging::Complete,
        measures: config.measures.clone(),
        baseline_decoder: name(baseline),
        reference_decoder: name(reference),
        first_stage,
        rows,
    })
}

struct Scoring<'a> {
    judgements: &'a Judgements,
    averaging: Averaging,
    config: &'a EvaluateConfig,
}

impl Scoring<'_> {
    /// Without any judged query the row has no values: closeness and cost are told all the same.
    fn row(&self, decoder: &str, lists: &RankedLists) -> Result<(RowEvaluation, RunEvaluation), EvaluatorError> {
        let run = match evaluate_run(
            self.judgements,
            lists,
            &self.config.measures,
            self.averaging,
            self.config.relevance_level,
        ) {
            Err(EvaluatorError::NothingToScore { retrieved, .. }) => RunEvaluation::unjudged(retrieved),
            other => other?,
        };
        let per_query: BTreeMap<_, Vec<f64>> =
            run.per_query.iter().map(|(measure, values)| (*measure, values.values().copied().collect())).collect();
        let values = per_query
            .iter()
            .map(|(measure, values)| Ok((*measure, MeasuredValue::of(values, &self.config.bootstrap)?)))
            .collect::<Result<_, EvaluatorError>>()?;
        let row = RowEvaluation {
            decoder: decoder.to_owned(),
            values,
            per_query,
            fidelity: BTreeMap::new(),
            cost: None,
            repair: RepairCounts::default(),
        };
        Ok((row, run))
    }
}

fn first_stage_lists(samples: &[RankingSample]) -> RankedLists {
    samples.iter().map(|sample| (sample.query_id.clone(), first_stage_list(sample))).collect()
}

/// Candidates as they come. Where the first stage left scores they decide, ties included, as trec_eval would read its
/// run; a list without them keeps its order.
fn first_stage_list(sample: &RankingSample) -> Vec<(String, f64)> {
    let scored = |p: &data::Passage| Some((p.doc_id.clone(), f64::from(p.first_stage_score?)));
    let scores: Option<Vec<(String, f64)>> = sample.passages.iter().map(scored).collect();
    scores.unwrap_or_else(|| scored_in_order(sample.passages.iter().map(|p| p.doc_id.as_str())))
}

/// Places in `sample.passages` in the order that the row [`FIRST_STAGE`] is scored by.
#[must_use]
pub fn first_stage_order(sample: &RankingSample) -> Vec<usize> {
    order_of(&first_stage_list(sample))
}

fn reranked_lists(samples: &[RankingSample], lines: &[&DecoderLine]) -> RankedLists {
    let list = |(sample, line): (&RankingSample, &&DecoderLine)| {
        let ids = line.ranking.order.iter().map(|index| sample.passages[usize::from(*index)].doc_id.as_str());
        (sample.query_id.clone(), scored_in_order(ids))
    };
    samples.iter().zip(lines).map(list).collect()
}

/// A decoder's lines in the order of the samples.
fn lines_of<'a>(
    decoder: &str,
    samples: &[RankingSample],
    predictions: &'a Predictions,
) -> Result<Vec<&'a DecoderLine>, EvaluatorError> {
    let line = |sample: &RankingSample| {
        let line = predictions.get(&sample.query_id)?;
        line.decoders.iter().find(|line| line.decoder == decoder)
    };
    let not_run = || EvaluatorError::DecoderNotRun { name: decoder.to_owned(), run: Vec::new() };
    samples.iter().map(|sample| line(sample).ok_or_else(not_run)).collect()
}

fn cost(
    lines: &[&DecoderLine],
    baseline: Option<&[&DecoderLine]>,
    forced: Option<&[&DecoderLine]>,
    config: &EvaluateConfig,
) -> Result<Cost, EvaluatorError> {
    let column = |value: fn(&DecoderLine) -> f64| lines.iter().map(|line| value(line)).collect::<Vec<f64>>();
    let seconds = |lines: &[&DecoderLine]| lines.iter().map(|line| line.ranking.seconds).collect::<Vec<f64>>();
    let over = |other: Option<&[&DecoderLine]>| {
        other.map(|other| Speedup::paired(&seconds(lines), &seconds(other), &config.bootstrap)).transpose()
    };
    let (speedup, speedup_over_forced) = (over(baseline)?, over(forced)?);
    let accepted: Vec<f64> = lines.iter().filter_map(|line| line.ranking.accepted_per_pass.map(f64::from)).collect();
    Ok(Cost {
        latency: Latency::of(&seconds(lines)),
        speedup,
        speedup_over_forced,
        windows: mean(&column(|line| f64::from(line.ranking.windows))),
        forward_passes: mean(&column(|line| f64::from(line.ranking.forward_passes))),
        new_tokens: mean(&column(|line| f64::from(line.ranking.new_tokens))),
        tokens_computed: mean(&column(|line| line.ranking.tokens_computed as f64)),
        prompt_seconds: mean(&column(|line| line.ranking.prompt_seconds)),
        accepted_per_pass: (!accepted.is_empty()).then(|| mean(&accepted)),
        memory_mib: None,
    })
}

fn fidelity(
    lines: &[&DecoderLine],
    reference: &[&DecoderLine],
    config: &EvaluateConfig,
) -> Result<BTreeMap<String, MeasuredValue>, EvaluatorError> {
    let compare = |(line, reference): (&&DecoderLine, &&DecoderLine)| {
        compare_orders(&line.ranking.order, &reference.ranking.order)
    };
    let compared: Vec<Fidelity> = lines.iter().zip(reference).map(compare).collect::<Result<_, _>>()?;
    let mut columns: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (name, value) in compared.iter().flat_map(Fidelity::named) {
        columns.entry(name.to_owned()).or_default().push(value);
    }
    let measured = |(name, values): (String, Vec<f64>)| Ok((name, MeasuredValue::of(&values, &config.bootstrap)?));
    columns.into_iter().map(measured).collect()
}
