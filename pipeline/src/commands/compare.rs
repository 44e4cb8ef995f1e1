//! `monopass compare`: runs side by side, query by query.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use data::prepared::Card;
use evaluator::EvaluatorError;
use evaluator::answer::{AnswerEvaluation, AnswerNormalisation, AnsweredRun, answered_runs_table};
use evaluator::evaluate::{RowName, RunBaseline, RunEvaluations, SetEvaluation, runs_table};
use evaluator::measures::RankingMeasure;
use evaluator::report::{QueryDifferences, Report};
use evaluator::stats::Bootstrap;
use evaluator::table::{Table, TableFormat};
use serde_json::json;

use super::compare_queries::{self, Folders};
use super::{print_json, print_table};
use crate::cli::CompareArgs;
use crate::config::difference::differences;
use crate::failure::{InputError, UsageError};
use crate::origin::{PROGRAM, command};
use crate::run_folder::RunFolder;
use crate::stages::answer::ANSWERS_FILE;
use crate::stages::evaluate::EVALUATIONS_FILE;
use crate::sweep::config::one_line;
use crate::write_whole::{read_json, write_whole};

/// Compares the rankings of runs, and their answers.
///
/// # Errors
/// A run without evaluation, a baseline that no run has, nothing in common.
pub fn run(args: &CompareArgs) -> anyhow::Result<()> {
    // One that is not there is a slip; one without an evaluation may be left out.
    names(&args.runs)?;
    let runs = evaluated(&args.runs)?;
    let names = names(&runs)?;
    let measures =
        args.measures.iter().map(|name| Ok(name.parse()?)).collect::<anyhow::Result<Vec<RankingMeasure>>>()?;
    let baseline = args.baseline.as_deref().map_or(Ok(RunBaseline::Counterpart), row_name)?;
    let (mut ranked, mut answered) = (Vec::new(), Vec::new());
    for (name, run) in names.iter().zip(&runs) {
        ranked.extend(rankings(name, run)?);
        answered.extend(answers(name, run)?);
    }
    let grades_only = |measure: &RankingMeasure| matches!(measure, RankingMeasure::Ndcg | RankingMeasure::NdcgCut(_));
    let by_level = measures.is_empty() || !measures.iter().all(grades_only);
    let of = |is_in: &dyn Fn(&String) -> bool| -> Vec<&PathBuf> {
        names.iter().zip(&runs).filter(|(name, _)| is_in(name)).map(|(_, run)| run).collect()
    };
    if by_level {
        check_rule(&of(&|name| ranked.iter().any(|own| own.run == *name)), "evaluate", "relevance_level", "1")?;
    }
    check_rule(&of(&|name| answered.iter().any(|own| own.run == *name)), "answer", "normalisation", "official")?;
    let bootstrap = Bootstrap::default();
    let mut made = Vec::new();
    if !ranked.is_empty() {
        made.push(("rankings", runs_table(&ranked, &baseline, &measures, &bootstrap)));
    }
    if !answered.is_empty() {
        made.push(("answers", answered_runs_table(&answered, &baseline, &bootstrap)));
    }
    let tables = whole_tables(made)?;
    for (kind, of_kind) in [("rankings", ranked.len()), ("answers", answered.len())] {
        if of_kind > 0 && of_kind < names.len() {
            tracing::warn!("{of_kind} of {} runs have {kind}: the others are not in that table", names.len());
        }
    }
    if let Some(folder) = &args.out {
        let folders: Folders = names.iter().zip(&runs).map(|(name, run)| (name.clone(), RunFolder::at(run))).collect();
        let mut queries = compare_queries::of_rankings(&folders, &ranked, &baseline, &measures)?;
        queries.extend(compare_queries::of_answers(&folders, &answered, &baseline, normalisation)?);
        write(tables.clone(), &names, settings(&runs)?, queries, folder)?;
    }
    if args.json {
        return print_json(&json!({ "table": tables[0], "tables": tables }));
    }
    tables.iter().try_for_each(print_table)
}

/// What could be compared. A baseline is a row of rankings or of answers, so one of the two may fail.
fn whole_tables(made: Vec<(&str, Result<Table, EvaluatorError>)>) -> anyhow::Result<Vec<Table>> {
    let (mut tables, mut failed) = (Vec::new(), Vec::new());
    for (kind, table) in made {
        match table {
            Ok(table) => tables.push(table),
            Err(error) => failed.push((kind, error)),
        }
    }
    if tables.is_empty() {
        let words: Vec<String> = failed.iter().map(|(_, error)| error.to_string()).collect();
        return Err(UsageError::new(words.join("; "), "`monopass runs show RUN` lists a run's rows").into());
    }
    failed.iter().for_each(|(kind, error)| tracing::warn!("{kind} are not compared: {error}"));
    Ok(tables)
}

/// Names of the runs: those of their folders.
fn names(runs: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for run in runs {
        let full = run.canonicalize().map_err(|error| {
            let message = format!("there is no run `{}`: {error}", run.display());
            InputError::new(message, "`monopass runs ls` lists the runs")
        })?;
        let name =
            full.file_name().map_or_else(|| run.display().to_string(), |name| name.to_string_lossy().into_owned());
        if names.contains(&name) {
            let message = format!("two runs are called `{name}`");
            return Err(UsageError::new(message, "give each run once; rename one of the folders").into());
        }
        names.push(name);
    }
    Ok(names)
}

/// Where the runs' settings differ; a run without its resolved file has an empty column.
fn settings(runs: &[PathBuf]) -> anyhow::Result<Option<Table>> {
    let mut settings = Vec::new();
    for run in runs {
        settings.push((run.display().to_string(), resolved(&RunFolder::at(run))?));
    }
    Ok(differences("Settings that differ", &settings))
}

/// A run's settings; none where it was copied without its file.
fn resolved(run: &RunFolder) -> anyhow::Result<serde_yaml::Value> {
    let file = Some(run.tables_config()).filter(|file| file.exists()).unwrap_or_else(|| run.config());
    let problem = || format!("cannot read `{}`", file.display());
    let text = if file.exists() { std::fs::read_to_string(&file).with_context(problem)? } else { "{}".to_owned() };
    serde_yaml::from_str(&text).with_context(problem)
}

/// Values by other rules are other quantities: a test of their differences would say nothing.
fn check_rule(runs: &[&PathBuf], section: &str, key: &str, default: &str) -> anyhow::Result<()> {
    let mut rules = Vec::new();
    for run in runs {
        let settings = resolved(&RunFolder::at(run))?;
        let own =
            settings.get(section).and_then(|section| section.get(key)).map_or_else(|| default.to_owned(), one_line);
        rules.push((run, own));
    }
    let Some(pair) = rules.windows(2).find(|pair| pair[0].1 != pair[1].1) else { return Ok(()) };
    let scored = |(run, rule): &(&&PathBuf, String)| format!("`{}` was scored with `{key}: {rule}`", run.display());
    let text = format!("{}, {}: their values are of different measures", scored(&pair[0]), scored(&pair[1]));
    Err(InputError::new(text, "`monopass evaluate FILE --set ...` scores a run anew without decoding").into())
}

/// How a run's answers were scored.
fn normalisation(run: &RunFolder) -> anyhow::Result<AnswerNormalisation> {
    let settings = resolved(run)?;
    let written = settings.get("answer").and_then(|answer| answer.get("normalisation"));
    Ok(written.map(|value| serde_yaml::from_value(value.clone())).transpose()?.unwrap_or_default())
}

/// The runs that have an evaluation. Others (of `runs/*`, say) are left out with a warning, where two remain.
fn evaluated(runs: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let has = |run: &&PathBuf| {
        let tables = RunFolder::at(run).tables();
        tables.join(EVALUATIONS_FILE).exists() || tables.join(ANSWERS_FILE).exists()
    };
    let (with, without): (Vec<&PathBuf>, Vec<&PathBuf>) = runs.iter().partition(has);
    if let Some(first) = without.first().filter(|_| with.len() < 2) {
        let message = format!(
            "`{}` has no evaluation: there is neither `tables/{EVALUATIONS_FILE}` nor `tables/{ANSWERS_FILE}`",
            first.display()
        );
        return Err(InputError::new(message, "evaluate the run first, or give another folder").into());
    }
    without.iter().for_each(|run| tracing::warn!("left out, without an evaluation: `{}`", run.display()));
    Ok(with.into_iter().cloned().collect())
}

fn rankings(name: &str, run: &Path) -> anyhow::Result<Option<RunEvaluations>> {
    let file = RunFolder::at(run).tables().join(EVALUATIONS_FILE);
    if !file.exists() {
        return Ok(None);
    }
    let evaluations: Vec<SetEvaluation> = read_json(&file)?;
    Ok((!evaluations.is_empty()).then(|| RunEvaluations { run: name.to_owned(), evaluations }))
}

/// Two runs asked the same when their sets were prepared from the same files by the same settings.
fn answers(name: &str, run: &Path) -> anyhow::Result<Option<AnsweredRun>> {
    let folder = RunFolder::at(run);
    let file = folder.tables().join(ANSWERS_FILE);
    if !file.exists() {
        return Ok(None);
    }
    let evaluations: Vec<AnswerEvaluation> = read_json(&file)?;
    let mut contents = BTreeMap::new();
    for set in evaluations.iter().map(|evaluation| &evaluation.set).filter(|set| folder.set(set).exists()) {
        contents.insert(set.clone(), Card::read(&folder.set(set))?.content_hash);
    }
    Ok((!evaluations.is_empty()).then(|| AnsweredRun { run: name.to_owned(), evaluations, contents }))
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
fn write(
    tables: Vec<Table>,
    runs: &[String],
    settings: Option<Table>,
    queries: Vec<QueryDifferences>,
    folder: &Path,
) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    for (table, format) in tables.iter().flat_map(|table| TableFormat::ALL.map(|format| (table, format))) {
        let path = folder.join(format!("{}.{}", table.name, format.extension()));
        write_whole(&path, table.render(format).as_bytes())?;
    }
    let page = Report {
        title: runs.join(" and "),
        summary: "Runs side by side, on the same queries and texts.".to_owned(),
        tables: tables.into_iter().chain(settings).collect(),
        differences: queries,
        environment: vec![("program".to_owned(), PROGRAM.to_owned()), ("command".to_owned(), command())],
        ..Report::default()
    };
    page.write(&folder.join("report.html"))?;
    tracing::info!("comparison: {}", folder.display());
    Ok(())
}
