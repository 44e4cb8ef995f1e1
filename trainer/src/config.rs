//! Settings of one training stage as a user writes them. The experiment file composes stages; see the pipeline.

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

/// What each of several ranks holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// Weights and optimiser state, all of them; gradients are summed.
    #[default]
    Ddp,
    /// Weights, and its share of the optimiser's state: the same result to the bit, less memory, a little more traffic.
    Zero1,
}

/// When checkpoints are written and how many stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Optimiser steps between checkpoints; 0 writes one at the end and when stopped only. Default 100.
    pub every_steps: u64,
    /// Checkpoints kept, newest first, at least 1. Default 2: one to fall back on.
    pub keep: usize,
    /// Write while training goes on, from a copy in host memory; the last one is waited for. Default: on a GPU, where the processor is free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<bool>,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every_steps: 100, keep: 2, background: None }
    }
}

/// Settings of one training stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// What to train for. Default `rank_zephyr: {}`.
    pub objective: ObjectiveConfig,
    /// Peak learning rate, above 0. Default 5e-6, the published one for 7B models; small models want 1e-4 and more.
    pub learning_rate: f64,
    /// Shape after warm-up: `constant`, `linear` or `cosine`. Default `cosine`.
    pub schedule: Schedule,
    /// Decoupled weight decay of matrices (never of norms and biases), at least 0. Default 0.
    pub weight_decay: f64,
    /// AdamW's two decay rates, each in [0, 1). Default [0.9, 0.999].
    pub betas: [f64; 2],
    /// AdamW's epsilon, above 0. Default 1e-8.
    pub eps: f64,
    /// Gradients longer than this are scaled down to it; 0 never clips. Default 1.
    pub max_grad_norm: f64,
    /// Passes over the data, at least 1. Default 1.
    pub epochs: u64,
    /// Samples of one optimiser step over all ranks, at least 1. Default 16.
    pub global_batch_size: usize,
    /// Samples of one forward and backward pass at most, at least 1. Changes speed and memory, never the gradient.
    /// Default 4.
    pub micro_batch_size: usize,
    /// Tokens of one forward and backward pass at most, and so of a sample. Default 4096.
    pub max_micro_batch_tokens: usize,
    /// What happens to a longer sample: `skip` (counted) or `error`. Default `skip`.
    pub too_long: TooLong,
    /// Kinds of weights and optimiser state: `fp32`, `bf16_master` or `bf16`. Default `bf16_master`.
    pub precision: Precision,
    /// What each of several ranks holds: `ddp` or `zero1` (the optimiser's state in shares). Default `ddp`.
    pub distribution: Distribution,
    /// Several ranks send float32 gradients as bf16: half the traffic, sums rounded to 8 bits. Default false. Gradients that are bf16 already
    /// travel as they are.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub grad_reduce_in_bf16: bool,
    /// Recompute activations in the backward pass: less memory, about a third more time. Default false.
    pub gradient_checkpointing: bool,
    /// NEFTune's alpha: uniform noise of +-alpha / sqrt(tokens x features) on embeddings; 0 for none. Default 0
    /// (published 5).
    pub neftune_alpha: f64,
    /// Draw a new order of samples every epoch. Default true.
    pub shuffle: bool,
    /// Shuffle the candidates of each list, so that their places tell nothing. Default false.
    pub shuffle_candidates: bool,
    /// Optimiser steps tokenised ahead, at least 1. Default 2.
    pub prefetch_steps: usize,
    /// Checkpoints.
    pub checkpoint: CheckpointConfig,
    /// Optimiser steps between lines of the log and the metrics, at least 1. Default 1.
    pub log_every: u64,
    /// Steps with a loss or gradient that is not finite are skipped; after this many the run stops. So it does after more than this many steps in a row
    /// whose samples are all too long. Default 10.
    pub max_skipped_steps: u64,
    /// Seconds a rank waits for the others before it gives up, at least 1. Default 600.
    pub collective_timeout_seconds: u64,
    /// Optimiser steps at most, at least 1. Default: as many as `epochs` take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// Steps over which the learning rate rises. Default 0; not together with `warmup_ratio`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u64>,
    /// As `warmup_steps`, as a share of the stage's steps in [0, 1].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_ratio: Option<f64>,
    /// Optimiser steps between evaluations of the `evaluate` section's sets, 100 queries of each, in one pass a query where identifiers are
    /// single tokens; they go to the log, `metrics.jsonl` and TensorBoard. Default: none before the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_every_steps: Option<u64>,
    /// Train low-rank adapters instead of the weights: `lora: {r: 16}`. Default: all weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            objective: ObjectiveConfig::default(),
            learning_rate: 5e-6,
            schedule: Schedule::Cosine,
            weight_decay: 0.0,
            betas: [0.9, 0.999],
            eps: 1e-8,
            max_grad_norm: 1.0,
            epochs: 1,
            global_batch_size: 16,
            micro_batch_size: 4,
            max_micro_batch_tokens: 4096,
            too_long: TooLong::Skip,
            precision: Precision::Bf16Master,
            distribution: Distribution::Ddp,
            grad_reduce_in_bf16: false,
            gradient_checkpointing: false,
            neftune_alpha: 0.0,
            shuffle: true,
            shuffle_candidates: false,
            prefetch_steps: 2,
            checkpoint: CheckpointConfig::default(),
            log_every: 1,
            max_skipped_steps: 10,
            collective_timeout_seconds: 600,
            max_steps: None,
            warmup_steps: None,
            warmup_ratio: None,
            eval_every_steps: None,
            lora: None,
        }
    }
}

impl TrainConfig {
    /// These settings with everything at its default that changes no weight: how state is spread over ranks, read ahead,
    /// saved, logged and waited for. Stages with equal values here learn the same, so one's result may stand for the
    /// other's.
    #[must_use]
    pub fn what_is_learned(&self) -> Self {
        let default = Self::default();
        Self {
            distribution: default.distribution,
            prefetch_steps: default.prefetch_steps,
            checkpoint: default.checkpoint,
            log_every: default.log_every,
            max_skipped_steps: default.max_skipped_steps,
            collective_timeout_seconds: default.collective_timeout_seconds,
            eval_every_steps: default.eval_every_steps,
            ..self.clone()
        }
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

    /// Problems with the settings, one line each; empty when all is well.
    pub fn validate(&self) -> Vec<String> {
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
    fn saving_more_often_learns_the_same_and_a_larger_rate_does_not() {
        let config = TrainConfig::default();
        let checkpoint = CheckpointConfig { every_steps: 1, keep: 9, background: Some(true) };
        let saved = TrainConfig { checkpoint, distribution: Distribution::Zero1, log_every: 7, ..config.clone() };
        assert_eq!(saved.what_is_learned(), config.what_is_learned());
        let faster = TrainConfig { learning_rate: 1.0, ..config.clone() };
        assert_ne!(faster.what_is_learned(), config.what_is_learned());
    }

    #[test]
    fn warm_up_is_given_in_steps_or_as_a_share() {
        let ratio = TrainConfig { warmup_ratio: Some(0.25), ..TrainConfig::default() };
        assert_eq!(ratio.learning_rate(10).warmup_steps, 3);
        let steps = TrainConfig { warmup_steps: Some(4), ..TrainConfig::default() };
        assert_eq!(steps.learning_rate(10).warmup_steps, 4);
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
            [r#"{"learning_rte": 1}"#, r#"{"checkpoint": {"kep": 1}}"#, r#"{"objective": {"first": {"lamda": 1}}}"#]
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
