//! Columnar parallel decoding: branches side by side behind one background, each token learning its branch's next one.
//!
//! `columnar` learns every token (documents whose paragraphs are branches), `columnar_qa` the answers to questions. `sequential_qa`
//! learns the same answers one question at a time, as an ordinary model reads them: the baseline. The loss is the mean negative
//! log-likelihood over the learned tokens of the global batch.

use data::batch::MicroBatch;
use model::{AttentionPattern, BranchAlignment, CausalLm, ColumnarPositions, ColumnarRope, TargetAlignment};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{Loss, Objective, Totals, language_modelling_only};

/// The layout that is trained on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ColumnarConfig {
    /// `prompts`: questions end in the same column, as in decoding; `ends`: answers end in the same column, as published, which
    /// decoding cannot do. Default `prompts`.
    pub alignment: BranchAlignment,
    /// `branch`: a token learns the next one of its own branch; `linear`: the next one in linear order, as published, which mostly is
    /// another branch's. Default `branch`.
    pub target_alignment: TargetAlignment,
    /// Two-dimensional positions; they are written into the model and stay with it. Default: those the model has; none if it has
    /// none (a token's position is then its place in linear order).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope: Option<ColumnarRopeConfig>,
}

/// Which pairs of a head's dimensions turn with branch and column in turn (`pairs` or `ratio`), and what the others turn with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnarRopeConfig {
    /// Pairs, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairs: Option<Vec<i64>>,
    /// The last pairs, as a share of all, more than 0 and at most 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Positions from one branch to the next. Default 32.
    #[serde(default = "default_stride")]
    pub branch_stride: f64,
    /// What the other pairs turn with. `linear`: the place in linear order, as published; `column`: the column; `branch_offset`: the
    /// column and `branch_stride` for every branch after the first, so that each branch reads as an ordinary text (`pairs` and `ratio`
    /// may then be left out). Default `linear`.
    #[serde(default)]
    pub positions: ColumnarPositions,
}

fn default_stride() -> f64 {
    32.0
}

/// `sequential_qa` has no settings of its own: `sequential_qa: {}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SequentialQaConfig {}

impl ColumnarConfig {
    pub(super) fn validate(&self, name: &str) -> Vec<String> {
        let key = format!("objective.{name}.rope");
        match &self.rope {
            Some(ColumnarRopeConfig { pairs: Some(_), ratio: Some(_), .. }) => {
                vec![format!("`{key}`: wanted one of `pairs` and `ratio`")]
            }
            Some(ColumnarRopeConfig { pairs: None, ratio: None, positions, .. })
                if *positions != ColumnarPositions::BranchOffset =>
            {
                vec![format!("`{key}`: wanted one of `pairs` and `ratio`; without them nothing tells branches apart")]
            }
            Some(ColumnarRopeConfig { ratio: Some(ratio), .. }) if !(*ratio > 0.0 && *ratio <= 1.0) => {
                vec![format!("`{key}.ratio` is {ratio}, wanted more than 0 and at most 1")]
            }
            _ => Vec::new(),
        }
    }
}

impl ColumnarRopeConfig {
    /// For heads of `head_dim`.
    fn resolve(&self, head_dim: i64) -> ColumnarRope {
        let pairs = match (&self.pairs, self.ratio) {
            (Some(pairs), _) => pairs.clone(),
            (None, ratio) => ColumnarRope::last_pairs(head_dim, ratio.unwrap_or_default()),
        };
        ColumnarRope { pairs, branch_stride: self.branch_stride, positions: self.positions }
    }
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct Columnar {
    name: &'static str,
    rope: Option<ColumnarRopeConfig>,
}

impl Columnar {
    /// Named as in the configuration.
    pub fn new(name: &'static str, config: &ColumnarConfig) -> Self {
        Self { name, rope: config.rope.clone() }
    }
}

/// Radians below which a warning is given.
const LEAST_BRANCH_ANGLE: f64 = 0.1;

impl Columnar {
    fn take_positions(&self, model: &mut CausalLm, rope: &ColumnarRopeConfig) -> Result<(), String> {
        let wanted = rope.resolve(model.config.head_dim);
        match &model.config.columnar_rope {
            Some(present) if *present == wanted => Ok(()),
            Some(present) => Err(format!(
                "`objective.{}.rope`: the model was trained with {present:?}, this stage wants {wanted:?}; what was learned before \
                 would be undone. Leave `rope` out to go on with the model's own",
                self.name
            )),
            None => {
                model.set_columnar_rope(wanted).map_err(|problem| format!("`objective.{}.rope`: {problem}", self.name))
            }
        }
    }
}

impl Objective for Columnar {
    fn name(&self) -> &'static str {
        self.name
    }

    fn part_names(&self) -> &'static [&'static str] {
        &["lm"]
    }

    fn prepare(&self, model: &mut CausalLm) -> Result<(), String> {
        if let Some(rope) = &self.rope {
            self.take_positions(model, rope)?;
        }
        if let Some(angle) = model.branch_angle().filter(|angle| *angle < LEAST_BRANCH_ANGLE) {
            tracing::warn!(
                "neighbouring branches differ by an angle of at most {angle:.4}: the model can hardly tell its own branch's tokens from \
                 another's. Take pairs of higher frequency, a larger `branch_stride`, or `positions: branch_offset`"
            );
        }
        Ok(())
    }

    fn pattern(&self, batch: &MicroBatch) -> AttentionPattern {
        AttentionPattern::Columnar { layouts: batch.layouts.clone() }
    }

    fn loss(&self, model: &CausalLm, hidden: &Tensor, batch: &MicroBatch, totals: &Totals) -> Loss {
        language_modelling_only(model, hidden, batch, totals)
    }
}

/// One question at a time.
#[derive(Debug, Clone, Copy)]
pub struct SequentialQa;

impl Objective for SequentialQa {
    fn name(&self) -> &'static str {
        "sequential_qa"
    }

    fn part_names(&self) -> &'static [&'static str] {
        &["lm"]
    }

    fn loss(&self, model: &CausalLm, hidden: &Tensor, batch: &MicroBatch, totals: &Totals) -> Loss {
        language_modelling_only(model, hidden, batch, totals)
    }
}
