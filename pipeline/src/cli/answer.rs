//! Arguments of the commands about branched texts.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use evaluator::answer::AnswerDecoder;
use model::{BranchAlignment, TargetAlignment};

use super::ModelArgs;
use super::sampling::SamplingArgs;

/// `monopass answer`.
#[derive(Debug, Args)]
pub struct AnswerArgs {
    /// The model; one trained in columns for `--decoder columnar`.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The text that questions are about; `@FILE` reads a file, `-` stdin.
    #[arg(long)]
    pub background: String,
    /// A question; may be repeated.
    #[arg(long = "question", required = true)]
    pub questions: Vec<String>,
    /// How to answer.
    #[arg(long, value_enum, default_value_t = DecoderArg::Columnar)]
    pub decoder: DecoderArg,
    /// Wording, as YAML: `{question: "\nQ: {question}\nA:"}`. Default: what the model was trained with.
    #[arg(long)]
    pub prompt: Option<String>,
    /// Positions in columns, as YAML, for a model that was not trained in columns: `{positions: branch_offset, branch_stride: 96}`.
    #[arg(long)]
    pub rope: Option<String>,
    /// Tokens of an answer at most.
    #[arg(long, default_value_t = 32)]
    pub max_new_tokens: usize,
    /// Choice of tokens.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Print one JSON object: `answers`, `forward_passes`, `tokens_computed`, `seconds`.
    #[arg(long)]
    pub json: bool,
}

/// Ways to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum DecoderArg {
    /// All questions side by side.
    Columnar,
    /// Ordinary texts side by side in one row, behind one background.
    SharedPrefix,
    /// One after the other, the background read once.
    OneByOneCached,
    /// One after the other, the background read anew for each.
    OneByOne,
}

impl From<DecoderArg> for AnswerDecoder {
    fn from(arg: DecoderArg) -> Self {
        match arg {
            DecoderArg::Columnar => Self::Columnar,
            DecoderArg::SharedPrefix => Self::SharedPrefix,
            DecoderArg::OneByOneCached => Self::OneByOneCached,
            DecoderArg::OneByOne => Self::OneByOne,
        }
    }
}

/// `monopass show-layout`.
#[derive(Debug, Args)]
pub struct ShowLayoutArgs {
    /// An experiment file: the layout of a text of one of its branched sets, with tokens. Absent: the layout of `--background` and
    /// `--branches`.
    pub file: Option<PathBuf>,
    /// Change one value of the file.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Set of the file. Default: the first one.
    #[arg(long, value_name = "NAME")]
    pub branched_set: Option<String>,
    /// Text of the set, from 0.
    #[arg(long, default_value_t = 0)]
    pub index: usize,
    /// Tokens of the background.
    #[arg(long, default_value_t = 6, conflicts_with = "file")]
    pub background: usize,
    /// Tokens of each branch's prompt and answer.
    #[arg(long, value_delimiter = ',', default_value = "3+4,2+2,1+3", value_name = "P+A,P+A", conflicts_with = "file")]
    pub branches: Vec<String>,
    /// Where branches of different lengths are put.
    #[arg(long, value_enum, default_value_t = AlignmentArg::Prompts)]
    pub alignment: AlignmentArg,
    /// What a token learns.
    #[arg(long, value_enum, default_value_t = TargetsArg::Branch)]
    pub targets: TargetsArg,
    /// Print who sees whom as well.
    #[arg(long)]
    pub mask: bool,
    /// Write the mask as an SVG picture.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// Where branches of different lengths are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AlignmentArg {
    /// Prompts end in the same column.
    Prompts,
    /// Answers end in the same column.
    Ends,
}

impl From<AlignmentArg> for BranchAlignment {
    fn from(arg: AlignmentArg) -> Self {
        match arg {
            AlignmentArg::Prompts => Self::Prompts,
            AlignmentArg::Ends => Self::Ends,
        }
    }
}

/// What a token learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TargetsArg {
    /// The next token of its own branch.
    Branch,
    /// The next token in linear order.
    Linear,
}

impl From<TargetsArg> for TargetAlignment {
    fn from(arg: TargetsArg) -> Self {
        match arg {
            TargetsArg::Branch => Self::Branch,
            TargetsArg::Linear => Self::Linear,
        }
    }
}

/// `monopass bench answer`.
#[derive(Debug, Args)]
pub struct BenchAnswerArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Numbers of questions about a text.
    #[arg(long, value_delimiter = ',', default_value = "2,4,8,16")]
    pub questions: Vec<usize>,
    /// Tokens of the background.
    #[arg(long, default_value_t = 200)]
    pub background_tokens: usize,
    /// Tokens of a question.
    #[arg(long, default_value_t = 20)]
    pub question_tokens: usize,
    /// Tokens of an answer.
    #[arg(long, default_value_t = 16)]
    pub answer_tokens: usize,
    /// Timed rounds; all decoders run once in each.
    #[arg(long, default_value_t = 5)]
    pub repeats: usize,
    /// Rounds before that.
    #[arg(long, default_value_t = 1)]
    pub warmup: usize,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}
