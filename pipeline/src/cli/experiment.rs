//! Arguments of the commands on an experiment file.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::model_folder::PrecisionArg;

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
    /// Check files of experiments, tables and sweeps; every fault is named with its line.
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
