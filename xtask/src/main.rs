//! `cargo xtask`: sets the workspace up on a fresh machine and checks it.
//!
//! Builds in seconds and without libtorch, because it is what brings libtorch.

mod arguments;
mod cache;
mod check;
mod crate_arrows;
mod documents;
mod host_tools;
mod house_rules;
mod libtorch;
mod python;
mod quickstart;
mod repository;
mod test_run;

use std::{env, process::ExitCode};

use anyhow::Result;
use arguments::Command;
use repository::Repository;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let command = match arguments::parse(&arguments) {
        Ok(command) => command,
        Err(message) => {
            eprintln!("error: {message}\n\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    match run(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<()> {
    if let Command::Help = command {
        println!("{}", arguments::USAGE);
        return Ok(());
    }
    let repository = Repository::find()?;
    match command {
        Command::Help => Ok(()),
        Command::Setup { flavour } => libtorch::set_up(&repository, *flavour).map(drop),
        Command::Quickstart => quickstart::run(&repository),
        Command::Test { runner, rest } => test_run::run(&repository, *runner, rest),
        Command::Check { tests } => check::run(&repository, *tests),
        Command::DocsCheck => documents::check(&repository),
    }
}
