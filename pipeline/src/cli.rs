//! The command line.

pub mod answer;
pub mod sampling;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use sampling::SamplingArgs;

const AFTER_HELP: &str = "\
Exit codes:
  0    done
  2    the command line or the experiment file is wrong
  3    a data set, model folder or checkpoint is missing, malformed or damaged
  4    something failed on the way (memory, disk, another process)
  130  ended by Ctrl-C or SIGTERM; training is checkpointed, the same command goes on

Environment:
  MONOPASS_LOG                              what is printed (`debug`, `warn`, `monopass_trainer=trace`)
  OMP_NUM_THREADS                           threads of one process (default: all cores)
  RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT
                                            data-parallel training, as torchrun sets them
  HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE
                                            the Hugging Face hub

First steps:
  monopass run configs/quickstart.yaml      train and evaluate in a few minutes
  monopass config show configs/quickstart.yaml
  monopass doctor";

/// Trains and evaluates language models that do in one forward pass what others do token by token.
///
/// One YAML file describes one experiment: a model, data, training stages, evaluations and a report. `monopass run FILE`
/// does all of it; stages whose inputs did not change are not done again, and an interrupted run goes on where it stopped.
#[derive(Debug, Parser)]
#[command(name = "monopass", version, after_help = AFTER_HELP, max_term_width = 120, propagate_version = false)]
pub struct Cli {
    /// Say more.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Say only what is wrong.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Do a whole experiment: prepare, train, evaluate, report.
    ///
    /// Each stage leaves a stamp with the hashes of what it was made from (settings, data files, weights); a stage whose
    /// stamp still fits is skipped with a line saying so. Training that was interrupted resumes from its last checkpoint,
    /// bit for bit.
    #[command(
        after_help = "Examples:\n  monopass run configs/quickstart.yaml\n  monopass run configs/quickstart.yaml --dry-run\n  monopass run FILE --set train.max_steps=10 --set name=short\n  monopass run FILE --set train.stages.first.learning_rate=1e-4 --force"
    )]
    Run(ExperimentArgs),
    /// Prepare an experiment's data sets: sources to parquet with a card.
    Prepare(ExperimentArgs),
    /// Train an experiment's stages (preparing their data first where that is not done).
    ///
    /// Several processes with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set train data parallel; only rank 0 writes.
    #[command(
        after_help = "Examples:\n  monopass train configs/quickstart.yaml\n  torchrun --no-python --nproc-per-node 2 monopass train FILE"
    )]
    Train(ExperimentArgs),
    /// Evaluate an experiment's models and write predictions and tables.
    Evaluate(ExperimentArgs),
    /// Write an experiment's report from its tables and training metrics.
    Report(ExperimentArgs),
    /// Run one experiment file with many values, a few at a time, and put the tables together.
    ///
    /// A run that fails is reported and the others go on; the same command runs what is missing.
    #[command(
        after_help = "Example:\n  monopass sweep configs/sweeps/quickstart.yaml --dry-run\n\nA sweep file:\n  name: rates\n  experiment: configs/quickstart.yaml\n  over: {grid: {train.learning_rate: [1e-4, 3e-4], seed: [1, 2]}}"
    )]
    Sweep {
        /// The sweep file (YAML).
        file: PathBuf,
        /// List the runs and stop.
        #[arg(long)]
        dry_run: bool,
        /// Runs at a time; overrides the file's `jobs`.
        #[arg(long, value_name = "N")]
        jobs: Option<usize>,
        /// Print one JSON object: how each run ended, and the table.
        #[arg(long)]
        json: bool,
    },
    /// Start the processes of a data-parallel run on this host and watch them, as torchrun does.
    ///
    /// Each process gets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. The first that fails ends the others,
    /// after they had time to save; a signal is passed on to all.
    #[command(
        after_help = "Examples:\n  monopass launch --nproc-per-node 2 -- train configs/quickstart.yaml\n  monopass launch --nnodes 2 --node-rank 0 --master-addr host0 --master-port 29500 --nproc-per-node 8 -- train FILE"
    )]
    Launch(LaunchArgs),
    /// See what a run can go on from.
    #[command(subcommand)]
    Checkpoint(CheckpointCommand),
    /// Rerank candidate lists with a model.
    #[command(
        after_help = "Examples:\n  monopass rank --model runs/quickstart/model/first --candidates lists.jsonl --out run.txt\n  monopass rank --model DIR --candidates bm25.run --queries queries.tsv --corpus corpus.jsonl --out run.txt --decoder single_token"
    )]
    Rank(RankArgs),
    /// Let a model write text.
    #[command(
        after_help = "Example:\n  monopass generate --model models/SmolLM2-135M-Instruct --prompt 'What is the capital of France?'"
    )]
    Generate(GenerateArgs),
    /// Answer questions about a text, side by side.
    #[command(
        after_help = "Example:\n  monopass answer --model runs/columnar-squad/model/pretrained --background @text.txt --question 'Who?' --question 'Where?'"
    )]
    Answer(answer::AnswerArgs),
    /// Print where the tokens of a text with branches stand, what they learn, and who sees whom.
    #[command(
        after_help = "Examples:\n  monopass show-layout --background 4 --branches 3+2,1+4 --mask\n  monopass show-layout configs/columnar/smollm2-squad.yaml --branched-set train --index 3 --svg mask.svg"
    )]
    ShowLayout(answer::ShowLayoutArgs),
    /// Compute measures of files made elsewhere.
    #[command(subcommand)]
    Metrics(MetricsCommand),
    /// Measure speed and memory on this machine; the protocol is printed with the figures.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Make a Hugging Face folder from a hub id or a GGUF file.
    #[command(
        after_help = "Examples:\n  monopass import SmolLM2-135M-Instruct.Q4_1.gguf --out models/SmolLM2-135M-Instruct\n  monopass import HuggingFaceTB/SmolLM2-135M-Instruct --out models/SmolLM2-135M-Instruct"
    )]
    Import(ImportArgs),
    /// Write a model folder anew: adapters merged, another precision.
    #[command(
        visible_alias = "merge",
        after_help = "Example:\n  monopass export --model runs/lora/model/first --out exported --precision bf16"
    )]
    Export(ExportArgs),
    /// Describe a model folder: shape, weights, tokenizer, what it was trained on.
    Inspect(InspectArgs),
    /// See what the model really reads.
    #[command(subcommand)]
    Prompt(PromptCommand),
    /// Look into data.
    #[command(subcommand)]
    Data(DataCommand),
    /// List, check, show and describe experiment files.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Check this machine: libtorch, devices, memory, hub; what would not work and why.
    Doctor(DoctorArgs),
    /// Print completions for a shell.
    #[command(
        after_help = "Example:\n  monopass completions bash > ~/.local/share/bash-completion/completions/monopass"
    )]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// `monopass checkpoint ..`.
#[derive(Debug, Subcommand)]
pub enum CheckpointCommand {
    /// List the checkpoints of a run, newest first, and whether each is whole.
    #[command(after_help = "Example:\n  monopass checkpoint ls runs/quickstart")]
    Ls {
        /// The run's folder.
        run: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Compare a checkpoint's files, or those of all of a run, with their checksums.
    #[command(after_help = "Example:\n  monopass checkpoint verify runs/quickstart")]
    Verify {
        /// A checkpoint's folder, or a run's.
        path: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// An experiment file and what to change in it.
#[derive(Debug, Args)]
pub struct ExperimentArgs {
    /// The experiment file (YAML).
    pub file: PathBuf,
    /// Change one value of the file: `train.max_steps=10`, `train.stages.first.learning_rate=1e-4`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print the plan (stages, parameters, memory, tokens, steps) and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Do finished stages again.
    #[arg(long)]
    pub force: bool,
    /// Weights' kind: overrides the file's `precision` in training, evaluation or both.
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionArg>,
    /// Where to compute: overrides the file's `device`.
    #[arg(long, value_name = "cpu|cuda|cuda:N|auto")]
    pub device: Option<String>,
    /// Print one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
}

/// `monopass launch`.
#[derive(Debug, Args)]
pub struct LaunchArgs {
    /// Processes on this host: a number, `gpu` (one for each GPU), `cpu` (one for each core), or `auto` (`gpu` when there is one).
    #[arg(long, default_value = "1", value_name = "N|auto|gpu|cpu")]
    pub nproc_per_node: String,
    /// Hosts: a number, or the least and the most that may take part.
    #[arg(long, default_value = "1", value_name = "N|MIN:MAX")]
    pub nnodes: String,
    /// This host, from 0.
    #[arg(long, default_value_t = 0)]
    pub node_rank: usize,
    /// Host of rank 0.
    #[arg(long, default_value = "127.0.0.1")]
    pub master_addr: String,
    /// Port on that host; a free one on a single host.
    #[arg(long)]
    pub master_port: Option<u16>,
    /// Where hosts meet: the same on every host; the host with this address serves the meeting. Then `--node-rank` and the master's
    /// address are found, hosts may come and go between MIN and MAX, and a failure on one starts all again.
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with_all = ["node_rank", "master_addr", "master_port"])]
    pub rdzv_endpoint: Option<String>,
    /// How hosts meet.
    #[arg(long, value_parser = ["c10d"], default_value = "c10d")]
    pub rdzv_backend: String,
    /// Name of the run at the endpoint.
    #[arg(long, default_value = "default", value_name = "ID")]
    pub rdzv_id: String,
    /// Seconds to wait for enough hosts.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub rdzv_join_seconds: u64,
    /// Seconds that enough hosts wait for more.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub rdzv_last_call_seconds: u64,
    /// Seconds without a word after which a host is lost.
    #[arg(long, default_value_t = 15, value_name = "SECONDS")]
    pub rdzv_keep_alive_seconds: u64,
    /// Seconds between SIGTERM and SIGKILL when a process failed.
    #[arg(long, default_value_t = 30)]
    pub grace_seconds: u64,
    /// Start all processes again after a failure, so often; a run goes on from its last checkpoint.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub max_restarts: usize,
    /// This host alone, with a free port.
    #[arg(long, conflicts_with_all = ["nnodes", "node_rank", "master_addr", "master_port", "rdzv_endpoint"])]
    pub standalone: bool,
    /// Keep what each rank says in this folder, a file a rank and start.
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// What each process runs: `train FILE ..` or `run FILE ..`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

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

/// `monopass rank`.
#[derive(Debug, Args)]
pub struct RankArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Candidates: our JSONL (`query_id`, `query`, `passages`), RankLLM's retrieve-results JSON, or a TREC run (with
    /// `--queries` and `--corpus`).
    #[arg(long, value_name = "FILE")]
    pub candidates: PathBuf,
    /// Queries of a TREC run: `id<TAB>text` lines or BEIR's queries.jsonl.
    #[arg(long, value_name = "FILE")]
    pub queries: Option<PathBuf>,
    /// Passages of a TREC run: `id<TAB>text` lines or BEIR's corpus.jsonl.
    #[arg(long, value_name = "FILE")]
    pub corpus: Option<PathBuf>,
    /// Where to write the TREC run.
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// How to decode: a name, or with settings as in an experiment file, `{one_pass: {n_group: 4}}`.
    #[arg(long, default_value = "single_token", value_name = "NAME")]
    pub decoder: String,
    /// Folder of the decoder's head, for decoders that need one (`runs/NAME/heads/MODEL/HEAD`).
    #[arg(long, value_name = "DIR")]
    pub head: Option<PathBuf>,
    /// Candidates per query that are reranked; the rest stay below, in their order.
    #[arg(long, default_value_t = 100)]
    pub top_k: usize,
    /// Candidates per prompt; longer lists are ranked through a sliding window.
    #[arg(long, default_value_t = 20)]
    pub window: usize,
    /// How far the window moves.
    #[arg(long, default_value_t = 10)]
    pub stride: usize,
    /// Prompt settings as YAML, `{style: first, identifiers: alphabetic}`; default: those the model was trained with.
    #[arg(long, value_name = "YAML")]
    pub prompt: Option<String>,
    /// Queries at most.
    #[arg(long)]
    pub max_queries: Option<usize>,
    /// Print one JSON object on stdout: queries, seconds, forward passes, repairs.
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
    /// The ways to answer several questions about one text.
    Answer(answer::BenchAnswerArgs),
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

/// `monopass prompt ..`.
#[derive(Debug, Subcommand)]
pub enum PromptCommand {
    /// Show one sample as the model sees it: text, tokens, and which tokens carry a label.
    #[command(after_help = "Example:\n  monopass prompt render configs/quickstart.yaml --query-set train")]
    Render {
        /// The experiment file.
        file: PathBuf,
        /// Change one value of the file.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// Data set; default: the first training set.
        #[arg(long = "query-set", value_name = "NAME")]
        query_set: Option<String>,
        /// Which sample, from 0.
        #[arg(long, default_value_t = 0)]
        index: usize,
        /// Print every token with its id; labels are marked.
        #[arg(long)]
        tokens: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// `monopass data ..`.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Show samples of a prepared set, or of an experiment file's set.
    #[command(
        after_help = "Examples:\n  monopass data show runs/quickstart/data/train\n  monopass data show configs/quickstart.yaml --query-set test --limit 2"
    )]
    Show {
        /// Prepared folder, or experiment file.
        path: PathBuf,
        /// Change one value of the experiment file.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// Which set of the experiment file.
        #[arg(long = "query-set", value_name = "NAME")]
        query_set: Option<String>,
        /// Samples at most.
        #[arg(long, default_value_t = 3)]
        limit: usize,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// `monopass config ..`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// List the experiment files below a folder, with their titles.
    Ls {
        /// Where to look.
        #[arg(default_value = "configs")]
        folder: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Check experiment files; every fault is named with its line.
    Check {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Change one value.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// Print a file as it is understood: overrides and variables applied, defaults filled in.
    Show {
        /// The file.
        file: PathBuf,
        /// Change one value.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// Print what may stand in an experiment file: JSON Schema, or the reference page.
    Schema {
        /// Print configs/REFERENCE.md instead.
        #[arg(long)]
        markdown: bool,
    },
}

/// `monopass doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
