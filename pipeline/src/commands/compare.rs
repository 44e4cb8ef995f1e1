//! `monopass compare`: runs side by side, query by query.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use evaluator::evaluate::{RowName, RunBaseline, RunEvaluations, SetEvaluation, runs_table};
use evaluator::measures::RankingMeasure;
use evaluator::report::Report;
use evaluator::stats::Bootstrap;
use evaluator::table::{Table, TableFormat};
use serde_json::json;

use super::{print_json, print_table};
use crate::cli::CompareArgs;
use crate::config::difference::differences;
use crate::failure::{InputError, UsageError};
use crate::origin::PROGRAM;
use crate::run_folder::RunFolder;
use crate::stages::evaluate::EVALUATIONS_FILE;
use crate::write_whole::{read_json, write_whole};

/// Compares the rankings of runs.
///
/// # Errors
/// A run without evaluation, a baseline that no run has, nothing in common.
pub fn run(args: &CompareArgs) -> anyhow::Result<()> {
    let runs = args.runs.iter().map(|run| read(run)).collect::<anyhow::Result<Vec<_>>>()?;
    for (place, run) in runs.iter().enumerate() {
        if runs[..place].iter().any(|other| other.run == run.run) {
            let message = format!("two runs are called `{}`", run.run);
            return Err(UsageError::new(message, "give each run once; rename one of the folders").into());
        }
    }
    let measures =
        args.measures.iter().map(|name| Ok(name.parse()?)).collect::<anyhow::Result<Vec<RankingMeasure>>>()?;
    let baseline = args.baseline.as_deref().map_or(Ok(RunBaseline::Counterpart), row_name)?;
    let table = runs_table(&runs, &baseline, &measures, &Bootstrap::default())
        .map_err(|error| UsageError::new(error.to_string(), "`monopass runs show RUN` lists a run's rows"))?;
    if let Some(folder) = &args.out {
        write(&table, &runs, settings(&args.runs)?, folder)?;
    }
    if args.json {
        return print_json(&json!({ "table": table }));
    }
    print_table(&table)
}

/// Where the runs' settings differ; a run without its resolved file has an empty column.
fn settings(runs: &[PathBuf]) -> anyhow::Result<Option<Table>> {
    let mut settings = Vec::new();
    for run in runs {
        let file = RunFolder::at(run).config();
        let problem = || format!("cannot read `{}`", file.display());
        let text = if file.exists() { std::fs::read_to_string(&file).with_context(problem)? } else { "{}".to_owned() };
        let value = serde_yaml::from_str(&text).with_context(problem)?;
        settings.push((run.display().to_string(), value));
    }
    Ok(differences("Settings that differ", &settings))
}

fn read(run: &Path) -> anyhow::Result<RunEvaluations> {
    let file = run.join("tables").join(EVALUATIONS_FILE);
    if !file.exists() {
        let message = format!("`{}` has no evaluation: there is no `{}`", run.display(), file.display());
        return Err(InputError::new(message, "evaluate the run first, or give another folder").into());
    }
    let evaluations: Vec<SetEvaluation> = read_json(&file)?;
    let full = run.canonicalize().with_context(|| format!("cannot find `{}`", run.display()))?;
    let name = full.file_name().map_or_else(|| run.display().to_string(), |name| name.to_string_lossy().into_owned());
    Ok(RunEvaluations { run: name, evaluations })
}

fn row_name(text: &str) -> anyhow::Result<RunBaseline> {
    // A model may be a path.
    let parts = text.split_once('/').and_then(|(run, rest)| Some((run, rest.rsplit_once('/')?)));
    match parts {
        Some((run, (model, decoder))) => {
            Ok(RunBaseline::Row(RowName { run: run.to_owned(), model: model.to_owned(), decoder: decoder.to_owned() }))
        }
        None => Err(UsageError::new(
            format!("`--baseline` is `{text}`"),
            "write RUN/MODEL/DECODER, for example `quickstart/first/single_token`",
        )
        .into()),
    }
}

/// The table in every format, and a page.
fn write(table: &Table, runs: &[RunEvaluations], settings: Option<Table>, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    for format in TableFormat::ALL {
        let path = folder.join(format!("{}.{}", table.name, format.extension()));
        write_whole(&path, table.render(format).as_bytes())?;
    }
    let names: Vec<&str> = runs.iter().map(|run| run.run.as_str()).collect();
    let page = Report {
        title: names.join(" and "),
        summary: "Runs side by side, query by query.".to_owned(),
        tables: [table.clone()].into_iter().chain(settings).collect(),
        environment: vec![
            ("program".to_owned(), PROGRAM.to_owned()),
            ("command".to_owned(), std::env::args().collect::<Vec<_>>().join(" ")),
        ],
        ..Report::default()
    };
    page.write(&folder.join("report.html"))?;
    tracing::info!("comparison: {}", folder.display());
    Ok(())
}
