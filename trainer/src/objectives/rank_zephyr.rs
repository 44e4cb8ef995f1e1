//! RankZephyr (Pradeep et al., arXiv:2312.02724): permutation language modelling.
//!
//! The model learns to write the teacher's ranking `[B] > [A] > ..`; the loss is the mean negative log-likelihood of the
//! answer's tokens (label smoothing 0) over the global batch.

use data::batch::MicroBatch;
use model::CausalLm;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{Loss, Objective, Totals, language_modelling_only};

/// RankZephyr has no settings of its own: `rank_zephyr: {}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RankZephyrConfig {}

/// See the module's documentation.
#[derive(Debug, Clone, Copy)]
pub struct RankZephyr;

impl Objective for RankZephyr {
    fn name(&self) -> &'static str {
        "rank_zephyr"
    }

    fn part_names(&self) -> &'static [&'static str] {
        &["lm"]
    }

    fn loss(&self, model: &CausalLm, hidden: &Tensor, batch: &MicroBatch, totals: &Totals) -> Loss {
        language_modelling_only(model, hidden, batch, totals)
    }
}
