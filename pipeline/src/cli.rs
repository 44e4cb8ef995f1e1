//! The command line.

pub mod answer;
mod experiment;
mod look;
mod measure;
mod model_folder;
mod processes;
mod rank;
mod runs;
pub mod sampling;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::logging::Loudness;

pub use experiment::{ConfigCommand, ExperimentArgs};
pub use look::{DataCommand, DoctorArgs, PromptCommand};
pub use measure::{BenchCommand, BenchDecodeArgs, BenchHeadArgs, BenchTrainStepArgs, MetricsCommand};
pub use model_folder::{ExportArgs, GenerateArgs, ImportArgs, InspectArgs, ModelArgs, PrecisionArg};
pub use processes::{CheckpointCommand, LaunchArgs};
pub use rank::RankArgs;
pub use runs::{CompareArgs, RunsCommand};

const AFTER_HELP: &str = "\
Exit codes:
  0    done
  2    the command line or the experiment file is wrong
  3    a data set, model folder or checkpoint is missing, malformed or damaged
  4    something failed on the way (memory, disk, another process)
  130  ended by Ctrl-C or SIGTERM; training is checkpointed, the same command goes on

Environment:
  MONOPASS_LOG                              what is printed (`debug`, `monopass_trainer=trace`)
  OMP_NUM_THREADS                           threads of one process (default: all cores, shared by the ranks of a host)
  RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT
                                            data-parallel training, as torchrun sets them
  HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE
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
#[command(name = "monopass", version = env!("MONOPASS_VERSION"), after_help = AFTER_HELP, max_term_width = 120, propagate_version = false)]
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

impl Cli {
    /// How much to say on stderr.
    #[must_use]
    pub fn loudness(&self) -> Loudness {
        match (self.quiet, self.verbose) {
            (true, _) => Loudness::Quiet,
            (false, true) => Loudness::Verbose,
            (false, false) => Loudness::Usual,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Do a whole experiment: prepare, train, evaluate, report.
    ///
    /// Each stage leaves a stamp with the hashes of what it was made from (settings, data files, weights); a stage whose
    /// stamp still fits is skipped with a line saying so. Training that was interrupted resumes from its last checkpoint,
    /// on a CPU bit for bit.
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
    /// Print a published table with our values beside the paper's; what is missing is run first.
    #[command(
        after_help = "Examples:\n  monopass table configs/tables/columnar-cpu.yaml --no-run\n  monopass table configs/tables/one-pass-cpu.yaml --only movielens_first --out docs/tables --kept docs/tables/one-pass-cpu.json"
    )]
    Table {
        /// The table file (YAML).
        file: PathBuf,
        /// Run nothing; cells without a run are marked.
        #[arg(long)]
        no_run: bool,
        /// Run these experiments of the file alone; the others are shown as they are.
        #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "no_run")]
        only: Vec<String>,
        /// Write the table (JSON, CSV, Markdown, LaTeX) and a page here.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// A table that this command wrote before (JSON): its rows stand in for those that have no run here, and figures that
        /// are run here are held against its intervals.
        #[arg(long, value_name = "FILE")]
        kept: Option<PathBuf>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Compare the rankings of runs, query by query: means, paired differences with intervals, corrected p-values.
    #[command(
        after_help = "Examples:\n  monopass compare runs/a runs/b\n  monopass compare runs/* --baseline a/first/single_token --measure ndcg_cut_10 --out comparison"
    )]
    Compare(CompareArgs),
    /// List, show and remove runs.
    #[command(subcommand)]
    Runs(RunsCommand),
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
