//! `monopass`: see `monopass help`.

use std::process::ExitCode;

use clap::Parser as _;
use monopass::cli::Cli;
use monopass::failure::{Ending, ending};

fn main() -> ExitCode {
    print_only_panics_that_are_faults();
    native::runtime::init();
    let cli = Cli::parse();
    monopass::logging::init(cli.loudness());
    match launch::parent::end_with_launcher() {
        Ok(false) => {}
        Ok(true) => return Ending::Interrupted.into(),
        Err(error) => tracing::warn!("the launcher's death would go unnoticed: {error}"),
    }
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

/// `monopass metrics ... | head` closes our stdout early: that is the reader's wish and no fault to report. A decoder's panic on a
/// damaged file is told as an error.
fn print_only_panics_that_are_faults() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if model::guard::panics_are_told_as_errors() {
            return;
        }
        let closed = panic.payload().downcast_ref::<String>();
        if closed.is_some_and(|text| text.starts_with("failed printing to stdout") && text.contains("Broken pipe")) {
            std::process::exit(0);
        }
        report(panic);
    }));
}
