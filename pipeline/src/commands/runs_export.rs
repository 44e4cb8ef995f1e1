//! `monopass runs export`: figures of runs for other tools.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use evaluator::table::{Cell, Table};
use serde_json::Value;

use crate::config::check::load_with_source;
use crate::config::experiment::{BASE, ExperimentConfig};
use crate::failure::InputError;
use crate::mlflow::{self, MlflowRun};
use crate::run_folder::RunFolder;
use crate::write_whole::read_json;

/// Tables whose rows are figures of models.
const TABLES: [&str; 2] = ["results", "answers"];

/// Writes every model of the runs, with its settings, curves and results, into an MLflow file store: a run is an experiment there.
///
/// # Errors
/// A folder is not a run, or the store cannot be written.
pub fn to_mlflow(runs: &[PathBuf], store: &Path) -> anyhow::Result<()> {
    let mut written: BTreeMap<String, &PathBuf> = BTreeMap::new();
    for run in runs {
        let folder = RunFolder::at(run);
        if !folder.config().is_file() {
            let message = format!("`{}` is not a run: it has no `config.yaml`", run.display());
            return Err(InputError::new(message, "`monopass runs ls` lists the runs of a folder").into());
        }
        let (config, _) = load_with_source(&folder.config(), &[])?;
        // A run is an experiment of its name there: a second one would take the first one's place.
        if let Some(other) = written.insert(config.name.clone(), run).filter(|other| *other != run) {
            let message = format!("`{}` and `{}` are both named `{}`", other.display(), run.display(), config.name);
            return Err(InputError::new(message, "export them to stores of their own, one `--mlflow DIR` each").into());
        }
        let results = results(&folder)?;
        let mut models: Vec<&str> =
            [BASE].into_iter().chain(config.stages().iter().map(|stage| stage.name.as_str())).collect();
        // systems with a name of their own, models from elsewhere
        let others: Vec<&str> = results.keys().map(String::as_str).filter(|name| !models.contains(name)).collect();
        models.extend(others);
        let exported = models.iter().map(|model| model_run(&folder, &config, model, &results));
        let exported: Vec<MlflowRun> = exported.collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect();
        mlflow::write(store, &config.name, &exported)?;
        println!("{}: {} models of experiment `{}`", store.display(), exported.len(), config.name);
    }
    Ok(())
}

/// Figures by model, then by name: `SET/DECODER/MEASURE`.
type Results = BTreeMap<String, BTreeMap<String, f64>>;

fn results(folder: &RunFolder) -> anyhow::Result<Results> {
    let mut results = Results::new();
    for name in TABLES {
        let path = folder.tables().join(format!("{name}.json"));
        if !path.exists() {
            continue;
        }
        let table: Table = read_json(&path)?;
        for row in &table.rows {
            let text = |key: &str| {
                let place = table.columns.iter().position(|column| column.key == key)?;
                if let Cell::Text(text) = &row[place] { Some(text.as_str()) } else { None }
            };
            let (Some(set), Some(model)) = (text("set"), text("model")) else { continue };
            let decoder = text("decoder").unwrap_or("first_stage");
            let model = if text("decoder").is_none() { BASE } else { model };
            for (column, cell) in table.columns.iter().zip(row) {
                if let Cell::Value(value) = cell {
                    let name = format!("{set}/{decoder}/{}", column.key);
                    results.entry(model.to_owned()).or_default().insert(name, value.value);
                }
            }
        }
    }
    Ok(results)
}

/// None for a model that was neither trained nor evaluated.
fn model_run(
    folder: &RunFolder,
    config: &ExperimentConfig,
    model: &str,
    results: &Results,
) -> anyhow::Result<Option<MlflowRun>> {
    let metrics = folder.train(model).join("metrics.jsonl");
    let found = results.get(model);
    if found.is_none() && !metrics.exists() {
        return Ok(None);
    }
    let dated = if metrics.exists() { &metrics } else { &folder.config() };
    let end = milliseconds(dated)?;
    let mut run = MlflowRun { name: model.to_owned(), start: end, end, ..MlflowRun::default() };
    run.params.insert("model.path".to_owned(), config.model.path.clone());
    run.params.insert("seed".to_owned(), config.seed.to_string());
    if let Some(stage) = config.stages().iter().find(|stage| stage.name == model) {
        run.params.insert("data".to_owned(), stage.data.0.join(", "));
        run.params.insert("from".to_owned(), config.start_of(stage).to_owned());
        flatten("", &serde_json::to_value(&stage.settings)?, &mut run.params);
    }
    if metrics.exists() {
        run.start = curves(&metrics, end, &mut run)?;
    }
    for (name, value) in found.into_iter().flatten() {
        run.metrics.insert(name.clone(), vec![(end, *value, 0)]);
    }
    run.artifacts = [folder.config(), folder.report()].into_iter().filter(|file| file.is_file()).collect();
    Ok(Some(run))
}

/// Reads the curves; steps are dated back from the last line by their seconds. Returns when the first began.
fn curves(path: &Path, end: i64, run: &mut MlflowRun) -> anyhow::Result<i64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let took = |line: &Value| (1000.0 * line["step_seconds"].as_f64().unwrap_or(0.0)) as i64;
    let start = end - lines.iter().map(took).sum::<i64>();
    let mut time = start;
    for line in &lines {
        time += took(line);
        let step = line["step"].as_u64().unwrap_or(0);
        let kind = line["kind"].as_str().unwrap_or("train");
        for (name, value) in line.as_object().into_iter().flatten().filter(|(name, _)| *name != "step") {
            if let Some(value) = value.as_f64() {
                run.metrics.entry(format!("{kind}/{name}")).or_default().push((time, value, step));
            }
        }
    }
    Ok(start)
}

/// `{a: {b: 1}}` as `a.b`.
fn flatten(prefix: &str, value: &Value, params: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&name, value, params);
            }
        }
        Value::String(text) => drop(params.insert(prefix.to_owned(), text.clone())),
        other => drop(params.insert(prefix.to_owned(), other.to_string())),
    }
}

fn milliseconds(path: &Path) -> anyhow::Result<i64> {
    let time = fs::metadata(path).and_then(|metadata| metadata.modified());
    let time: SystemTime = time.with_context(|| format!("cannot date `{}`", path.display()))?;
    Ok(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64))
}
