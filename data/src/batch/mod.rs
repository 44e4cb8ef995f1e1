//! Tokenised samples, packed micro-batches, and the order they come in.

mod loader;
mod order;
mod pack;
mod source;
mod token_source;
mod tokenize;

use model::ColumnTokens;
use tch::Tensor;

pub use loader::{Loader, LoaderOptions, SkipCounts, TooLong};
pub use order::{SampleOrder, SamplePlace};
pub use pack::pack;
pub use source::SampleSource;
pub use token_source::{RankingTokens, TokenSource};
pub use tokenize::{tokenize_sample, tokenize_text};

/// The list a ranking loss is computed on.
#[derive(Debug, Clone, PartialEq)]
pub struct RankTarget {
    /// Row whose logits predict the first identifier: position in the sample, then in the packed row.
    pub row: i64,
    /// One token id per candidate.
    pub identifier_ids: Vec<i64>,
    /// 1-based target rank per candidate.
    pub ranks: Vec<i64>,
}

/// One prompt and its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenizedSample {
    /// Query id.
    pub query_id: String,
    /// Prompt and answer.
    pub input_ids: Vec<i64>,
    /// Pairs (token, token it learns), both by their place.
    pub targets: Vec<(usize, usize)>,
    /// For ranking losses; row relative to the sample. None when an identifier takes several tokens.
    pub rank: Option<RankTarget>,
    /// Branch and column of each token, for samples in columns.
    pub columns: Option<ColumnTokens>,
}

impl TokenizedSample {
    /// Targets of an ordinary text that is learned from place `start` on: each token learns the next one.
    #[must_use]
    pub fn from_place(start: usize, tokens: usize) -> Vec<(usize, usize)> {
        (start.max(1)..tokens).map(|place| (place - 1, place)).collect()
    }
}

/// Several samples end to end in one row: one forward and backward.
#[derive(Debug)]
pub struct MicroBatch {
    /// int64 `[1, tokens]`.
    pub input_ids: Tensor,
    /// Boundaries of the samples: 0, end of the first, ..., tokens.
    pub cu_seqlens: Vec<i64>,
    /// int64 `[labels]`: rows whose logits predict `labels`.
    pub label_rows: Tensor,
    /// int64 `[labels]`.
    pub labels: Tensor,
    /// Absolute rows; one per sample that has a ranking target.
    pub rankings: Vec<RankTarget>,
    /// Ids of the samples.
    pub query_ids: Vec<String>,
    /// Branches and columns of the samples, where they are in columns; else empty.
    pub layouts: Vec<ColumnTokens>,
}

impl MicroBatch {
    /// Tokens of all samples.
    #[must_use]
    pub fn num_tokens(&self) -> i64 {
        self.cu_seqlens.last().copied().unwrap_or(0)
    }

    /// Tokens with a label.
    #[must_use]
    pub fn num_labels(&self) -> i64 {
        self.labels.size()[0]
    }
}

/// All micro-batches of one rank for one optimiser step.
#[derive(Debug)]
pub struct StepBatch {
    /// Optimiser step, from 0.
    pub step: u64,
    /// Epoch of the step's first sample, from 0.
    pub epoch: u64,
    /// This rank's share.
    pub micro_batches: Vec<MicroBatch>,
}

/// How samples become steps.
///
/// The epochs' orders stand end to end in one endless sequence of which step `s` takes places
/// `s * global_batch_size ..`: nothing is dropped at the end of an epoch, its last step is filled up from the next one.
/// Rank `r` takes the `r`-th of `world_size` equal, contiguous parts of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct LoaderConfig {
    /// Of the order and of all augmentation.
    pub seed: u64,
    /// This process.
    pub rank: usize,
    /// Processes.
    pub world_size: usize,
    /// Samples per optimiser step over all ranks; a multiple of `world_size`.
    pub global_batch_size: usize,
    /// Samples per micro-batch at most.
    pub micro_batch_size: usize,
    /// Tokens per micro-batch at most; also the longest sample there may be.
    pub max_micro_batch_tokens: usize,
    /// Steps tokenised ahead.
    pub prefetch_steps: usize,
    /// Steps to produce in all, counted from step 0.
    pub num_steps: u64,
    /// Another order each epoch; else the set's own.
    pub shuffle: bool,
}

impl LoaderConfig {
    /// Everything wrong with the settings, one line each.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let positive = [
            ("world_size", self.world_size),
            ("global_batch_size", self.global_batch_size),
            ("micro_batch_size", self.micro_batch_size),
            ("max_micro_batch_tokens", self.max_micro_batch_tokens),
        ];
        for (key, _) in positive.iter().filter(|(_, value)| *value == 0) {
            problems.push(format!("`{key}` is 0; it must be at least 1"));
        }
        if self.rank >= self.world_size {
            problems.push(format!("`rank` is {} of `world_size` {}", self.rank, self.world_size));
        }
        if self.world_size > 0 && !self.global_batch_size.is_multiple_of(self.world_size) {
            problems.push(format!(
                "`global_batch_size` {} is not a multiple of `world_size` {}",
                self.global_batch_size, self.world_size
            ));
        }
        problems
    }
}
