//! Arguments of `monopass metrics` and `monopass bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::answer::BenchAnswerArgs;
use super::model_folder::ModelArgs;

/// `monopass metrics ..`.
#[derive(Debug, Subcommand)]
pub enum MetricsCommand {
    /// trec_eval's measures of a run.
    #[command(after_help = "Example:\n  monopass metrics ranking --qrels qrels.txt --run run.txt --json")]
    Ranking {
        /// Judgements in TREC (`qid 0 docid grade`) or BEIR (`query-id corpus-id score`) format; may be gzipped.
        #[arg(long, value_name = "FILE")]
        qrels: PathBuf,
        /// Run in TREC format (`qid Q0 docid rank score tag`); may be gzipped.
        #[arg(long, value_name = "FILE")]
        run: PathBuf,
        /// Measures, by trec_eval's names; default: the usual ones.
        #[arg(long = "measure", value_name = "NAME")]
        measures: Vec<String>,
        /// Count queries without any retrieved document as 0 (trec_eval -c).
        #[arg(long)]
        complete: bool,
        /// From this grade on a document is relevant, for all measures but nDCG (trec_eval -l).
        #[arg(long, default_value_t = 1, value_name = "GRADE", value_parser = clap::value_parser!(u32).range(1..))]
        level: u32,
        /// Print one JSON object: `mean`, and with it `per_query`.
        #[arg(long)]
        json: bool,
    },
    /// SQuAD's exact match and F1, in percent.
    Squad {
        /// The data set (SQuAD v1.1 JSON; may be gzipped).
        #[arg(long, value_name = "FILE")]
        dataset: PathBuf,
        /// Predictions: one JSON object, question id to answer.
        #[arg(long, value_name = "FILE")]
        predictions: PathBuf,
        /// Print one JSON object: `exact_match`, `f1`, `total`.
        #[arg(long)]
        json: bool,
    },
}

/// `monopass bench ..`.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Optimiser steps on one prompt and answer.
    #[command(
        after_help = "Example:\n  monopass bench train-step --model models/SmolLM2-135M-Instruct --precision bf16 --prompt-tokens 1500 --label-tokens 80"
    )]
    TrainStep(BenchTrainStepArgs),
    /// The decoders on one prompt.
    Decode(BenchDecodeArgs),
    /// Training of a ONE-PASS head on random probabilities.
    #[command(after_help = "Example:\n  monopass bench head --decoder '{one_pass: {n_group: 4}}' --lists 1000")]
    Head(BenchHeadArgs),
    /// The ways to answer several questions about one text.
    Answer(BenchAnswerArgs),
}

/// `monopass bench train-step`.
#[derive(Debug, Args)]
pub struct BenchTrainStepArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Tokens without a label.
    #[arg(long, default_value_t = 1500)]
    pub prompt_tokens: usize,
    /// Tokens with one.
    #[arg(long, default_value_t = 80)]
    pub label_tokens: usize,
    /// Steps that are timed.
    #[arg(long, default_value_t = 5)]
    pub steps: usize,
    /// Recompute activations in the backward pass.
    #[arg(long)]
    pub gradient_checkpointing: bool,
    /// Print one JSON object: `tokens_per_second`, `seconds`, `peak_rss_mib`, `protocol`.
    #[arg(long)]
    pub json: bool,
}

/// `monopass bench decode`.
#[derive(Debug, Args)]
pub struct BenchDecodeArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Tokens of the prompt, about.
    #[arg(long, default_value_t = 1500)]
    pub prompt_tokens: usize,
    /// Candidates to rank.
    #[arg(long, default_value_t = 20)]
    pub candidates: usize,
    /// Prompts that decoders take together where they can; seconds are a prompt's share.
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
    /// Decoders, by name or with settings as `{one_pass: {n_group: 4}}`; heads are not trained. Default: those without heads.
    #[arg(long = "decoder", value_name = "NAME")]
    pub decoders: Vec<String>,
    /// Timed repetitions.
    #[arg(long, default_value_t = 5)]
    pub repeats: usize,
    /// Repetitions before that.
    #[arg(long, default_value_t = 1)]
    pub warmup: usize,
    /// Print one JSON object: per decoder `seconds` (median), `p95`, `forward_passes`, `new_tokens`, and the protocol.
    #[arg(long)]
    pub json: bool,
}

/// `monopass bench head`.
#[derive(Debug, Args)]
pub struct BenchHeadArgs {
    /// Whose head, as in an experiment file.
    #[arg(long, value_name = "NAME", default_value = "one_pass")]
    pub decoder: String,
    /// Candidates of a list.
    #[arg(long, default_value_t = 20)]
    pub candidates: usize,
    /// Lists to learn from.
    #[arg(long, default_value_t = 1000)]
    pub lists: usize,
    /// Times over the lists.
    #[arg(long, default_value_t = 20)]
    pub epochs: usize,
    /// Print one JSON object: `seconds`, `seconds_per_epoch`, `protocol`.
    #[arg(long)]
    pub json: bool,
}
