//! What an experiment file may hold.

use std::collections::BTreeMap;
use std::path::PathBuf;

use data::branched::{BranchPromptConfig, BranchedSetConfig};
use data::prompt::PromptConfig;
use data::sources::RankingSetConfig;
use evaluator::answer::AnswerConfig;
use evaluator::evaluate::{EvaluateConfig, SignificanceBaseline};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trainer::TrainConfig;

use super::device::DeviceChoice;
use super::heads::HeadsSection;
use super::names::Names;

/// One experiment: a model, data, training stages, evaluations, a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExperimentConfig {
    /// Names the run folder: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Decides what is random in training: the order of samples, dropout, new weights. Data sets have seeds of their own. Default 42.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// Where run folders are made. Default `runs`.
    #[serde(default = "default_output_dir")]
    pub output_dir: PathBuf,
    /// The model to start from.
    pub model: ModelSection,
    /// Prompt and data sets.
    pub data: DataSection,
    /// Training; absent: the model is only evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<TrainSection>,
    /// Training of the heads that decoders need; absent: no such decoder can be evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<HeadsSection>,
    /// Evaluation; absent: nothing is evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluate: Option<EvaluateConfig>,
    /// Evaluation of answers to questions about texts; absent: no such answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerConfig>,
    /// The report.
    #[serde(default)]
    pub report: ReportSection,
}

fn default_seed() -> u64 {
    42
}

fn default_output_dir() -> PathBuf {
    "runs".into()
}

/// The model to start from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Hugging Face folder, or hub id `org/name`.
    pub path: String,
    /// Folder of another tokenizer. Default: the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// Tokens of prompt and answer at most. Default: what the model's config.json allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<usize>,
    /// Where to compute: `auto` (a GPU when there is one), `cpu`, `cuda` or `cuda:N`. Default `auto`.
    #[serde(default)]
    pub device: DeviceChoice,
    /// Kind of the weights in evaluation: `bf16` or `fp32`; training has a `precision` of its own. Default `bf16`.
    #[serde(default)]
    pub precision: EvaluationPrecision,
}

/// Kind of the weights in evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvaluationPrecision {
    /// bfloat16.
    #[default]
    Bf16,
    /// float32.
    Fp32,
}

impl EvaluationPrecision {
    /// The tensors' kind.
    pub fn kind(self) -> tch::Kind {
        match self {
            Self::Bf16 => tch::Kind::BFloat16,
            Self::Fp32 => tch::Kind::Float,
        }
    }
}

/// Prompt and data sets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSection {
    /// What the model reads: the same in training and evaluation.
    #[serde(default)]
    pub prompt: PromptConfig,
    /// Malformed rows stop the run instead of being counted and shown. Default false.
    #[serde(default)]
    pub strict: bool,
    /// Evaluate models that were trained with another prompt; otherwise that is an error. Default false.
    #[serde(default)]
    pub allow_prompt_mismatch: bool,
    /// Sets of candidate lists by name; stages and evaluations refer to them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sets: BTreeMap<String, RankingSetConfig>,
    /// Sets of texts with branches (questions about them, or paragraphs side by side) by name; no name is in `sets` as well.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub branched: BTreeMap<String, BranchedSetConfig>,
    /// What the model reads of texts with branches.
    #[serde(default, skip_serializing_if = "is_default_branch_prompt")]
    pub branch_prompt: BranchPromptConfig,
}

fn is_default_branch_prompt(prompt: &BranchPromptConfig) -> bool {
    *prompt == BranchPromptConfig::default()
}

/// Training stages. In the file, settings that hold for all stages stand in `train` itself, beside `stages`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainSection {
    /// The stages, in order. Without this key, `train` is one stage.
    pub stages: Vec<StageSection>,
}

/// One training stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageSection {
    /// Names the stage's folders and its rows in tables: letters, digits, `-`, `_` and `.`. Default: the objective's name.
    #[serde(default)]
    pub name: String,
    /// Weights to start from: `base` or an earlier stage. Default: the stage before, and `base` for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Data set, or list of them (their samples together), to train on.
    pub data: Names,
    /// Objective, optimiser, schedule, batches, precision, checkpoints.
    pub settings: TrainConfig,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReportSection {
    /// Title. Default: the experiment's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// A paragraph for the reader: what was tried and why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub notes: String,
}

/// Name of the weights the experiment starts from.
pub const BASE: &str = "base";

impl ExperimentConfig {
    /// Training stages; none without `train`.
    pub fn stages(&self) -> &[StageSection] {
        self.train.as_ref().map_or(&[], |train| &train.stages)
    }

    /// Fills in what follows from other values: stage names, where stages start, which sets and models are evaluated.
    pub fn fill_in(&mut self) {
        let mut before = BASE.to_owned();
        for stage in self.train.iter_mut().flat_map(|train| &mut train.stages) {
            if stage.name.is_empty() {
                stage.name = stage.settings.objective.build().name().to_owned();
            }
            stage.from.get_or_insert_with(|| before.clone());
            before.clone_from(&stage.name);
        }
        let of_heads = self.heads.iter().flat_map(|heads| heads.train.0.iter().chain(&heads.validation.0).cloned());
        let of_stages = self.stages().iter().flat_map(|stage| stage.data.0.clone());
        let trained_on: Vec<String> = of_stages.chain(of_heads).collect();
        let stage_names: Vec<String> = self.stages().iter().map(|stage| stage.name.clone()).collect();
        let named = |name: &mut String| match (name.as_str(), stage_names.last()) {
            ("untrained", _) | ("final", None) => BASE.clone_into(name),
            ("final", Some(last)) => name.clone_from(last),
            _ => {}
        };
        if let Some(answer) = &mut self.answer {
            answer.systems.iter_mut().for_each(|system| named(&mut system.model));
            answer.baseline.iter_mut().for_each(|baseline| named(&mut baseline.model));
        }
        let Some(evaluate) = &mut self.evaluate else { return };
        if evaluate.sets.is_empty() {
            evaluate.sets = self.data.sets.keys().filter(|name| !trained_on.contains(name)).cloned().collect();
        }
        evaluate.models.iter_mut().for_each(named);
        if let SignificanceBaseline::Model(name) = &mut evaluate.significance_baseline {
            named(name);
        }
        let mut seen = std::collections::HashSet::new();
        evaluate.models.retain(|name| seen.insert(name.clone()));
    }

    /// Sets that are evaluated on.
    pub fn evaluation_sets(&self) -> impl Iterator<Item = &str> {
        self.evaluate.iter().flat_map(|evaluate| &evaluate.sets).map(String::as_str)
    }

    /// The stage of that name.
    pub fn stage(&self, name: &str) -> Option<&StageSection> {
        self.stages().iter().find(|stage| stage.name == name)
    }

    /// Weights a stage starts from.
    pub fn start_of<'a>(&'a self, stage: &'a StageSection) -> &'a str {
        stage.from.as_deref().unwrap_or(BASE)
    }
}
