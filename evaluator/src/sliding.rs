//! Sliding windows over lists longer than a prompt holds (Sun et al. 2023), from the bottom up.

use std::ops::Range;
use std::time::Instant;

use data::RankingSample;
use data::prompt::{PromptBuilder, RankingPrompt};
use model::CausalLm;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::EvaluatorError;
use crate::decode::{Decoded, Decoder, RepairCounts};

/// Which windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WindowConfig {
    /// Candidates in a window, at least 2. Default 20.
    pub size: usize,
    /// Places the window moves up each time, from 1 to `size`. Default 10.
    pub stride: usize,
    /// Sweeps over the list, each on the order left by the one before, at least 1. Default 1.
    pub num_passes: usize,
}

impl Default for WindowConfig {
    fn default() -> Self {
        Self { size: 20, stride: 10, num_passes: 1 }
    }
}

impl WindowConfig {
    /// Everything wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.size < 2 {
            problems.push(format!("`window.size`: {}, wanted at least 2", self.size));
        }
        if self.stride < 1 || self.stride > self.size {
            problems.push(format!("`window.stride`: {}, wanted 1 to the window's size {}", self.stride, self.size));
        }
        if self.num_passes < 1 {
            problems.push("`window.num_passes`: 0, wanted at least 1".into());
        }
        problems
    }

    /// Windows of one sweep over `n` candidates, in the order they are ranked. Those of RankLLM, which starts at the
    /// bottom, moves both ends up by the stride and cuts the start off at the top; 9 for 100 candidates. A list no
    /// longer than a window is one window (RankLLM leaves one of exactly `size - stride` candidates unranked: we do not).
    #[must_use]
    pub fn sweep(&self, n: usize) -> Vec<Range<usize>> {
        let mut windows = Vec::new();
        let mut end = n;
        loop {
            let start = end.saturating_sub(self.size);
            if end - start > 1 {
                windows.push(start..end);
            }
            if start == 0 {
                return windows;
            }
            end -= self.stride.min(end);
        }
    }
}

/// Where a window's prompt comes from.
pub trait PromptSource {
    /// The prompt of a sample's candidates in their present order.
    ///
    /// # Errors
    /// What the builder says.
    fn prompt(&self, sample: &RankingSample) -> Result<RankingPrompt, EvaluatorError>;
}

impl PromptSource for PromptBuilder {
    fn prompt(&self, sample: &RankingSample) -> Result<RankingPrompt, EvaluatorError> {
        Ok(PromptBuilder::prompt(self, sample)?)
    }
}

/// A whole list's ranking; costs are sums over its windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reranked {
    /// Candidate indices of the sample, best first.
    pub order: Vec<u16>,
    /// Scores of a list that was one window, where the decoder has them.
    #[serde(default)]
    pub scores: Option<Vec<f32>>,
    /// Windows ranked.
    pub windows: u32,
    /// Passes of the model.
    pub forward_passes: u32,
    /// Tokens of the answers.
    pub new_tokens: u32,
    /// Tokens that went through the model.
    pub tokens_computed: u64,
    /// Wall clock of the decoder.
    pub seconds: f64,
    /// Wall clock of writing and tokenising the prompts.
    pub prompt_seconds: f64,
    /// What was mended.
    pub repair: RepairCounts,
    /// As [`crate::decode::Decoded::accepted_per_pass`], of the last window that tells.
    #[serde(default)]
    pub accepted_per_pass: Option<f32>,
}

impl Reranked {
    fn begin(n: usize) -> Self {
        Self {
            order: (0..n as u16).collect(),
            scores: None,
            windows: 0,
            forward_passes: 0,
            new_tokens: 0,
            tokens_computed: 0,
            seconds: 0.0,
            prompt_seconds: 0.0,
            repair: RepairCounts::default(),
            accepted_per_pass: None,
        }
    }

    fn add(&mut self, window: Range<usize>, before: &[u16], decoded: Decoded) {
        for (place, chosen) in window.zip(&decoded.order) {
            self.order[place] = before[usize::from(*chosen)];
        }
        self.scores = decoded.scores;
        self.windows += 1;
        self.forward_passes += decoded.forward_passes;
        self.new_tokens += decoded.new_tokens;
        self.tokens_computed += decoded.tokens_computed;
        self.seconds += decoded.seconds;
        self.repair.add(&decoded.repair);
        self.accepted_per_pass = decoded.accepted_per_pass.or(self.accepted_per_pass);
    }
}

/// Ranks a sample's candidates. Identifiers are given anew in every window; each window permutes its places in the list.
///
/// # Errors
/// What the prompt source and the decoder say.
pub fn rerank(
    model: &CausalLm,
    decoder: &dyn Decoder,
    prompts: &dyn PromptSource,
    sample: &RankingSample,
    config: &WindowConfig,
) -> Result<Reranked, EvaluatorError> {
    Ok(rerank_batch(model, decoder, prompts, &[sample], config)?.remove(0))
}

/// As [`rerank`], of several samples side by side: the first window of each, then the second, as [`Decoder::decode_batch`] takes them. Seconds of
/// a pass that several share are shared evenly.
///
/// # Errors
/// As [`rerank`]: what is wrong with one is told, and none is ranked.
pub fn rerank_batch(
    model: &CausalLm,
    decoder: &dyn Decoder,
    prompts: &dyn PromptSource,
    samples: &[&RankingSample],
    config: &WindowConfig,
) -> Result<Vec<Reranked>, EvaluatorError> {
    let problems = config.validate();
    if !problems.is_empty() {
        return Err(EvaluatorError::Config { problems });
    }
    if let Some(empty) = samples.iter().find(|sample| sample.passages.is_empty()) {
        return Err(data::DataError::NoCandidates { query_id: empty.query_id.clone() }.into());
    }
    let mut ranked: Vec<Reranked> = samples.iter().map(|sample| Reranked::begin(sample.passages.len())).collect();
    let sweep = |sample: &&RankingSample| vec![config.sweep(sample.passages.len()); config.num_passes].concat();
    let sweeps: Vec<Vec<Range<usize>>> = samples.iter().map(sweep).collect();
    for step in 0..sweeps.iter().map(Vec::len).max().unwrap_or(0) {
        rank_windows(model, decoder, prompts, samples, &sweeps, step, &mut ranked)?;
    }
    for ranked in ranked.iter_mut().filter(|ranked| ranked.windows > 1) {
        // scores of different windows cannot be compared
        ranked.scores = None;
    }
    Ok(ranked)
}

/// The windows of number `step` of all samples that have so many.
fn rank_windows(
    model: &CausalLm,
    decoder: &dyn Decoder,
    prompts: &dyn PromptSource,
    samples: &[&RankingSample],
    sweeps: &[Vec<Range<usize>>],
    step: usize,
    ranked: &mut [Reranked],
) -> Result<(), EvaluatorError> {
    let mut at = Vec::new();
    for (place, sweep) in sweeps.iter().enumerate() {
        let Some(window) = sweep.get(step) else { continue };
        let before = ranked[place].order[window.clone()].to_vec();
        let started = Instant::now();
        let prompt = prompts.prompt(&samples[place].select(&before))?;
        ranked[place].prompt_seconds += started.elapsed().as_secs_f64();
        at.push((place, window.clone(), before, prompt));
    }
    let all: Vec<&RankingPrompt> = at.iter().map(|(.., prompt)| prompt).collect();
    let decoded = decoder.decode_batch(model, &all)?;
    for ((place, window, before, _), decoded) in at.into_iter().zip(decoded) {
        data::schema::check_permutation(&samples[place].query_id, "order", &decoded.order, before.len())?;
        ranked[place].add(window, &before, decoded);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nine_windows_for_a_hundred() {
        let sweep = WindowConfig::default().sweep(100);
        let wanted: Vec<_> = (0..9).map(|i| 80 - 10 * i..100 - 10 * i).collect();
        assert_eq!(sweep, wanted);
    }

    #[test]
    fn short_and_ragged_lists() {
        let config = WindowConfig::default();
        assert_eq!(config.sweep(95).last(), Some(&(0..15)));
        for n in [2, 9, 10, 11, 20] {
            assert_eq!(config.sweep(n), vec![0..n], "{n}");
        }
        assert_eq!(config.sweep(21), vec![1..21, 0..11]);
        assert_eq!(config.sweep(1), Vec::<Range<usize>>::new());
        assert_eq!(config.sweep(0), Vec::<Range<usize>>::new());
    }

    #[test]
    fn lists_side_by_side_are_ranked_as_each_alone() {
        use crate::decode::tests::{FakePrompts, sample, tiny};
        let (model, prompts) = (tiny(2), FakePrompts(data::prompt::Identifiers::Alphabetic));
        let config = WindowConfig { size: 4, stride: 2, num_passes: 2 };
        // Other numbers of windows, and of candidates in the last one; none at all for one candidate.
        let samples: Vec<_> = [9, 1, 4, 6].iter().map(|n| sample(&format!("q{n}"), *n)).collect();
        let all: Vec<&RankingSample> = samples.iter().collect();
        let together = rerank_batch(&model, &crate::decode::SingleToken, &prompts, &all, &config).unwrap();
        for (together, sample) in together.iter().zip(&samples) {
            let alone = rerank(&model, &crate::decode::SingleToken, &prompts, sample, &config).unwrap();
            let facts = |ranked: &Reranked| (ranked.order.clone(), ranked.windows, ranked.tokens_computed);
            assert_eq!(facts(together), facts(&alone));
        }
        let empty = sample("empty", 0);
        assert!(rerank_batch(&model, &crate::decode::SingleToken, &prompts, &[&samples[0], &empty], &config).is_err());
    }

    #[test]
    fn bad_settings_are_all_named() {
        assert_eq!(WindowConfig { size: 1, stride: 0, num_passes: 0 }.validate().len(), 3);
        assert!(WindowConfig::default().validate().is_empty());
    }

    proptest! {
        #[test]
        fn every_place_is_in_a_window(n in 2usize..150, size in 2usize..30, stride in 1usize..30) {
            let config = WindowConfig { size, stride: stride.min(size), num_passes: 1 };
            let sweep = config.sweep(n);
            prop_assert!(sweep.iter().all(|w| w.len() <= size && w.len() > 1 && w.end <= n));
            let covered = |place: usize| sweep.iter().any(|w| w.contains(&place));
            // with stride = size the topmost place may stand alone, and then there is nothing to rank
            prop_assert!((1..n).all(covered));
            prop_assert!(covered(0) || stride >= size);
            prop_assert!(sweep.windows(2).all(|pair| pair[1].start < pair[0].start));
        }
    }
}
