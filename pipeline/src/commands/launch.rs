//! `monopass launch`: several processes of this program on one host.

use std::time::Duration;

use anyhow::Context as _;
use launch::{LaunchError, LaunchPlan};

use crate::cli::LaunchArgs;
use crate::failure::{Interrupted, UsageError};

/// Starts the processes and waits for them.
///
/// # Errors
/// When the plan contradicts itself, or a process fails.
pub fn run(args: &LaunchArgs) -> anyhow::Result<()> {
    if !matches!(args.command.first().map(String::as_str), Some("train" | "run")) {
        return Err(UsageError::new(
            format!("got `{}`, wanted `train FILE` or `run FILE` after `--`", args.command.join(" ")),
            "for example `monopass launch --nproc-per-node 2 -- train FILE`",
        )
        .into());
    }
    let program = std::env::current_exe().context("cannot find the program's own file")?;
    let mut command = vec![program.to_string_lossy().into_owned()];
    command.extend(args.command.iter().cloned());
    let plan = LaunchPlan {
        command,
        nproc_per_node: args.nproc_per_node,
        nnodes: args.nnodes,
        node_rank: args.node_rank,
        master_addr: args.master_addr.clone(),
        master_port: args.master_port,
        grace: Duration::from_secs(args.grace_seconds),
    };
    match launch::launch(&plan) {
        Ok(()) => Ok(()),
        Err(LaunchError::Signalled { signal }) => {
            let saved = format!(
                "{signal} was passed on and all processes ended; the same command goes on from the last checkpoint"
            );
            Err(Interrupted { saved }.into())
        }
        Err(error) => Err(error.into()),
    }
}
