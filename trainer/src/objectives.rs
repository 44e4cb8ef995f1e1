//! What a model is trained for: one file per method, found by the paper's name.
//!
//! An objective turns (model, micro-batch) into a loss with named parts. It knows nothing of devices, ranks or
//! precision. Every part is a *sum* divided by a count of the whole global batch ([`Totals`]), so neither the cut into
//! micro-batches nor the number of ranks changes the gradient.

mod columnar;
mod first;
mod rank_zephyr;
pub mod ranking_loss;

use data::batch::MicroBatch;
use model::causal_lm::NamedParameter;
use model::{AttentionPattern, CausalLm};
use native::ops::cross_entropy_sum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

pub use columnar::{Columnar, ColumnarConfig, ColumnarRopeConfig, SequentialQa, SequentialQaConfig};
pub use first::{First, FirstConfig};
pub use rank_zephyr::{RankZephyr, RankZephyrConfig};

/// Which objective, and its own settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectiveConfig {
    /// Permutation language modelling (Pradeep et al. 2023): the answer's tokens, nothing else.
    RankZephyr(RankZephyrConfig),
    /// Language modelling plus a learning-to-rank loss on the first identifier's logits (Reddy et al. 2024).
    First(FirstConfig),
    /// Documents whose paragraphs are read side by side; every token is learned.
    Columnar(ColumnarConfig),
    /// Questions about a text, side by side; the answers are learned.
    ColumnarQa(ColumnarConfig),
    /// Questions about a text, one at a time, in an ordinary prompt; the answers are learned.
    SequentialQa(SequentialQaConfig),
}

/// What an objective is trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TrainsOn<'a> {
    /// Candidate lists with a target order (`data.sets`).
    Lists,
    /// Branched texts in columns (`data.branched`); all their tokens, or the answers.
    Columns {
        /// The layout.
        layout: &'a ColumnarConfig,
        /// All tokens are learned.
        everything: bool,
    },
    /// Branched texts (`data.branched`), one question at a time.
    Questions,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self::RankZephyr(RankZephyrConfig {})
    }
}

impl ObjectiveConfig {
    /// The objective these settings describe.
    pub fn build(&self) -> Box<dyn Objective> {
        match self {
            Self::RankZephyr(_) => Box::new(RankZephyr),
            Self::First(config) => Box::new(First::new(config)),
            Self::Columnar(config) => Box::new(Columnar::new("columnar", config)),
            Self::ColumnarQa(config) => Box::new(Columnar::new("columnar_qa", config)),
            Self::SequentialQa(_) => Box::new(SequentialQa),
        }
    }

    /// What it is trained on.
    pub fn trains_on(&self) -> TrainsOn<'_> {
        match self {
            Self::RankZephyr(_) | Self::First(_) => TrainsOn::Lists,
            Self::Columnar(layout) => TrainsOn::Columns { layout, everything: true },
            Self::ColumnarQa(layout) => TrainsOn::Columns { layout, everything: false },
            Self::SequentialQa(_) => TrainsOn::Questions,
        }
    }

    /// Whether it learns from the logits of one token a candidate, beside the answer's text.
    pub fn reads_one_token(&self) -> bool {
        matches!(self, Self::First(config) if config.lambda() > 0.0)
    }

    /// Problems with the settings, one line each.
    pub fn validate(&self) -> Vec<String> {
        match self {
            Self::RankZephyr(_) | Self::SequentialQa(_) => Vec::new(),
            Self::First(config) => config.validate(),
            Self::Columnar(config) => config.validate("columnar"),
            Self::ColumnarQa(config) => config.validate("columnar_qa"),
        }
    }
}

/// Counts over all micro-batches of all ranks of one optimiser step: the divisors of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    /// Tokens with a label.
    pub label_tokens: f64,
    /// Lists with a ranking target.
    pub lists: f64,
    /// Tokens read.
    pub tokens: f64,
    /// Samples.
    pub samples: f64,
}

impl Totals {
    /// Counts of one rank's share. Reads shapes only.
    pub fn of(micro_batches: &[MicroBatch]) -> Self {
        let mut totals = Self::default();
        for batch in micro_batches {
            totals.label_tokens += batch.labels.numel() as f64;
            totals.lists += batch.rankings.len() as f64;
            totals.tokens += batch.input_ids.numel() as f64;
            totals.samples += batch.query_ids.len() as f64;
        }
        totals
    }
}

/// One micro-batch's share of the loss.
#[derive(Debug)]
pub struct Loss {
    /// What is differentiated; a float32 scalar. None when the micro-batch has nothing to learn from.
    pub total: Option<Tensor>,
    /// Float32 scalars without weights, in the order of [`Objective::part_names`]; None counts as 0.
    pub parts: Vec<Option<Tensor>>,
}

/// A training objective.
pub trait Objective {
    /// Name as in the configuration.
    fn name(&self) -> &'static str;

    /// Names of [`Loss::parts`].
    fn part_names(&self) -> &'static [&'static str];

    /// What it changes about the model before training.
    ///
    /// # Errors
    /// What does not fit, with the key it is about.
    fn prepare(&self, _model: &mut CausalLm) -> Result<(), String> {
        Ok(())
    }

    /// Who sees whom in the forward pass. Default: the packed samples, each causal.
    fn pattern(&self, batch: &MicroBatch) -> AttentionPattern {
        AttentionPattern::Packed { cu_seqlens: batch.cu_seqlens.clone() }
    }

    /// Tokens whose hidden states the loss reads, sorted, each once; `None` for (nearly) all. Default: those with a label and those
    /// that rank. The model's last layer leaves the others out.
    fn rows(&self, batch: &MicroBatch) -> Option<Vec<i64>> {
        let mut rows = Vec::<i64>::try_from(&batch.label_rows).expect("label rows are a list of int64");
        rows.extend(batch.rankings.iter().map(|ranking| ranking.row));
        rows.sort_unstable();
        rows.dedup();
        let worth_it = !rows.is_empty() && 2 * rows.len() as i64 <= batch.num_tokens();
        worth_it.then_some(rows)
    }

    /// Loss of one micro-batch from its final hidden states `[tokens, hidden]`; the sum over a step's micro-batches and ranks
    /// is the step's loss.
    fn loss(&self, model: &CausalLm, hidden: &Tensor, batch: &MicroBatch, totals: &Totals) -> Loss;

    /// Trainable tensors of the objective's own (heads on the model); none for most.
    fn parameters(&self) -> Vec<NamedParameter> {
        Vec::new()
    }
}

/// Loss of an objective that is language modelling and nothing else.
pub(crate) fn language_modelling_only(model: &CausalLm, hidden: &Tensor, batch: &MicroBatch, totals: &Totals) -> Loss {
    let lm = language_modelling_loss(model, hidden, batch, totals);
    Loss { total: lm.as_ref().map(Tensor::shallow_clone), parts: vec![lm] }
}

/// Negative log-likelihood summed over the micro-batch's labels, divided by the label tokens of the global batch.
/// Logits are computed for label rows only. `hidden` `[tokens, hidden]`.
pub(crate) fn language_modelling_loss(
    model: &CausalLm,
    hidden: &Tensor,
    batch: &MicroBatch,
    totals: &Totals,
) -> Option<Tensor> {
    if batch.labels.numel() == 0 {
        return None;
    }
    let device = hidden.device();
    let rows = hidden.index_select(0, &batch.label_rows.to_device(device)); // [labels, hidden]
    let logits = model.logits(&rows, None); // [labels, vocab]
    let sum = cross_entropy_sum(&logits, &batch.labels.to_device(device)).to_kind(Kind::Float);
    Some(sum / totals.label_tokens)
}
