//! Arguments of the commands on runs.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `monopass runs ..`.
#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// List runs: what is done, how large they are, whether one is going on.
    #[command(after_help = "Example:\n  monopass runs ls")]
    Ls {
        /// Folder of the runs.
        #[arg(default_value = "runs")]
        folder: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show one run: its stages, where everything is, and its results.
    #[command(after_help = "Example:\n  monopass runs show runs/quickstart")]
    Show {
        /// The run's folder.
        run: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Write the models of runs, with settings, curves and results, for MLflow.
    #[command(
        after_help = "Example:\n  monopass runs export runs/* --mlflow mlruns && mlflow ui --backend-store-uri mlruns"
    )]
    Export {
        /// The runs' folders; each becomes an experiment, its models the runs of it.
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// Folder of MLflow's file store. Runs of the same names are replaced, others stay.
        #[arg(long, value_name = "DIR")]
        mlflow: PathBuf,
    },
    /// Remove runs, or only what finished stages no longer need.
    #[command(
        after_help = "Examples:\n  monopass runs rm runs/old            says what would go\n  monopass runs rm runs/old --yes\n  monopass runs rm runs/* --checkpoints --yes"
    )]
    Rm {
        /// The runs' folders.
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// Only the checkpoints of stages whose model is there.
        #[arg(long)]
        checkpoints: bool,
        /// Do it; without this flag nothing is removed.
        #[arg(long)]
        yes: bool,
    },
}

/// `monopass compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Folders of runs that have been evaluated.
    #[arg(required = true, num_args = 1..)]
    pub runs: Vec<PathBuf>,
    /// Compare all rows with this one: RUN/MODEL/DECODER, by the run's name; `none` is the decoder of the first stage. Else each row with its
    /// counterpart in the first run.
    #[arg(long, value_name = "RUN/MODEL/DECODER")]
    pub baseline: Option<String>,
    /// Measure by trec_eval's name; all that the runs share when absent. May be repeated.
    #[arg(long = "measure", value_name = "NAME")]
    pub measures: Vec<String>,
    /// Write the table (JSON, CSV, Markdown, LaTeX) and a report here.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}
