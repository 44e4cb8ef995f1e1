//! One file per command.

pub mod answer;
pub mod bench;
pub mod bench_answer;
pub mod checkpoint;
pub mod compare;
mod compare_queries;
pub mod config;
pub mod data_show;
pub mod doctor;
pub mod experiment;
pub mod generate;
pub mod import;
pub mod inspect;
pub mod launch;
pub mod metrics;
pub mod prompt_render;
pub mod rank;
pub mod runs;
pub mod runs_export;
pub mod show_layout;
pub mod sweep;
pub mod table;

use std::io::Write as _;

use anyhow::Context as _;
use clap::CommandFactory as _;
use evaluator::table::Table;
use native::NativeError;

use crate::cli::{CheckpointCommand, Cli, Command, ConfigCommand, DataCommand, PromptCommand, RunsCommand};
use crate::failure::UsageError;
use crate::paper_table::which::Which;

/// Runs what the command line asks for.
///
/// # Errors
/// Whatever stopped the command; [`crate::failure::ending`] says with which code to end.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    if let Err(NativeError::Operation { message, .. }) = native::kernels::kernels() {
        return Err(UsageError::new(message, "unset the variable: the processor is asked then").into());
    }
    match cli.command {
        Command::Run(args) => experiment::run(&args, experiment::Until::All),
        Command::Prepare(args) => experiment::run(&args, experiment::Until::Prepare),
        Command::Train(args) => experiment::run(&args, experiment::Until::Train),
        Command::Evaluate(args) => experiment::run(&args, experiment::Until::Evaluate),
        Command::Report(args) => experiment::run(&args, experiment::Until::Report),
        Command::Checkpoint(CheckpointCommand::Ls { run, json }) => checkpoint::ls(&run, json),
        Command::Checkpoint(CheckpointCommand::Export { checkpoint, out, force }) => {
            checkpoint::export(&checkpoint, &out, force)
        }
        Command::Checkpoint(CheckpointCommand::Verify { path, json }) => checkpoint::verify_all(&path, json),
        Command::Launch(args) => launch::run(&args),
        Command::Sweep { file, dry_run, jobs, json } => sweep::run(&file, dry_run, jobs, json),
        Command::Rank(args) => rank::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Answer(args) => answer::run(&args),
        Command::ShowLayout(args) => show_layout::run(&args),
        Command::Metrics(command) => metrics::run(command),
        Command::Bench(command) => bench::run(command),
        Command::Import(args) => import::import(&args),
        Command::Export(args) => import::export(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Prompt(PromptCommand::Render { file, set, query_set, index, tokens, json }) => {
            prompt_render::run(&file, &set, query_set.as_deref(), index, prompt_render::Form { tokens, json })
        }
        Command::Data(DataCommand::Show { path, set, query_set, limit, json }) => {
            data_show::run(&path, &set, query_set.as_deref(), limit, json)
        }
        Command::Config(ConfigCommand::Ls { folder, json }) => config::ls(&folder, json),
        Command::Config(ConfigCommand::Check { files, set }) => config::check(&files, &set),
        Command::Config(ConfigCommand::Show { file, set }) => config::show(&file, &set),
        Command::Config(ConfigCommand::Schema { markdown }) => config::schema(markdown),
        Command::Table { file, no_run, only, out, kept, json } => {
            let which = Which::asked(no_run, only);
            table::run(&file, &which, &table::Files { out: out.as_deref(), kept: kept.as_deref() }, json)
        }
        Command::Compare(args) => compare::run(&args),
        Command::Runs(RunsCommand::Ls { folder, json }) => runs::ls(&folder, json),
        Command::Runs(RunsCommand::Show { run, json }) => runs::show(&run, json),
        Command::Runs(RunsCommand::Export { runs: folders, mlflow }) => runs_export::to_mlflow(&folders, &mlflow),
        Command::Runs(RunsCommand::Rm { runs: folders, checkpoints, yes }) => runs::rm(&folders, checkpoints, yes),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "monopass", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// One JSON object on stdout.
///
/// # Errors
/// When stdout cannot be written.
pub fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value).context("cannot encode the result")?;
    writeln!(std::io::stdout(), "{text}").context("cannot write to stdout")
}

/// A table on stdout, in a terminal no wider than it can be there.
///
/// # Errors
/// When stdout cannot be written.
pub fn print_table(table: &Table) -> anyhow::Result<()> {
    let width = terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| width.0);
    writeln!(std::io::stdout(), "{}", table.render_terminal(width)).context("cannot write to stdout")
}
