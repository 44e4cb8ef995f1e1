//! `monopass launch`: several processes of this program on one host.

use std::time::Duration;

use anyhow::Context as _;
use launch::{LaunchError, LaunchPlan};

use crate::cli::LaunchArgs;
use crate::failure::{Ending, Interrupted, UsageError};

/// Endings that starting again cannot change: what is asked for or given is wrong, or somebody stopped the run.
const FINAL: [Ending; 3] = [Ending::Usage, Ending::Data, Ending::Interrupted];

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
        nproc_per_node: processes(&args.nproc_per_node)?,
        nnodes: args.nnodes,
        node_rank: args.node_rank,
        master_addr: args.master_addr.clone(),
        master_port: args.master_port,
        grace: Duration::from_secs(args.grace_seconds),
        max_restarts: args.max_restarts,
        final_codes: FINAL.iter().map(|ending| *ending as i32).collect(),
        log_dir: args.log_dir.clone(),
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

/// `--nproc-per-node` as torchrun reads it.
fn processes(text: &str) -> anyhow::Result<usize> {
    let gpus = || usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let wrong = |got: String| {
        let hint = "write a number, `auto`, `gpu` or `cpu`";
        UsageError::new(format!("`--nproc-per-node` {got}"), hint)
    };
    match text {
        "auto" => Ok(if gpus() > 0 { gpus() } else { cores() }),
        "cpu" => Ok(cores()),
        "gpu" if gpus() > 0 => Ok(gpus()),
        "gpu" => Err(wrong("is `gpu`, but there is no GPU here".to_owned()).into()),
        number => number.parse().map_err(|_| wrong(format!("is `{number}`")).into()),
    }
}
