//! `monopass`: see `monopass help`.

use std::process::ExitCode;

use clap::Parser as _;
use monopass::cli::Cli;
use monopass::failure::{Ending, ending};

fn main() -> ExitCode {
    native::runtime::init();
    let cli = Cli::parse();
    monopass::logging::init(cli.verbose, cli.quiet);
    let Err(error) = monopass::commands::run(cli) else {
        return Ending::Done.into();
    };
    let ending = ending(&error);
    if monopass::failure::is_broken_pipe(&error) {
        return Ending::Done.into();
    }
    match ending {
        Ending::Interrupted => tracing::warn!("{}", monopass::failure::in_full(&error)),
        _ => tracing::error!("{}", monopass::failure::in_full(&error)),
    }
    ending.into()
}
