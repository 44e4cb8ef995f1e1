//! How the next token is chosen, for all commands that write text.

use clap::Args;
use evaluator::sampling::Sampling;

/// Choice of tokens.
#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// 0 always takes the likeliest token.
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f64,
    /// Draw among this many likeliest tokens; 0 for all.
    #[arg(long, default_value_t = 0)]
    pub top_k: usize,
    /// Draw from the likeliest tokens that together have this probability.
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f64,
    /// Make tokens that occurred less likely: 1 does nothing, 1.05 a little.
    #[arg(long, default_value_t = 1.0)]
    pub repetition_penalty: f64,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl From<&SamplingArgs> for Sampling {
    fn from(args: &SamplingArgs) -> Self {
        let SamplingArgs { temperature, top_k, top_p, repetition_penalty, seed } = *args;
        Self { temperature, top_k, top_p, repetition_penalty, seed }
    }
}
