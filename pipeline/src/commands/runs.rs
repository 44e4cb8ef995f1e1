//! `monopass runs ls|show|rm`: what lies in `runs/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use evaluator::table::Table;
use serde::Serialize;

use super::{print_json, print_table};
use crate::failure::{InputError, UsageError};
use crate::run_folder::RunFolder;
use crate::write_whole::read_json;

/// Tables shown by `show`, where a run has them.
const SHOWN_TABLES: [&str; 2] = ["results", "answers"];

/// What can be said of a run without its data.
#[derive(Debug, Serialize)]
struct Summary {
    name: String,
    path: PathBuf,
    bytes: u64,
    /// Finished stages, in the order of a run.
    done: Vec<String>,
    /// Training stages that have checkpoints and no model yet.
    unfinished: Vec<String>,
    /// Another process works in it.
    in_use: bool,
}

/// Lists the runs of a folder by name.
///
/// # Errors
/// There is no such folder, or it cannot be read.
pub fn ls(folder: &Path, as_json: bool) -> anyhow::Result<()> {
    if !folder.is_dir() {
        let message = format!("there is no folder `{}`", folder.display());
        return Err(InputError::new(message, "give the folder that holds the runs").into());
    }
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| is_run(path)).collect();
    paths.sort();
    let summaries = paths.iter().map(|path| Summary::of(path)).collect::<anyhow::Result<Vec<_>>>()?;
    if as_json {
        return print_json(&serde_json::json!({ "runs": summaries }));
    }
    if summaries.is_empty() {
        println!("no runs in `{}`", folder.display());
    }
    summaries.iter().for_each(|summary| println!("{}", summary.line()));
    Ok(())
}

/// Shows one run.
///
/// # Errors
/// It is not a run, or cannot be read.
pub fn show(run: &Path, as_json: bool) -> anyhow::Result<()> {
    let summary = Summary::of(checked(run)?)?;
    if as_json {
        return print_json(&serde_json::to_value(&summary).context("cannot encode the run")?);
    }
    println!("{}", summary.line());
    summary.done.iter().for_each(|stage| println!("  done         {stage}"));
    for what in ["config.yaml", "report.html", "run.log", "model", "tables", "predictions"] {
        let path = run.join(what);
        if path.exists() {
            println!("  {what:<12} {}", path.display());
        }
    }
    for name in SHOWN_TABLES {
        let path = run.join("tables").join(format!("{name}.json"));
        if path.exists() {
            print_table(&read_json::<Table>(&path)?)?;
        }
    }
    Ok(())
}

/// Removes runs, or the checkpoints that finished stages no longer need. Without `yes` it only says what would go.
///
/// # Errors
/// A folder that is not a run or is in use, or cannot be removed; nothing is removed then.
pub fn rm(runs: &[PathBuf], checkpoints: bool, yes: bool) -> anyhow::Result<()> {
    let mut going: Vec<PathBuf> = Vec::new();
    for (place, run) in runs.iter().enumerate() {
        if runs[..place].contains(run) {
            continue;
        }
        if in_use(checked(run)?) {
            let message = format!("`{}` is in use by another process", run.display());
            return Err(UsageError::new(message, "wait for it, or stop it").into());
        }
        match checkpoints {
            true => going.extend(needless_checkpoints(run)?),
            false => going.push(run.clone()),
        }
    }
    let mut freed = 0;
    for path in &going {
        let bytes = bytes_in(path)?;
        freed += bytes;
        if yes {
            fs::remove_dir_all(path).with_context(|| format!("cannot remove `{}`", path.display()))?;
        }
        println!("{} {} ({})", if yes { "removed" } else { "would remove" }, path.display(), mebibytes(bytes));
    }
    match (going.len(), yes) {
        (0, _) => println!("nothing to remove"),
        (_, true) => println!("{} freed", mebibytes(freed)),
        (_, false) => println!("{} in all; add --yes to remove", mebibytes(freed)),
    }
    Ok(())
}

/// Checkpoint folders of stages whose model is whole.
fn needless_checkpoints(run: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let done = stamps(run)?;
    let stages = names(&run.join("train"))?;
    let folder = |stage: &String| trainer::resume::checkpoints_folder(&run.join("train").join(stage));
    // A model that was taken away, a damaged one say, is made again from its last checkpoint.
    let has_model = |stage: &String| model::folder::is_model_folder(&run.join("model").join(stage));
    let finished = stages.iter().filter(|stage| done.contains(&format!("train/{stage}")) && has_model(stage));
    Ok(finished.map(folder).filter(|folder| folder.is_dir()).collect())
}

impl Summary {
    fn of(run: &Path) -> anyhow::Result<Self> {
        let done = stamps(run)?;
        let mut unfinished = names(&run.join("train"))?;
        unfinished.retain(|stage| !done.contains(&format!("train/{stage}")));
        let name =
            run.file_name().map_or_else(|| run.display().to_string(), |name| name.to_string_lossy().into_owned());
        let bytes = bytes_in(run)?;
        Ok(Self { name, path: run.to_owned(), bytes, done, unfinished, in_use: in_use(run) })
    }

    fn line(&self) -> String {
        let state = match (self.in_use, self.done.iter().any(|stage| stage == "report"), self.unfinished.is_empty()) {
            (true, ..) => "going on".to_owned(),
            (_, true, true) => "complete".to_owned(),
            (_, _, false) => format!("unfinished: {}", self.unfinished.join(", ")),
            _ => "in part".to_owned(),
        };
        format!("{}: {state}, {}; done: {}", self.path.display(), mebibytes(self.bytes), self.counts())
    }

    /// Finished stages by kind: `prepare 2, train 1, report`.
    fn counts(&self) -> String {
        let mut kinds: Vec<(&str, usize)> = Vec::new();
        for stage in &self.done {
            let kind = stage.split('/').next().unwrap_or(stage);
            match kinds.iter_mut().find(|(own, _)| *own == kind) {
                Some((_, count)) => *count += 1,
                None => kinds.push((kind, 1)),
            }
        }
        let words: Vec<String> = kinds
            .iter()
            .map(|(kind, count)| if *kind == "report" { (*kind).to_owned() } else { format!("{kind} {count}") })
            .collect();
        if words.is_empty() { "nothing yet".to_owned() } else { words.join(", ") }
    }
}

fn is_run(path: &Path) -> bool {
    path.join("config.yaml").is_file()
}

fn checked(run: &Path) -> anyhow::Result<&Path> {
    if is_run(run) {
        return Ok(run);
    }
    let message = format!("`{}` is not a run: it has no `config.yaml`", run.display());
    Err(InputError::new(message, "`monopass runs ls` lists the runs of a folder").into())
}

/// Whether another process holds the run's lock.
fn in_use(run: &Path) -> bool {
    let (parent, name) = (run.parent().unwrap_or(Path::new("")), run.file_name().unwrap_or_default());
    RunFolder::new(parent, &name.to_string_lossy()).is_locked()
}

/// Names of finished stages: preparing, training, evaluating, the rest.
fn stamps(run: &Path) -> anyhow::Result<Vec<String>> {
    let order = ["prepare", "train", "teacher", "head", "evaluate", "answer", "report"];
    let mut done: Vec<String> = names(&run.join("stamps"))?
        .iter()
        .filter_map(|name| name.strip_suffix(".json"))
        .map(|name| name.replacen('.', "/", 1))
        .collect();
    done.sort_by_key(|name| (order.iter().position(|kind| name.starts_with(kind)), name.clone()));
    Ok(done)
}

/// What lies in a folder, sorted; nothing where there is none.
fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// Sizes of all files below a folder; links are not followed.
fn bytes_in(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))?.flatten() {
        // A file may go while it is counted.
        let Ok(metadata) = entry.path().symlink_metadata() else { continue };
        bytes += if metadata.is_dir() { bytes_in(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}
