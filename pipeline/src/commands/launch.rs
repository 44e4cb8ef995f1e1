//! `monopass launch`: several processes of this program on one host.

use std::time::Duration;

use anyhow::Context as _;
use launch::{Hosts, LaunchError, LaunchPlan, Rendezvous};

use crate::cli::LaunchArgs;
use crate::failure::{Ending, Interrupted, UsageError};
use crate::logging::loudness;

/// Endings that starting again cannot change: what is asked for or given is wrong, or somebody stopped the run.
const FINAL: [Ending; 3] = [Ending::Usage, Ending::Data, Ending::Interrupted];

/// Port of `--rdzv-endpoint` where none is given: torchrun's.
const DEFAULT_ENDPOINT_PORT: u16 = 29400;

/// Starts the processes and waits for them.
///
/// # Errors
/// When the plan contradicts itself, or a process fails.
pub fn run(args: &LaunchArgs) -> anyhow::Result<()> {
    if !matches!(args.command.first().map(String::as_str), Some("prepare" | "train" | "evaluate" | "run")) {
        let wanted = "`prepare FILE`, `train FILE`, `evaluate FILE` or `run FILE` after `--`";
        return Err(UsageError::new(
            format!("got `{}`, wanted {wanted}", args.command.join(" ")),
            "for example `monopass launch --nproc-per-node 2 -- train FILE`",
        )
        .into());
    }
    let program = std::env::current_exe().context("cannot find the program's own file")?;
    let mut command = vec![program.to_string_lossy().into_owned()];
    command.extend(loudness().flag().map(str::to_owned));
    command.extend(args.command.iter().cloned());
    let plan = LaunchPlan {
        command,
        nproc_per_node: processes(&args.nproc_per_node)?,
        hosts: hosts(args)?,
        grace: Duration::from_secs(args.grace_seconds),
        max_restarts: args.max_restarts,
        final_codes: FINAL.iter().map(|ending| *ending as i32).collect(),
        stopped_code: Some(Ending::Interrupted as i32),
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

/// The hosts: given one by one, or met at the endpoint.
fn hosts(args: &LaunchArgs) -> anyhow::Result<Hosts> {
    let (min_nodes, max_nodes) = node_counts(&args.nnodes)?;
    let Some(endpoint) = &args.rdzv_endpoint else {
        if min_nodes != max_nodes {
            let hint = "add `--rdzv-endpoint HOST:PORT`, the same on every host";
            return Err(UsageError::new(format!("`--nnodes` {} needs a place to meet", args.nnodes), hint).into());
        }
        let (node_rank, master_addr) = (args.node_rank, args.master_addr.clone());
        return Ok(Hosts::Fixed { nnodes: min_nodes, node_rank, master_addr, master_port: args.master_port });
    };
    let (host, port) = match endpoint.rsplit_once(':') {
        None => (endpoint.as_str(), Some(DEFAULT_ENDPOINT_PORT)),
        Some((host, port)) => (host, port.parse().ok()),
    };
    let Some(port) = port.filter(|_| !host.is_empty()) else {
        let hint = "write HOST:PORT, for example `10.0.0.1:29400`";
        return Err(UsageError::new(format!("`--rdzv-endpoint` is `{endpoint}`"), hint).into());
    };
    Ok(Hosts::Meet(Rendezvous {
        host: host.trim_matches(['[', ']']).to_owned(),
        port,
        id: args.rdzv_id.clone(),
        min_nodes,
        max_nodes,
        join_timeout: Duration::from_secs(args.rdzv_join_seconds),
        last_call: Duration::from_secs(args.rdzv_last_call_seconds),
        keep_alive: Duration::from_secs(args.rdzv_keep_alive_seconds),
    }))
}

/// `--nnodes`: a number, or the least and the most.
fn node_counts(text: &str) -> anyhow::Result<(usize, usize)> {
    let (min, max) = text.split_once(':').unwrap_or((text, text));
    match (min.parse(), max.parse()) {
        (Ok(min), Ok(max)) => Ok((min, max)),
        _ => Err(UsageError::new(format!("`--nnodes` is `{text}`"), "write a number, or MIN:MAX").into()),
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
