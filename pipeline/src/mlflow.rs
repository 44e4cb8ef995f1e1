//! Runs in MLflow's file store (`mlruns/`), as its FileStore reads it: a folder per experiment and per run, a file per parameter, tag and metric.
//!
//! Metrics are lines `timestamp value step`, timestamps in milliseconds. Ids are hashes of names, so that writing a run again replaces it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use crate::write_whole::write_whole;

/// MLflow refuses longer values of parameters.
const MAX_PARAM_LETTERS: usize = 6000;
/// `RunStatus.FINISHED` and `SourceType.LOCAL` of MLflow's protocol.
const FINISHED: u8 = 3;
const LOCAL: u8 = 4;

/// One run to write.
#[derive(Debug, Default)]
pub struct MlflowRun {
    /// Name, unique in its experiment.
    pub name: String,
    /// Milliseconds since 1970.
    pub start: i64,
    /// Milliseconds since 1970.
    pub end: i64,
    /// Settings.
    pub params: BTreeMap<String, String>,
    /// Points (timestamp in milliseconds, value, step) by name.
    pub metrics: BTreeMap<String, Vec<(i64, f64, u64)>>,
    /// Files to copy beside the figures.
    pub artifacts: Vec<PathBuf>,
}

#[derive(Serialize)]
struct ExperimentMeta<'a> {
    artifact_location: String,
    creation_time: i64,
    experiment_id: &'a str,
    last_update_time: i64,
    lifecycle_stage: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct RunMeta<'a> {
    artifact_uri: String,
    end_time: i64,
    entry_point_name: &'a str,
    experiment_id: &'a str,
    lifecycle_stage: &'a str,
    run_id: &'a str,
    run_name: &'a str,
    run_uuid: &'a str,
    source_name: &'a str,
    source_type: u8,
    source_version: &'a str,
    start_time: i64,
    status: u8,
    tags: [u8; 0],
    user_id: &'a str,
}

/// Writes the runs of one experiment into the store; those of the same names are replaced, others stay.
///
/// # Errors
/// The store cannot be written.
pub fn write(store: &Path, experiment: &str, runs: &[MlflowRun]) -> anyhow::Result<()> {
    fs::create_dir_all(store).with_context(|| format!("cannot make `{}`", store.display()))?;
    let store = store.canonicalize().with_context(|| format!("cannot find `{}`", store.display()))?;
    let id = experiment_id(experiment);
    let folder = store.join(&id);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let times = runs.iter().map(|run| run.start).min().zip(runs.iter().map(|run| run.end).max());
    let (creation_time, last_update_time) = times.unwrap_or_default();
    let meta = ExperimentMeta {
        artifact_location: uri(&folder),
        creation_time,
        experiment_id: &id,
        last_update_time,
        lifecycle_stage: "active",
        name: experiment,
    };
    write_yaml(&folder.join("meta.yaml"), &meta)?;
    runs.iter().try_for_each(|run| write_run(&folder, &id, run))
}

fn write_run(experiment: &Path, experiment_id: &str, run: &MlflowRun) -> anyhow::Result<()> {
    let id = blake3::hash(format!("{experiment_id}/{}", run.name).as_bytes()).to_hex()[..32].to_owned();
    let folder = experiment.join(&id);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot replace `{}`", folder.display()))?;
    }
    for part in ["metrics", "params", "tags", "artifacts"] {
        let part = folder.join(part);
        fs::create_dir_all(&part).with_context(|| format!("cannot make `{}`", part.display()))?;
    }
    for (name, value) in &run.params {
        let value: String = value.chars().take(MAX_PARAM_LETTERS).collect();
        put(&folder.join("params"), name, &value)?;
    }
    for (name, points) in &run.metrics {
        let line = |(time, value, step): &(i64, f64, u64)| format!("{time} {value} {step}\n");
        put(&folder.join("metrics"), name, &points.iter().map(line).collect::<String>())?;
    }
    for (name, value) in [("mlflow.runName", run.name.as_str()), ("mlflow.source.name", "monopass")] {
        put(&folder.join("tags"), name, value)?;
    }
    for file in &run.artifacts {
        let to = folder.join("artifacts").join(file.file_name().unwrap_or_default());
        fs::copy(file, &to).with_context(|| format!("cannot copy `{}`", file.display()))?;
    }
    // Last: without it MLflow does not see the run.
    let meta = RunMeta {
        artifact_uri: uri(&folder.join("artifacts")),
        end_time: run.end,
        entry_point_name: "",
        experiment_id,
        lifecycle_stage: "active",
        run_id: &id,
        run_name: &run.name,
        run_uuid: &id,
        source_name: "monopass",
        source_type: LOCAL,
        source_version: env!("MONOPASS_VERSION"),
        start_time: run.start,
        status: FINISHED,
        tags: [],
        user_id: "",
    };
    write_yaml(&folder.join("meta.yaml"), &meta)
}

/// A name with slashes is a file in folders; MLflow allows letters, digits, `_`, `-`, `.`, blank and slash.
fn put(folder: &Path, name: &str, content: &str) -> anyhow::Result<()> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "_-. /".contains(letter);
    let plain: String = name.chars().map(|letter| if allowed(letter) { letter } else { '_' }).collect();
    let path = folder.join(plain);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make `{}`", parent.display()))?;
    }
    fs::write(&path, content).with_context(|| format!("cannot write `{}`", path.display()))
}

fn write_yaml<T: Serialize>(path: &Path, value: &T) -> anyhow::Result<()> {
    let text = serde_yaml::to_string(value).context("the store's description cannot be written as YAML")?;
    write_whole(path, text.as_bytes())
}

/// Decimal digits, as MLflow's own ids are.
fn experiment_id(name: &str) -> String {
    let hash = blake3::hash(name.as_bytes());
    let number = hash.as_bytes()[..8].iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    (100_000_000_000_000_000 + number % 900_000_000_000_000_000).to_string()
}

fn uri(path: &Path) -> String {
    format!("file://{}", path.display())
}
