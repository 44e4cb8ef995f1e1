//! Columnar parallel decoding: branches side by side behind one background, each token learning its branch's next one.
//!
//! `columnar` learns every token (documents whose paragraphs are branches), `columnar_qa` the answers to questions. `sequential_qa`
//! learns the same answers one question at a time, as an ordinary model reads them: the baseline. The loss is the mean negative
//! log-likelihood over the learned tokens of the global batch.

use data::batch::MicroBatch;
use model::{AttentionPattern, BranchAlignment, CausalLm, ColumnarRope, TargetAlignment};
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

/// Which pairs of a head's dimensions turn with branch and column in turn, in place of the linear position: `pairs` or `ratio`.
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
            Some(
                ColumnarRopeConfig { pairs: Some(_), ratio: Some(_), .. }
                | ColumnarRopeConfig { pairs: None, ratio: None, .. },
            ) => {
                vec![format!("`{key}`: wanted one of `pairs` and `ratio`")]
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
        let rope = match (&self.pairs, self.ratio) {
            (Some(pairs), _) => ColumnarRope { pairs: pairs.clone(), branch_stride: 0.0 },
            (None, ratio) => ColumnarRope::last_pairs(head_dim, ratio.unwrap_or_default()),
        };
        ColumnarRope { branch_stride: self.branch_stride, ..rope }
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

impl Objective for Columnar {
    fn name(&self) -> &'static str {
        self.name
    }

    fn part_names(&self) -> &'static [&'static str] {
        &["lm"]
    }

    fn prepare(&self, model: &mut CausalLm) -> Result<(), String> {
        let Some(rope) = &self.rope else { return Ok(()) };
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
