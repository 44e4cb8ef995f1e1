//! Starts the runs of a sweep, a few at a time, and keeps going when one fails.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use launch::PartProcess;
use serde::{Deserialize, Serialize};

use super::config::SweepConfig;
use super::jobs::Job;
use crate::interrupt::StopFlag;

/// How often running processes are looked at.
const TICK: Duration = Duration::from_millis(50);
/// Last lines of a failed run's log that are told.
const LAST_LINES: usize = 5;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobEnd {
    /// All stages are done.
    Done,
    /// With this exit code (none: by a signal); the last lines it said.
    Failed {
        /// Exit code.
        code: Option<i32>,
        /// Last lines.
        said: Vec<String>,
    },
    /// Not started, or stopped, because a signal came; the same command goes on.
    Stopped,
}

/// A process, and the job and slot it works for.
struct Running {
    job: usize,
    slot: usize,
    process: PartProcess,
    started: Instant,
}

/// Runs all jobs; how each ended, in their order. After a signal none is started, and those that work are asked to save and end.
///
/// # Errors
/// When a process cannot be started or a log not be written.
pub fn run_all(sweep: &SweepConfig, jobs: &[Job], program: &Path, stop: &StopFlag) -> anyhow::Result<Vec<JobEnd>> {
    let slots = sweep.jobs.min(jobs.len()).max(1);
    let mut ends = vec![JobEnd::Stopped; jobs.len()];
    let mut running: Vec<Running> = Vec::new();
    let mut next = 0;
    loop {
        while running.len() < slots && next < jobs.len() && !stop.is_set() {
            let slot = (0..slots).find(|slot| running.iter().all(|r| r.slot != *slot)).unwrap_or(0);
            let process = start(&jobs[next], program, slot, slots)?;
            tracing::info!("{} started ({} of {})", jobs[next].name, next + 1, jobs.len());
            running.push(Running { job: next, slot, process, started: Instant::now() });
            next += 1;
        }
        if running.is_empty() {
            return Ok(ends);
        }
        let mut still = Vec::new();
        for mut one in running {
            match one.process.poll(stop.is_set()).context("cannot wait for a run")? {
                None => still.push(one),
                Some(status) => ends[one.job] = ended(&jobs[one.job], status, one.started, stop),
            }
        }
        running = still;
        std::thread::sleep(TICK);
    }
}

/// A run with its share of the cores, and a GPU of its own where there are several.
fn start(job: &Job, program: &Path, slot: usize, slots: usize) -> anyhow::Result<PartProcess> {
    let folder = job.log.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let log = File::create(&job.log).with_context(|| format!("cannot write `{}`", job.log.display()))?;
    let errors = log.try_clone().with_context(|| format!("cannot write `{}`", job.log.display()))?;
    let mut command = Command::new(program);
    command.args(&job.arguments).stdout(log).stderr(errors);
    if slots > 1 {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        if std::env::var_os("OMP_NUM_THREADS").is_none() {
            command.env("OMP_NUM_THREADS", (cores / slots).max(1).to_string());
        }
        let devices = tch::Cuda::device_count();
        if devices > 0 && std::env::var_os("CUDA_VISIBLE_DEVICES").is_none() {
            command.env("CUDA_VISIBLE_DEVICES", (slot as i64 % devices).to_string());
        }
    }
    PartProcess::start(&mut command).with_context(|| format!("cannot start `{}`", program.display()))
}

fn ended(job: &Job, status: ExitStatus, started: Instant, stop: &StopFlag) -> JobEnd {
    let seconds = started.elapsed().as_secs_f64();
    if status.success() {
        tracing::info!("{} done, {seconds:.1} s", job.name);
        return JobEnd::Done;
    }
    if stop.is_set() {
        return JobEnd::Stopped;
    }
    let text = fs::read(&job.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let said: Vec<String> =
        lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| (*line).to_owned()).collect();
    tracing::warn!("{} failed after {seconds:.1} s ({status}); the others go on\n  {}", job.name, said.join("\n  "));
    JobEnd::Failed { code: status.code(), said }
}
