//! Arguments of the commands on a model folder.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::sampling::SamplingArgs;

/// Kinds of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum PrecisionArg {
    /// float32.
    Fp32,
    /// bfloat16; training keeps float32 master weights.
    Bf16Master,
    /// bfloat16 throughout.
    Bf16,
}

/// A model and how to hold it.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Model folder (Hugging Face layout, or a PEFT adapter folder) or hub id.
    #[arg(long, value_name = "DIR|ORG/NAME")]
    pub model: String,
    /// Kind of the weights.
    #[arg(long, value_enum, default_value_t = PrecisionArg::Bf16)]
    pub precision: PrecisionArg,
    /// Where to compute; `auto` takes a GPU when there is one.
    #[arg(long, default_value = "auto", value_name = "cpu|cuda|cuda:N|auto")]
    pub device: String,
}

/// `monopass import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Hub id (`org/name`), GGUF file or model folder.
    pub source: String,
    /// The folder to make.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Replace an existing folder.
    #[arg(long)]
    pub force: bool,
}

/// `monopass export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Model folder, or PEFT adapter folder (merged into its base).
    #[arg(long, value_name = "DIR|ORG/NAME")]
    pub model: String,
    /// The folder to make.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Kind of the written weights.
    #[arg(long, value_enum, default_value_t = PrecisionArg::Bf16)]
    pub precision: PrecisionArg,
    /// Where to compute.
    #[arg(long, default_value = "cpu", value_name = "cpu|cuda|cuda:N|auto")]
    pub device: String,
    /// Replace an existing folder.
    #[arg(long)]
    pub force: bool,
}

/// `monopass inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Model folder or hub id.
    pub model: String,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `monopass generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// What to answer; `-` reads stdin.
    #[arg(long)]
    pub prompt: String,
    /// Continue the text as it is, without the chat template.
    #[arg(long)]
    pub raw: bool,
    /// Do not stop at an end-of-text token.
    #[arg(long)]
    pub ignore_eos: bool,
    /// Tokens at most.
    #[arg(long, default_value_t = 256)]
    pub max_new_tokens: usize,
    /// Choice of tokens.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Print one JSON object: `text`, `token_ids`, `prompt_tokens`, `seconds`.
    #[arg(long)]
    pub json: bool,
}
