//! Settings of training as a user writes them: the `train` section of an experiment file.

use data::batch::{LoaderConfig, LoaderOptions, TooLong};
use model::lora::LoraConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Kind;

use crate::objectives::ObjectiveConfig;
use crate::schedule::{LearningRate, Schedule};

/// Kinds of weights, gradients and moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Everything float32.
    Fp32,
    /// The model computes in bfloat16; the optimiser keeps a float32 copy of the weights and float32 moments, and gradients
    /// of several micro-batches are added in float32.
    Bf16Master,
    /// Everything bfloat16, the moments included: least memory, loses small updates.
    Bf16,
}

impl Precision {
    /// Kind of the model's weights.
    pub fn weights(self) -> Kind {
        match self {
            Self::Fp32 => Kind::Float,
            Self::Bf16Master | Self::Bf16 => Kind::BFloat16,
        }
    }

    /// Kind of AdamW's moments.
    pub fn moments(self) -> Kind {
        match self {
            Self::Fp32 | Self::Bf16Master => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }

    /// Whether the optimiser keeps float32 copies of the weights.
    pub fn keeps_masters(self) -> bool {
        self == Self::Bf16Master
    }
}

/// When checkpoints are written and how many stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Optimiser steps between checkpoints; 0 writes one at the end and when stopped only. Default 100.
    pub every_steps: u64,
    /// Checkpoints kept, newest first, at least 1. Default 2: one to fall back on.
    pub keep: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every_steps: 100, keep: 2 }
    }
}

/// Declares [`TrainConfig`] and [`StageConfig`] from one list, so that a stage can override exactly what a run can set.
macro_rules! settings {
    (
        always { $( $(#[$doc:meta])* $name:ident : $type:ty = $default:expr, )* }
        optional { $( $(#[$optional_doc:meta])* $optional:ident : $optional_type:ty, )* }
    ) => {
        /// The `train` section: settings of every stage, and the stages.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct TrainConfig {
            $( $(#[$doc])* pub $name: $type, )*
            $( $(#[$optional_doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $optional: Option<$optional_type>, )*
            /// Stages in order, each starting from the weights of the one before. Default: one stage with the settings
            /// above and the experiment's first training set.
            #[serde(skip_serializing_if = "Vec::is_empty")]
            pub stages: Vec<StageConfig>,
        }

        /// One stage: its name, its data, and whatever differs from the run's settings.
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct StageConfig {
            /// Names the stage's folder; letters, digits, `-` and `_`.
            pub name: String,
            /// Data set of the `data` section to train on. Default: the experiment's first training set.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub data: Option<String>,
            $( $(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $name: Option<$type>, )*
            $( $(#[$optional_doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $optional: Option<$optional_type>, )*
        }

        impl Default for TrainConfig {
            fn default() -> Self {
                Self { $( $name: $default, )* $( $optional: None, )* stages: Vec::new() }
            }
        }

        impl TrainConfig {
            /// Settings of one stage: the stage's where given, else the run's.
            fn overridden_by(&self, stage: &StageConfig) -> Self {
                Self {
                    $( $name: stage.$name.clone().unwrap_or_else(|| self.$name.clone()), )*
                    $( $optional: stage.$optional.clone().or_else(|| self.$optional.clone()), )*
                    stages: Vec::new(),
                }
            }
        }
    };
}

settings! {
    always {
        /// What to train for. Default `rank_zephyr: {}`.
        objective: ObjectiveConfig = ObjectiveConfig::default(),
        /// Peak learning rate, above 0. Default 5e-6, the published one for 7B models; small models want 1e-4 and more.
        learning_rate: f64 = 5e-6,
        /// Shape after warm-up: `constant`, `linear` or `cosine`. Default `cosine`.
        schedule: Schedule = Schedule::Cosine,
        /// Decoupled weight decay of matrices (never of norms and biases), at least 0. Default 0.
        weight_decay: f64 = 0.0,
        /// AdamW's two decay rates, each in [0, 1). Default [0.9, 0.999].
        betas: [f64; 2] = [0.9, 0.999],
        /// AdamW's epsilon, above 0. Default 1e-8.
        eps: f64 = 1e-8,
        /// Gradients longer than this are scaled down to it; 0 never clips. Default 1.
        max_grad_norm: f64 = 1.0,
        /// Passes over the data, at least 1. Default 1.
        epochs: u64 = 1,
        /// Samples of one optimiser step over all ranks, at least 1. Default 16.
        global_batch_size: usize = 16,
        /// Samples of one forward and backward pass at most, at least 1. Changes speed and memory, never the gradient.
        /// Default 4.
        micro_batch_size: usize = 4,
        /// Tokens of one forward and backward pass at most, and so of a sample. Default 4096.
        max_micro_batch_tokens: usize = 4096,
        /// What happens to a longer sample: `skip` (counted) or `error`. Default `skip`.
        too_long: TooLong = TooLong::Skip,
        /// Kinds of weights and optimiser state: `fp32`, `bf16_master` or `bf16`. Default `bf16_master`.
        precision: Precision = Precision::Bf16Master,
        /// Recompute activations in the backward pass: less memory, about a third more time. Default false.
        gradient_checkpointing: bool = false,
        /// NEFTune's alpha: uniform noise of +-alpha / sqrt(tokens x features) on embeddings; 0 for none. Default 0
        /// (published 5).
        neftune_alpha: f64 = 0.0,
        /// Draw a new order of samples every epoch. Default true.
        shuffle: bool = true,
        /// Shuffle the candidates of each list, so that their places tell nothing. Default false.
        shuffle_candidates: bool = false,
        /// Optimiser steps tokenised ahead, at least 1. Default 2.
        prefetch_steps: usize = 2,
        /// Checkpoints.
        checkpoint: CheckpointConfig = CheckpointConfig::default(),
        /// Optimiser steps between lines of the log and the metrics, at least 1. Default 1.
        log_every: u64 = 1,
        /// Steps with a loss or gradient that is not finite are skipped; after this many the run stops. Default 10.
        max_skipped_steps: u64 = 10,
        /// Seconds a rank waits for the others before it gives up, at least 1. Default 600.
        collective_timeout_seconds: u64 = 600,
    }
    optional {
        /// Optimiser steps at most, at least 1. Default: as many as `epochs` take. The run's value bounds every stage.
        max_steps: u64,
        /// Steps over which the learning rate rises. Default 0; not together with `warmup_ratio`.
        warmup_steps: u64,
        /// As `warmup_steps`, as a share of the stage's steps in [0, 1].
        warmup_ratio: f64,
        /// Optimiser steps between evaluations. Default: none before the end.
        eval_every_steps: u64,
        /// Train low-rank adapters instead of the weights: `lora: {r: 16}`. Default: all weights.
        lora: LoraConfig,
    }
}

/// One stage with all its settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Name of its folder.
    pub name: String,
    /// Data set of the `data` section; None for the experiment's first.
    pub data: Option<String>,
    /// Settings; its `stages` are empty.
    pub config: TrainConfig,
}

impl TrainConfig {
    /// The stages with their settings; without any, one named `main`.
    pub fn resolved_stages(&self) -> Vec<Stage> {
        if self.stages.is_empty() {
            return vec![Stage { name: "main".to_owned(), data: None, config: self.clone() }];
        }
        self.stages
            .iter()
            .map(|stage| Stage { name: stage.name.clone(), data: stage.data.clone(), config: self.for_stage(stage) })
            .collect()
    }

    /// Settings of one stage: the stage's where given, else the run's; `max_steps` is the lesser of the two, and a stage's
    /// way to give the warm-up replaces the run's.
    pub fn for_stage(&self, stage: &StageConfig) -> Self {
        let mut config = self.overridden_by(stage);
        config.max_steps = [self.max_steps, stage.max_steps].into_iter().flatten().min();
        if stage.warmup_steps.is_some() || stage.warmup_ratio.is_some() {
            (config.warmup_steps, config.warmup_ratio) = (stage.warmup_steps, stage.warmup_ratio);
        }
        config
    }

    /// Optimiser steps for `num_samples` samples: epochs stand end to end, so only the very last step sees samples of an
    /// epoch more.
    pub fn num_steps(&self, num_samples: u64) -> u64 {
        let steps = (num_samples * self.epochs).div_ceil(self.global_batch_size.max(1) as u64);
        self.max_steps.map_or(steps, |limit| limit.min(steps))
    }

    /// The learning rate over a stage of `num_steps` steps.
    pub fn learning_rate(&self, num_steps: u64) -> LearningRate {
        let share = self.warmup_ratio.map(|ratio| (ratio * num_steps as f64).round() as u64);
        LearningRate {
            peak: self.learning_rate,
            schedule: self.schedule,
            warmup_steps: self.warmup_steps.or(share).unwrap_or(0),
            num_steps,
        }
    }

    /// The loader's settings for one rank of a run.
    pub fn loader_config(&self, seed: u64, rank: usize, world_size: usize, num_steps: u64) -> LoaderConfig {
        LoaderConfig {
            seed,
            rank,
            world_size,
            global_batch_size: self.global_batch_size,
            micro_batch_size: self.micro_batch_size,
            max_micro_batch_tokens: self.max_micro_batch_tokens,
            prefetch_steps: self.prefetch_steps,
            num_steps,
            shuffle: self.shuffle,
        }
    }

    /// The loader's settings that do not touch the order of samples.
    pub fn loader_options(&self) -> LoaderOptions {
        let too_long = self.too_long;
        LoaderOptions { shuffle_candidates: self.shuffle_candidates, too_long, ..LoaderOptions::default() }
    }

    /// Problems with the settings, those of the stages included, one line each; empty when all is well.
    pub fn validate(&self) -> Vec<String> {
        if self.stages.is_empty() {
            return self.validate_settings();
        }
        let mut problems = Vec::new();
        for (index, stage) in self.stages.iter().enumerate() {
            let name = &stage.name;
            let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
            if name.is_empty() || !name.chars().all(plain) {
                problems.push(format!("`stages[{index}].name` is `{name}`, wanted letters, digits, `-` and `_`"));
            }
            if self.stages[..index].iter().any(|earlier| earlier.name == *name) {
                problems.push(format!("`stages[{index}].name` is `{name}` again, wanted a name of its own"));
            }
            let of_stage = self.for_stage(stage).validate_settings();
            problems.extend(of_stage.into_iter().map(|problem| format!("stage `{name}`: {problem}")));
        }
        problems
    }

    fn validate_settings(&self) -> Vec<String> {
        let mut problems = self.objective.validate();
        let mut wanted = |holds: bool, name: &str, got: String, wanted: &str| {
            if !holds {
                problems.push(format!("`{name}` is {got}, wanted {wanted}"));
            }
        };
        let not_negative = |value: f64| value.is_finite() && value >= 0.0;
        let rate = self.learning_rate;
        wanted(rate.is_finite() && rate > 0.0, "learning_rate", rate.to_string(), "a finite number above 0");
        for (name, value) in [
            ("weight_decay", self.weight_decay),
            ("max_grad_norm", self.max_grad_norm),
            ("neftune_alpha", self.neftune_alpha),
        ] {
            wanted(not_negative(value), name, value.to_string(), "a finite number of at least 0");
        }
        wanted(self.eps.is_finite() && self.eps > 0.0, "eps", self.eps.to_string(), "a finite number above 0");
        for (index, beta) in self.betas.iter().enumerate() {
            wanted((0.0..1.0).contains(beta), &format!("betas[{index}]"), beta.to_string(), "at least 0 and below 1");
        }
        for (name, value) in [
            ("epochs", self.epochs),
            ("max_steps", self.max_steps.unwrap_or(1)),
            ("eval_every_steps", self.eval_every_steps.unwrap_or(1)),
            ("global_batch_size", self.global_batch_size as u64),
            ("micro_batch_size", self.micro_batch_size as u64),
            ("max_micro_batch_tokens", self.max_micro_batch_tokens as u64),
            ("prefetch_steps", self.prefetch_steps as u64),
            ("checkpoint.keep", self.checkpoint.keep as u64),
            ("log_every", self.log_every),
            ("collective_timeout_seconds", self.collective_timeout_seconds),
        ] {
            wanted(value > 0, name, value.to_string(), "at least 1");
        }
        if let Some(ratio) = self.warmup_ratio {
            wanted((0.0..=1.0).contains(&ratio), "warmup_ratio", ratio.to_string(), "between 0 and 1");
            wanted(self.warmup_steps.is_none(), "warmup_ratio", ratio.to_string(), "either it or `warmup_steps`");
        }
        if let Some(lora) = &self.lora {
            problems.extend(lora.validate().into_iter().map(|problem| format!("`lora`: {problem}")));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_overrides_the_run_and_the_run_bounds_its_steps() {
        let run: TrainConfig = serde_json::from_str(
            r#"{"learning_rate": 1e-4, "max_steps": 5, "warmup_ratio": 0.5, "stages": [
                {"name": "generated", "max_steps": 40},
                {"name": "squad", "data": "squad", "learning_rate": 2e-4, "warmup_steps": 3,
                 "objective": {"first": {"ranking_loss": "list_net"}}}]}"#,
        )
        .unwrap();
        assert_eq!(run.validate(), Vec::<String>::new());
        let stages = run.resolved_stages();
        assert_eq!((stages[0].config.max_steps, stages[0].config.learning_rate), (Some(5), 1e-4));
        assert_eq!(stages[0].config.learning_rate(10).warmup_steps, 5);
        assert_eq!((stages[1].config.max_steps, stages[1].config.learning_rate), (Some(5), 2e-4));
        assert_eq!(stages[1].config.learning_rate(10).warmup_steps, 3);
        let ObjectiveConfig::First(first) = &stages[1].config.objective else { panic!("not FIRST") };
        assert_eq!(first.lambda(), 0.1);
    }

    #[test]
    fn all_problems_are_reported_with_their_values() {
        let config: TrainConfig = serde_json::from_str(
            r#"{"learning_rate": 0, "betas": [0.9, 1.0], "micro_batch_size": 0, "warmup_steps": 3, "warmup_ratio": 2}"#,
        )
        .unwrap();
        let problems = config.validate();
        assert_eq!(problems.len(), 5, "{problems:#?}");
        assert!(problems.contains(&"`betas[1]` is 1, wanted at least 0 and below 1".to_owned()), "{problems:#?}");
    }

    #[test]
    fn unknown_keys_are_refused() {
        for text in
            [r#"{"learning_rte": 1}"#, r#"{"stages": [{"nme": "a"}]}"#, r#"{"objective": {"first": {"lamda": 1}}}"#]
        {
            let error = serde_json::from_str::<TrainConfig>(text).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{error}");
        }
    }

    #[test]
    fn the_resolved_config_reads_back() {
        let config = TrainConfig { lora: Some(LoraConfig::default()), ..TrainConfig::default() };
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<TrainConfig>(&text).unwrap(), config);
    }

    #[test]
    fn steps_follow_epochs_and_limit() {
        let mut config = TrainConfig { epochs: 3, ..TrainConfig::default() };
        assert_eq!(config.num_steps(33), 7);
        config.max_steps = Some(4);
        assert_eq!(config.num_steps(33), 4);
    }
}
