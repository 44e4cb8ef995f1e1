//! Arguments of looking at what a model reads, at data and at this machine.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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

/// `monopass doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}
