//! `monopass sweep`: one experiment file with many values.

use std::path::Path;

use anyhow::Context as _;
use evaluator::table::TableFormat;
use serde_json::json;

use super::{print_json, print_table};
use crate::config::check::load_checked;
use crate::config::file_kind::FileKind;
use crate::config::load::ConfigSource;
use crate::failure::Interrupted;
use crate::interrupt::StopFlag;
use crate::origin::as_typed;
use crate::sweep::config::SweepConfig;
use crate::sweep::jobs::Job;
use crate::sweep::page::page;
use crate::sweep::run::{JobEnd, run_all};
use crate::sweep::table::combined;
use crate::write_whole::{write_json, write_whole};

/// Runs a sweep, or lists its runs.
///
/// # Errors
/// A sweep file or a run's settings that are wrong, a process that cannot be started, or runs that failed.
pub fn run(file: &Path, dry_run: bool, jobs: Option<usize>, as_json: bool) -> anyhow::Result<()> {
    // Every run's settings are checked before the first one starts.
    let (sweep, runs) = load(file, jobs)?;
    if dry_run {
        return list(&runs, as_json);
    }
    let stop = StopFlag::listen()?;
    let program = std::env::current_exe().context("cannot find the program's own file")?;
    let ends = run_all(&sweep, &runs, &program, &stop)?;
    let folder = sweep.folder();
    let states: Vec<_> = runs.iter().zip(&ends).map(|(job, end)| json!({"run": job.name, "end": end})).collect();
    write_json(&folder.join("sweep.json"), &json!({"sweep": sweep, "runs": states}))?;
    let table = combined(&sweep.name, sweep.table.name(), &runs, &ends)?;
    for format in TableFormat::ALL {
        let path = folder.join(format!("{}.{}", table.name, format.extension()));
        write_whole(&path, table.render(format).as_bytes())?;
    }
    page(&sweep.name, &runs, &ends, &table)?.write(&folder.join("report.html"))?;
    if as_json {
        print_json(&json!({"sweep": folder, "runs": states, "table": table}))?;
    } else if table.rows.is_empty() {
        table.notes.iter().for_each(|note| println!("{note}"));
    } else {
        print_table(&table)?;
    }
    tracing::info!("report: {}", folder.join("report.html").display());
    tracing::info!("sweep: {}", folder.display());
    finish(&runs, &ends)
}

/// Reads a sweep file, with another number of jobs where one is given, and checks the settings of its runs.
///
/// # Errors
/// When the file or a run's settings are wrong.
pub(super) fn load(file: &Path, jobs: Option<usize>) -> anyhow::Result<(SweepConfig, Vec<Job>)> {
    let source = ConfigSource::read(file, &[])?;
    FileKind::Sweep.expect(&source)?;
    let mut sweep: SweepConfig = source.decode()?;
    sweep.jobs = jobs.unwrap_or(sweep.jobs);
    let problems = sweep.check();
    if !problems.is_empty() {
        return Err(source.error(problems).into());
    }
    let runs = sweep.runs();
    for job in &runs {
        let overrides: Vec<String> = job.arguments[2..].iter().filter(|text| *text != "--set").cloned().collect();
        load_checked(&sweep.experiment, &overrides).with_context(|| format!("run `{}`", job.name))?;
    }
    Ok((sweep, runs))
}

fn list(runs: &[Job], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let runs: Vec<_> = runs.iter().map(|job| json!({"run": job.name, "arguments": job.arguments})).collect();
        return print_json(&json!({ "runs": runs }));
    }
    for job in runs {
        println!("{}\n  monopass {}", job.name, as_typed(job.arguments.clone()));
    }
    Ok(())
}

fn finish(runs: &[Job], ends: &[JobEnd]) -> anyhow::Result<()> {
    if ends.contains(&JobEnd::Stopped) {
        let done = ends.iter().filter(|end| **end == JobEnd::Done).count();
        let saved = format!("{done} of {} runs are done; the same command goes on with the others", runs.len());
        return Err(Interrupted { saved }.into());
    }
    let failed: Vec<&str> =
        runs.iter().zip(ends).filter(|(_, end)| **end != JobEnd::Done).map(|(job, _)| job.name.as_str()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    anyhow::bail!(
        "{} of {} runs failed: {}; their logs say why, and the same command runs them again",
        failed.len(),
        runs.len(),
        failed.join(", ")
    )
}
