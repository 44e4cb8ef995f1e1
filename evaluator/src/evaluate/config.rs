//! Settings of an evaluation as a user writes them: the `evaluate` section of an experiment file.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decode::DecoderKind;
use crate::measures::RankingMeasure;
use crate::sliding::WindowConfig;
use crate::stats::Bootstrap;
use crate::table::TableFormat;

/// What to evaluate, how to decode, what to measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateConfig {
    /// Names of the data sets to evaluate on. Default empty: all sets meant for evaluation.
    pub sets: Vec<String>,
    /// Models to evaluate: `untrained` (the model training started from), the name of a training stage, `final`, or the
    /// path of a model folder. Default `untrained` and `final`.
    pub models: Vec<String>,
    /// Ways to decode, each a row per model and set. Default `single_token`.
    pub decoders: Vec<DecoderKind>,
    /// Decoder that speedups are told against; must be among `decoders`. Default `autoregressive` when it is among
    /// them, else none.
    pub baseline_decoder: Option<DecoderKind>,
    /// Decoder whose order the others' fidelity is measured against; must be among `decoders`. Default
    /// `autoregressive` when it is among them, else `autoregressive_forced`, else none.
    pub reference_decoder: Option<DecoderKind>,
    /// Measures by trec_eval's names; the first is the one that significance is tested on. Default `ndcg_cut_10`,
    /// `recip_rank`, `map`.
    pub measures: Vec<RankingMeasure>,
    /// From this grade on a document is relevant, for all measures but nDCG (trec_eval's `-l`; TREC Deep Learning's passages are relevant from 2 on).
    /// Default 1.
    #[serde(skip_serializing_if = "is_one")]
    pub relevance_level: u32,
    /// Whether judged queries that have no candidates count 0 (trec_eval's `-c`). Their number is printed either way.
    /// Has no effect when `max_queries` cuts the set. Default true.
    pub complete: bool,
    /// Sliding windows over lists longer than `size`.
    pub window: WindowConfig,
    /// First queries of each set, at least 1; all when absent. Default absent.
    pub max_queries: Option<usize>,
    /// Tokens an answer of `autoregressive` may take; a full answer and 8 more when absent. Default absent.
    pub max_new_tokens: Option<usize>,
    /// How often to decode for the clock's sake.
    pub latency: LatencyConfig,
    /// Intervals.
    pub bootstrap: Bootstrap,
    /// Row that the other rows of a set are tested against.
    pub significance_baseline: SignificanceBaseline,
    /// Files each table is written as, beside JSON, which other commands read. Default all.
    pub table_formats: Vec<TableFormat>,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self {
            sets: Vec::new(),
            models: vec!["untrained".into(), "final".into()],
            decoders: vec![DecoderKind::SingleToken],
            baseline_decoder: None,
            reference_decoder: None,
            measures: vec![RankingMeasure::NdcgCut(10), RankingMeasure::RecipRank, RankingMeasure::Map],
            relevance_level: 1,
            complete: true,
            window: WindowConfig::default(),
            max_queries: None,
            max_new_tokens: None,
            latency: LatencyConfig::default(),
            bootstrap: Bootstrap::default(),
            significance_baseline: SignificanceBaseline::default(),
            table_formats: TableFormat::ALL.to_vec(),
        }
    }
}

fn is_one(level: &u32) -> bool {
    *level == 1
}

/// How often to decode for the clock's sake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LatencyConfig {
    /// Untimed runs of each decoder before the first query. Default 1.
    pub warmup: usize,
    /// Timed runs of each decoder on each query, at least 1; a query's time is their median. Default 1.
    pub repeats: usize,
}

impl Default for LatencyConfig {
    fn default() -> Self {
        Self { warmup: 1, repeats: 1 }
    }
}

/// Row that the other rows of a set are tested against.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignificanceBaseline {
    /// The candidates as they come. The default.
    #[default]
    FirstStage,
    /// The same decoder with this model, by its name in `models`.
    Model(String),
    /// The same model with this decoder.
    Decoder(DecoderKind),
}

impl EvaluateConfig {
    /// Decoder that speedups are told against.
    #[must_use]
    pub fn speedup_baseline(&self) -> Option<DecoderKind> {
        let default = DecoderKind::Autoregressive;
        self.baseline_decoder.clone().or_else(|| self.decoders.contains(&default).then_some(default))
    }

    /// Decoder whose order the others are compared with.
    #[must_use]
    pub fn fidelity_reference(&self) -> Option<DecoderKind> {
        let defaults = [DecoderKind::Autoregressive, DecoderKind::AutoregressiveForced];
        self.reference_decoder.clone().or_else(|| defaults.into_iter().find(|kind| self.decoders.contains(kind)))
    }

    /// Everything wrong with the settings, each with its key.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = self.window.validate();
        if self.decoders.is_empty() {
            problems.push("`decoders`: empty, wanted at least one".into());
        }
        let mut seen = HashSet::new();
        for kind in self.decoders.iter().filter(|kind| !seen.insert(kind.name())) {
            problems.push(format!("`decoders`: `{kind}` is listed twice"));
        }
        for kind in &self.decoders {
            problems
                .extend(kind.validate().iter().map(|problem| format!("`decoders`: `{}`: {problem}", kind.method())));
        }
        let named = [("baseline_decoder", &self.baseline_decoder), ("reference_decoder", &self.reference_decoder)];
        for (key, kind) in named {
            if let Some(kind) = kind.as_ref().filter(|kind| !self.decoders.contains(kind)) {
                problems.push(format!("`{key}`: `{kind}` is not among `decoders`; add it there"));
            }
        }
        match &self.significance_baseline {
            SignificanceBaseline::Model(name) if !self.models.contains(name) => {
                problems.push(format!("`significance_baseline.model`: `{name}` is not among `models`; add it there"));
            }
            SignificanceBaseline::Decoder(kind) if !self.decoders.contains(kind) => {
                problems
                    .push(format!("`significance_baseline.decoder`: `{kind}` is not among `decoders`; add it there"));
            }
            _ => {}
        }
        self.check_numbers(&mut problems);
        problems
    }

    fn check_numbers(&self, problems: &mut Vec<String>) {
        if self.measures.is_empty() {
            problems.push("`measures`: empty, wanted at least one".into());
        }
        if self.relevance_level < 1 {
            problems.push("`relevance_level`: 0, wanted at least 1".into());
        }
        if self.latency.repeats < 1 {
            problems.push("`latency.repeats`: 0, wanted at least 1".into());
        }
        if self.max_queries == Some(0) {
            problems.push("`max_queries`: 0, wanted at least 1".into());
        }
        if self.max_new_tokens == Some(0) {
            problems.push("`max_new_tokens`: 0, wanted at least 1".into());
        }
        if self.bootstrap.samples < 100 {
            problems.push(format!("`bootstrap.samples`: {}, wanted at least 100", self.bootstrap.samples));
        }
        let confidence = self.bootstrap.confidence;
        if !(confidence > 0.0 && confidence < 1.0) {
            problems.push(format!("`bootstrap.confidence`: {confidence}, wanted more than 0 and less than 1"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_round_trip() {
        let config = EvaluateConfig::default();
        assert!(config.validate().is_empty());
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<EvaluateConfig>(&text).unwrap(), config);
        assert_eq!(serde_json::from_str::<EvaluateConfig>("{}").unwrap(), config);
        assert!(serde_json::from_str::<EvaluateConfig>(r#"{"decoder": []}"#).is_err());
    }

    #[test]
    fn baselines_default_to_the_autoregressive_decoder() {
        let mut config = EvaluateConfig::default();
        assert_eq!((config.speedup_baseline(), config.fidelity_reference()), (None, None));
        config.decoders = DecoderKind::PLAIN.to_vec();
        assert_eq!(config.speedup_baseline(), Some(DecoderKind::Autoregressive));
        config.decoders.remove(0);
        assert_eq!(config.fidelity_reference(), Some(DecoderKind::AutoregressiveForced));
    }

    #[test]
    fn every_problem_is_reported() {
        let config = EvaluateConfig {
            decoders: vec![DecoderKind::SingleToken, DecoderKind::SingleToken],
            baseline_decoder: Some(DecoderKind::Autoregressive),
            measures: Vec::new(),
            max_queries: Some(0),
            latency: LatencyConfig { warmup: 0, repeats: 0 },
            bootstrap: Bootstrap { samples: 1, confidence: 1.0, ..Bootstrap::default() },
            significance_baseline: SignificanceBaseline::Model("other".into()),
            ..EvaluateConfig::default()
        };
        assert_eq!(config.validate().len(), 8, "{:#?}", config.validate());
    }
}
