//! `monopass table`: a published table with our values beside the paper's.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use evaluator::report::Report;
use evaluator::table::{Cell, Table, TableFormat};
use launch::PartProcess;
use serde_json::json;
use serde_yaml::Value;

use super::{print_json, print_table};
use crate::config::check::load_checked;
use crate::config::difference::differences;
use crate::config::experiment::ExperimentConfig;
use crate::config::file_kind::FileKind;
use crate::config::load::ConfigSource;
use crate::config::problem::Problem;
use crate::config::resolved::to_value;
use crate::failure::{Ending, InputError, Interrupted};
use crate::interrupt::StopFlag;
use crate::logging::loudness;
use crate::origin::{Origins, PROGRAM, command};
use crate::paper_table::config::{PaperTable, RunTable, TableExperiment};
use crate::paper_table::fill::{Found, fill, settle_differences};
use crate::paper_table::kept::{Agreement, agreement, left_behind, note_of, take_over, with_figures, without_figures};
use crate::paper_table::plots::trade_offs;
use crate::paper_table::reach::check_rows;
use crate::paper_table::which::Which;
use crate::run_folder::RunFolder;
use crate::write_whole::{read_json, write_whole};

/// Where tables go and come from.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// Folder in which the table is written in every format, with a page.
    pub out: Option<&'a Path>,
    /// A table that was written before: see [`crate::paper_table::kept`].
    pub kept: Option<&'a Path>,
}

/// Runs what is missing of the experiments asked for, prints the table and writes it.
///
/// # Errors
/// A table or experiment file that is wrong, a name it does not have, a signal, or experiments that failed; the table is printed and written
/// with these.
pub fn run(file: &Path, which: &Which, files: &Files<'_>, as_json: bool) -> anyhow::Result<()> {
    // All files are checked before the first run starts.
    let (paper, configs) = load(file)?;
    which.check(&paper)?;
    let folder = |config: &ExperimentConfig| RunFolder::new(&config.output_dir, &config.name);
    let folders: BTreeMap<&String, RunFolder> = configs.iter().map(|(name, config)| (name, folder(config))).collect();
    let kept = files.kept.map(read_kept).transpose()?;
    if let Some(kept) = &kept {
        refuse_to_lose(&paper, kept, files)?;
    }
    let stop = StopFlag::listen()?;
    let mut found = BTreeMap::new();
    for (name, experiment) in &paper.experiments {
        let failed = if which.has(name) { run_experiment(name, experiment, &stop)? } else { None };
        let there = match failed {
            Some(reason) => Found::Failed(reason),
            None => tables(&folders[name])?,
        };
        found.insert(name.clone(), there);
    }
    let mut table = fill(&paper, &found);
    note_origins(&mut table, &paper, &configs, &folders)?;
    if let Some(kept) = &kept {
        take_kept(&mut table, &paper, &found, kept);
    }
    settle_differences(&mut table, &paper);
    let lost = kept.as_ref().filter(|_| writes_over_kept(&paper, files));
    let lost = lost.map(|kept| without_figures(&table, kept)).unwrap_or_default();
    if let Some(folder) = files.out.filter(|_| lost.is_empty()) {
        write(&table, &paper, folder)?;
    }
    if as_json {
        print_json(&json!({ "table": table }))?;
    } else {
        print_table(&table)?;
    }
    if !lost.is_empty() {
        let rows = lost.join(", ");
        tracing::warn!("the kept table is not written over: these rows have figures there and none now: {rows}");
    }
    let failed = found.iter().filter(|(_, found)| matches!(found, Found::Failed(_))).map(|(name, _)| name.as_str());
    let failed: Vec<&str> = failed.collect();
    anyhow::ensure!(
        failed.is_empty(),
        "{} of {} experiments failed: {}; what they said stands above and in their `run.log`, and the same command runs them again",
        failed.len(),
        found.len(),
        failed.join(", ")
    );
    anyhow::ensure!(
        lost.is_empty(),
        "the table was not written; give `--out` another folder, or those rows their experiment"
    );
    Ok(())
}

/// Says of each experiment that has figures here where they come from, and whether it was made with other settings.
fn note_origins(
    table: &mut Table,
    paper: &PaperTable,
    configs: &BTreeMap<String, ExperimentConfig>,
    folders: &BTreeMap<&String, RunFolder>,
) -> anyhow::Result<()> {
    for (name, models) in with_figures(table, paper) {
        let Some(folder) = folders.get(name) else { continue };
        // Rows that name no model may be any one's.
        let of_rows = |model: &str| models.is_empty() || models.contains(model);
        let origin = Origins::read(&folder.tables())?.words(of_rows);
        let other = other_settings(&configs[name], folder)?;
        if let Some(words) = &other {
            tracing::warn!("{}", note_of(name, words));
        }
        table.notes.extend([origin, other].into_iter().flatten().map(|words| note_of(name, &words)));
    }
    Ok(())
}

/// Takes rows over from the kept table, holds new figures against it, and says what of it has no place.
fn take_kept(table: &mut Table, paper: &PaperTable, found: &BTreeMap<String, Found>, kept: &Table) {
    for figures in left_behind(paper, kept) {
        tracing::warn!("{figures} of the kept table has figures, and the file does not ask for it: not in this table");
    }
    let agreement = agreement(table, paper, found, kept);
    tell_agreement(&agreement, take_over(table, paper, found, kept));
}

/// The kept table may be the only copy of hours of running: it is not written over by one that has less.
fn refuse_to_lose(paper: &PaperTable, kept: &Table, files: &Files<'_>) -> Result<(), InputError> {
    match left_behind(paper, kept).join(", ") {
        lost if writes_over_kept(paper, files) && !lost.is_empty() => Err(InputError::new(
            format!("the kept table has figures that the table file does not ask for: {lost}"),
            "writing over it would lose them: name rows and columns as they were, or give `--out` another folder",
        )),
        _ => Ok(()),
    }
}

fn writes_over_kept(paper: &PaperTable, files: &Files<'_>) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let name = format!("{}.{}", paper.name, TableFormat::Json.extension());
    let written = files.out.and_then(|out| real(&out.join(name)));
    written.is_some() && written == files.kept.and_then(real)
}

/// Keys of a run's settings that are told at most.
const TOLD_KEYS: usize = 4;

/// Where a run was made with other settings than its experiment has here (by a command of its own, or a file that was changed since).
fn other_settings(config: &ExperimentConfig, run: &RunFolder) -> anyhow::Result<Option<String>> {
    let text = std::fs::read_to_string(run.tables_config()).or_else(|_| std::fs::read_to_string(run.config()));
    let Ok(text) = text else { return Ok(None) };
    let Ok(own) = serde_yaml::from_str::<Value>(&text) else { return Ok(None) };
    let both = [("run".to_owned(), own), ("here".to_owned(), to_value(config)?)];
    let Some(table) = differences("settings", &both) else { return Ok(None) };
    // A key that one of them lacks belongs to another version of the program.
    let told = |row: &Vec<Cell>| match row.as_slice() {
        [Cell::Text(key), Cell::Text(run), Cell::Text(here)] => Some(format!("{key} {run}, here {here}")),
        _ => None,
    };
    let told: Vec<String> = table.rows.iter().filter_map(told).collect();
    let more = told.len().saturating_sub(TOLD_KEYS);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let first = told.iter().take(TOLD_KEYS).cloned().collect::<Vec<_>>().join("; ");
    Ok((!told.is_empty()).then(|| format!("made with other settings: {first}{more}")))
}

/// Reads a table file and the experiments it names.
///
/// # Errors
/// When one of them is wrong, or a row asks for what its experiment does not have.
pub(super) fn load(file: &Path) -> anyhow::Result<(PaperTable, BTreeMap<String, ExperimentConfig>)> {
    let source = ConfigSource::read(file, &[])?;
    FileKind::Table.expect(&source)?;
    let paper: PaperTable = source.decode()?;
    let problems = paper.check();
    if !problems.is_empty() {
        return Err(source.error(problems).into());
    }
    let mut configs = BTreeMap::new();
    for (name, experiment) in &paper.experiments {
        let config = load_checked(&experiment.file, &experiment.set).with_context(|| format!("experiment `{name}`"))?;
        configs.insert(name.clone(), config);
    }
    let mut problems = check_rows(&paper, &configs);
    problems.extend(check_folders(&paper, &configs)?);
    if problems.is_empty() { Ok((paper, configs)) } else { Err(source.error(problems).into()) }
}

/// Experiments that differ need folders of their own: each would take the other's results for its own.
fn check_folders(paper: &PaperTable, configs: &BTreeMap<String, ExperimentConfig>) -> anyhow::Result<Vec<Problem>> {
    let mut problems = Vec::new();
    let names: Vec<&String> = paper.experiments.keys().collect();
    for (place, name) in names.iter().enumerate() {
        for other in &names[..place] {
            let (own, before) = (&configs[*name], &configs[*other]);
            let one_folder = own.name == before.name && own.output_dir == before.output_dir;
            if one_folder && to_value(own)? != to_value(before)? {
                let text = format!(
                    "`{other}` has other settings and the same folder `{}`",
                    own.output_dir.join(&own.name).display()
                );
                let hint = format!("give it one of its own: `set: [name={name}]`");
                problems.push(Problem::new(format!("experiments.{name}"), text).hint(hint));
            }
        }
    }
    Ok(problems)
}

/// How often a running experiment is looked at.
const TICK: Duration = Duration::from_millis(50);

/// Does an experiment in a process of its own; finished stages are skipped there. The reason when it fails.
fn run_experiment(name: &str, experiment: &TableExperiment, stop: &StopFlag) -> anyhow::Result<Option<String>> {
    let program = std::env::current_exe().context("cannot find the program's own file")?;
    let mut command = Command::new(program);
    command.args(loudness().flag()).arg("run").arg(&experiment.file);
    for text in &experiment.set {
        command.args(["--set", text]);
    }
    tracing::info!("experiment `{name}`: {}", experiment.file.display());
    // Its own table goes to stdout, which is for this command's.
    command.stdout(Stdio::null());
    stop.check()?;
    let mut process = PartProcess::start(&mut command).context("cannot start an experiment")?;
    let status = loop {
        match process.poll(stop.is_set()).context("cannot wait for an experiment")? {
            Some(status) => break status,
            None => std::thread::sleep(TICK),
        }
    };
    if stop.is_set() && !status.success() || status.code() == Some(Ending::Interrupted as i32) {
        let saved = format!("experiment `{name}` is stopped; the same command goes on with it");
        return Err(Interrupted { saved }.into());
    }
    if status.success() {
        return Ok(None);
    }
    tracing::warn!("experiment `{name}` failed ({status}); its cells have no figures");
    Ok(Some(format!("the run failed ({status})")))
}

/// The tables of a run, as far as it got.
fn tables(run: &RunFolder) -> anyhow::Result<Found> {
    let folder = run.tables();
    let mut tables = BTreeMap::new();
    for table in RunTable::ALL {
        let path = folder.join(format!("{}.json", table.name()));
        if path.exists() {
            tables.insert(table, read_json::<Table>(&path)?);
        }
    }
    let missing = || Found::Missing(format!("no run in {}", run.root().display()));
    Ok(if tables.is_empty() { missing() } else { Found::Tables(tables) })
}

fn read_kept(path: &Path) -> anyhow::Result<Table> {
    read_json(path).map_err(|error| {
        let hint = "`--kept` wants the JSON file of the table that `monopass table FILE --out DIR` wrote";
        InputError::new(format!("{error:#}"), hint).into()
    })
}

/// On stderr: how many rows are the kept table's, and which figures of runs here left its intervals.
fn tell_agreement(agreement: &Agreement, taken: usize) {
    let Agreement { within, outside } = agreement;
    if taken > 0 {
        tracing::info!("rows taken from the kept table, having no run here: {taken}");
    }
    if within + outside.len() > 0 {
        tracing::info!("{within} of {} figures run here are within the kept intervals", within + outside.len());
    }
    outside.iter().for_each(|figure| tracing::warn!("outside: {figure}"));
}

fn write(table: &Table, paper: &PaperTable, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    for format in TableFormat::ALL {
        let path = folder.join(format!("{}.{}", table.name, format.extension()));
        write_whole(&path, table.render(format).as_bytes())?;
    }
    let environment = vec![("program".to_owned(), PROGRAM.to_owned()), ("command".to_owned(), command())];
    // The page's own heading has title and caption.
    let figures = Table { title: "Table".to_owned(), caption: String::new(), ..table.clone() };
    let page = Report {
        title: table.title.clone(),
        summary: table.caption.clone(),
        trade_offs: trade_offs(table, paper),
        tables: vec![figures],
        environment,
        ..Report::default()
    };
    page.write(&folder.join(format!("{}.html", table.name)))?;
    tracing::info!("table: {}", folder.display());
    Ok(())
}
