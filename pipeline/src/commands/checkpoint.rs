//! `monopass checkpoint ls|verify|export`: what a run can go on from.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};
use trainer::Ranks;
use trainer::checkpoint::{TrainerState, list, verify};

use super::print_json;
use crate::config::check::load_with_source;
use crate::failure::{InputError, UsageError};
use crate::interrupt::StopFlag;
use crate::run_folder::RunFolder;
use crate::stages::{Experiment, train};

/// A checkpoint, and whether it is whole.
struct Looked {
    stage: String,
    path: PathBuf,
    bytes: u64,
    state: Result<TrainerState, String>,
}

/// Lists the checkpoints of a run, of all its stages, newest first.
///
/// # Errors
/// When there is no such run, or it cannot be read.
pub fn ls(run: &Path, as_json: bool) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for (stage, folder) in stages(run)? {
        for (_, path) in list(&folder)? {
            all.push(look(&stage, path)?);
        }
    }
    if as_json {
        return print_json(&json!({"checkpoints": all.iter().map(Looked::json).collect::<Vec<_>>()}));
    }
    if all.is_empty() {
        println!("no checkpoints in `{}`", run.display());
    }
    all.iter().for_each(|looked| println!("{}", looked.line()));
    Ok(())
}

/// Compares the files of one checkpoint, or of all of a run, with their checksums.
///
/// # Errors
/// When one is damaged, or there is none.
pub fn verify_all(path: &Path, as_json: bool) -> anyhow::Result<()> {
    let looked: Vec<Looked> = if path.join("manifest.json").exists() {
        vec![look("", path.to_owned())?]
    } else {
        let mut all = Vec::new();
        for (stage, folder) in stages(path)? {
            for (_, path) in list(&folder)? {
                all.push(look(&stage, path)?);
            }
        }
        all
    };
    if as_json {
        print_json(&json!({"checkpoints": looked.iter().map(Looked::json).collect::<Vec<_>>()}))?;
    } else {
        looked.iter().for_each(|looked| println!("{}", looked.line()));
    }
    let damaged = looked.iter().filter(|looked| looked.state.is_err()).count();
    let hint = "training passes over damaged checkpoints and goes on from the newest whole one";
    match (looked.len(), damaged) {
        (0, _) => Err(InputError::new(format!("no checkpoints in `{}`", path.display()), "give a run's folder").into()),
        (_, 0) => Ok(()),
        (all, _) => Err(InputError::new(format!("{damaged} of {all} checkpoints are damaged"), hint).into()),
    }
}

/// Writes the model a checkpoint holds, from the run that it lies in.
///
/// # Errors
/// When it is damaged, lies in no run, or what its stage started from is gone.
pub fn export(checkpoint: &Path, out: &Path, force: bool) -> anyhow::Result<()> {
    let hint = "give a folder such as `runs/NAME/train/STAGE/checkpoints/step-00000100`";
    let full = checkpoint
        .canonicalize()
        .map_err(|error| InputError::new(format!("cannot read `{}`: {error}", checkpoint.display()), hint))?;
    let Some((root, stage)) = run_and_stage(&full) else {
        return Err(InputError::new(format!("`{}` is no checkpoint of a run", checkpoint.display()), hint).into());
    };
    let folder = RunFolder::at(root);
    let (config, source) = load_with_source(&folder.config(), &[])?;
    let stop = StopFlag::listen()?;
    let experiment = Experiment { config, source, folder, force, stop: &stop, ranks: Ranks::single() };
    let Some(stage) = experiment.stages().iter().find(|section| section.name == stage) else {
        let problem = format!("`{}` has no stage `{stage}`", experiment.folder.config().display());
        return Err(InputError::new(problem, hint).into());
    };
    check_out(out, force)?;
    let state = train::export(&experiment, stage, &full, out)?;
    println!("{} (stage `{}` after step {} of {})", out.display(), stage.name, state.step, state.num_steps);
    Ok(())
}

/// The folder is written whole and put in the place of what is there, which must be nothing, or a model that may go.
fn check_out(out: &Path, force: bool) -> anyhow::Result<()> {
    let is_empty = std::fs::read_dir(out).map_or(!out.exists(), |mut entries| entries.next().is_none());
    match (is_empty, out.join("config.json").is_file()) {
        (true, _) => Ok(()),
        (false, true) if force => Ok(()),
        (false, true) => {
            Err(UsageError::new(format!("`{}` already holds a model", out.display()), "`--force` replaces it").into())
        }
        (false, false) => {
            let problem = format!("`{}` is there, and is no model", out.display());
            Err(UsageError::new(problem, "give a folder that is new or empty").into())
        }
    }
}

/// From `RUN/train/STAGE/checkpoints/step-..`, run and stage.
fn run_and_stage(checkpoint: &Path) -> Option<(&Path, String)> {
    let stage = checkpoint.parent()?.parent()?;
    let train = stage.parent().filter(|train| train.file_name().is_some_and(|name| name == "train"))?;
    let name = stage.file_name()?.to_str()?.to_owned();
    Some((train.parent()?, name)).filter(|(root, _)| RunFolder::at(root).config().is_file())
}

/// Stages of a run and where their checkpoints are; a folder of checkpoints is one without a name.
fn stages(run: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    if !list(run).unwrap_or_default().is_empty() {
        return Ok(vec![(String::new(), run.to_owned())]);
    }
    let train = run.join("train");
    if !train.is_dir() {
        let hint = "give the folder of a run that has trained, or of checkpoints";
        return Err(InputError::new(format!("there is no `{}`", train.display()), hint).into());
    }
    let mut stages = Vec::new();
    for entry in std::fs::read_dir(&train).with_context(|| format!("cannot list `{}`", train.display()))? {
        let entry = entry.with_context(|| format!("cannot list `{}`", train.display()))?;
        let folder = trainer::resume::checkpoints_folder(&entry.path());
        stages.push((entry.file_name().to_string_lossy().into_owned(), folder));
    }
    stages.sort();
    Ok(stages)
}

fn look(stage: &str, path: PathBuf) -> anyhow::Result<Looked> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(&path).with_context(|| format!("cannot list `{}`", path.display()))? {
        bytes += entry.and_then(|entry| entry.metadata()).map_or(0, |metadata| metadata.len());
    }
    let state = verify(&path).map(|(state, _)| state).map_err(|error| error.to_string());
    Ok(Looked { stage: stage.to_owned(), path, bytes, state })
}

impl Looked {
    fn json(&self) -> Value {
        json!({
            "stage": self.stage,
            "path": self.path,
            "bytes": self.bytes,
            "state": self.state.as_ref().ok(),
            "damage": self.state.as_ref().err(),
        })
    }

    fn line(&self) -> String {
        let mib = self.bytes as f64 / f64::from(1 << 20);
        let path = self.path.display();
        match &self.state {
            Ok(state) => {
                let (step, of, epoch, ranks) = (state.step, state.num_steps, state.epoch, state.world_size);
                let loss = state.last_loss.map_or(String::new(), |loss| format!(", loss {loss:.4}"));
                format!("{path}: whole, step {step} of {of}, epoch {epoch}{loss}, {ranks} ranks, {mib:.1} MiB")
            }
            Err(damage) => format!("{path}: DAMAGED, {mib:.1} MiB: {damage}"),
        }
    }
}
