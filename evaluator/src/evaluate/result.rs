//! What an evaluation found. Serialisable: a report can be made again without decoding again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::EvaluatorError;
use crate::decode::RepairCounts;
use crate::latency::{Latency, Speedup};
use crate::measures::RankingMeasure;
use crate::stats::{Bootstrap, Interval, mean, paired_t_test};

/// Decoder name of the row that shows the candidates as they come.
pub const FIRST_STAGE: &str = "none";

/// A mean with its bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeasuredValue {
    /// Mean over queries.
    pub mean: f64,
    /// Bootstrap interval.
    pub interval: Interval,
}

impl MeasuredValue {
    /// Of values per query.
    ///
    /// # Errors
    /// No values.
    pub fn of(values: &[f64], bootstrap: &Bootstrap) -> Result<Self, EvaluatorError> {
        Ok(Self { mean: mean(values), interval: bootstrap.mean(values)? })
    }
}

/// One decoder of one model on one set, or the first stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowEvaluation {
    /// Decoder, [`FIRST_STAGE`] for the candidates as they come.
    pub decoder: String,
    /// Means over the judged queries.
    pub values: BTreeMap<RankingMeasure, MeasuredValue>,
    /// Per query, in the order of [`SetEvaluation::queries`].
    pub per_query: BTreeMap<RankingMeasure, Vec<f64>>,
    /// Closeness to the reference decoder's order, means over all queries decoded; names as
    /// [`crate::measures::Fidelity::named`].
    #[serde(default)]
    pub fidelity: BTreeMap<String, MeasuredValue>,
    /// Absent for the first stage.
    #[serde(default)]
    pub cost: Option<Cost>,
    /// What was mended, summed over queries.
    #[serde(default)]
    pub repair: RepairCounts,
}

/// Means per query, windows summed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds of the decoder.
    pub latency: Latency,
    /// Against the baseline decoder, where there is one and this is not it.
    pub speedup: Option<Speedup>,
    /// Against `autoregressive_forced`, where it was run and this is not it.
    #[serde(default)]
    pub speedup_over_forced: Option<Speedup>,
    /// Windows.
    pub windows: f64,
    /// Passes of the model.
    pub forward_passes: f64,
    /// Tokens of the answers.
    pub new_tokens: f64,
    /// Tokens that went through the model.
    pub tokens_computed: f64,
    /// Seconds of writing and tokenising prompts, not part of `latency`.
    pub prompt_seconds: f64,
    /// Items that a pass after the first decided, for decoders that draft.
    #[serde(default)]
    pub accepted_per_pass: Option<f64>,
    /// MiB that one window takes beside the model at the fullest moment; see [`crate::evaluate::measure_memory`].
    #[serde(default)]
    pub memory_mib: Option<f64>,
}

/// One model on one set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetEvaluation {
    /// Set.
    pub set: String,
    /// Model.
    pub model: String,
    /// Queries decoded.
    pub num_queries: usize,
    /// Judged queries the means are taken over, in the order of the per-query values; some may have no candidates.
    pub queries: Vec<String>,
    /// Judged queries without candidates. They count 0 when `complete`.
    pub missing: Vec<String>,
    /// Decoded queries without judgements; they count for cost and fidelity only.
    pub num_unjudged: usize,
    /// Whether missing queries count 0.
    pub complete: bool,
    /// In the order they were asked for.
    pub measures: Vec<RankingMeasure>,
    /// Decoder that speedups are told against.
    pub baseline_decoder: Option<String>,
    /// Decoder that fidelity is told against.
    pub reference_decoder: Option<String>,
    /// Candidates as they come: by first-stage score where all have one (ties as trec_eval), else in their order.
    pub first_stage: RowEvaluation,
    /// One per decoder.
    pub rows: Vec<RowEvaluation>,
}

impl SetEvaluation {
    /// The first measure of each decoder, or its closeness to the reference where nothing is judged, for a line of the log:
    /// `nDCG@10 single_token 0.8021, one_pass 0.7993`. None where there is neither.
    #[must_use]
    pub fn key_figures(&self) -> Option<String> {
        const SHOWN: usize = 5;
        let measure =
            self.measures.first().filter(|measure| self.rows.iter().any(|row| row.values.contains_key(measure)));
        let of = |row: &RowEvaluation| match measure {
            Some(measure) => row.values.get(measure).map(|value| value.mean),
            None => row.fidelity.get("ranking").map(|value| value.mean),
        };
        let figures: Vec<String> =
            self.rows.iter().filter_map(|row| Some(format!("{} {:.4}", row.decoder, of(row)?))).collect();
        let name = measure.map_or_else(|| "pairs in the reference's order".to_owned(), RankingMeasure::label);
        let more = figures.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more decoders") } else { String::new() };
        (!figures.is_empty()).then(|| format!("{name} {}{more}", figures[..figures.len().min(SHOWN)].join(", ")))
    }

    /// Row of a decoder.
    #[must_use]
    pub fn row(&self, decoder: &str) -> Option<&RowEvaluation> {
        self.rows.iter().chain([&self.first_stage]).find(|row| row.decoder == decoder)
    }
}

/// A row against another on the same queries.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Mean difference, own minus baseline.
    pub difference: f64,
    /// Bootstrap interval of the mean difference.
    pub interval: Interval,
    /// Of the two-sided paired t-test.
    pub p_value: f64,
}

/// Compares a measure of two rows query by query.
///
/// # Errors
/// A measure that one of them lacks, different queries, fewer than two.
pub fn compare_rows(
    row: &RowEvaluation,
    baseline: &RowEvaluation,
    measure: RankingMeasure,
    bootstrap: &Bootstrap,
) -> Result<Comparison, EvaluatorError> {
    let values = |row: &RowEvaluation| row.per_query.get(&measure).cloned().unwrap_or_default();
    let (own, base) = (values(row), values(baseline));
    let interval = bootstrap.difference(&own, &base)?;
    let test = paired_t_test(&own, &base)?;
    Ok(Comparison { difference: test.difference, interval, p_value: test.p_value })
}
