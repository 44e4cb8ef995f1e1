//! The HTML report: tables, curves, plots, warnings, data cards, settings.

use data::prepared::Card;
use evaluator::answer::{AnswerEvaluation, answers_table};
use evaluator::evaluate::SetEvaluation;
use evaluator::report::{DataCard, Headline, Report, StageCurves, fidelity_points_of, points_of};
use evaluator::table::Table;

use super::evaluate::{EVALUATIONS_FILE, OVERLAPS_FILE, tables_of};
use super::overlap::Overlap;
use super::{Experiment, answer, evaluate, report_answers, report_layouts, report_queries};
use crate::config::difference::differences;
use crate::config::experiment::ExperimentConfig;
use crate::config::resolved::{to_value, to_yaml};
use crate::failure::InputError;
use crate::origin::{Origins, PROGRAM, as_typed, command};
use crate::stamp::Inputs;
use crate::write_whole::read_json;

const STAGE: &str = "report";

/// Writes `report.html`; `of_before`: of evaluations that were done by a command before, which may have had other settings.
///
/// # Errors
/// When nothing was trained or evaluated yet, or the page cannot be written.
pub fn run(experiment: &Experiment<'_>, of_before: bool) -> anyhow::Result<()> {
    let folder = &experiment.folder;
    let evaluations_file = folder.tables().join(EVALUATIONS_FILE);
    let mut inputs = Inputs::new();
    inputs.settings("settings", &experiment.config)?;
    let wants_evaluations = experiment.config.evaluate.is_some();
    if wants_evaluations {
        if !evaluations_file.exists() {
            return Err(InputError::new(
                format!("nothing is evaluated yet: there is no `{}`", evaluations_file.display()),
                format!("`monopass run {}` does all stages in order", experiment.source.file.display()),
            )
            .into());
        }
        inputs.path("evaluations", &evaluations_file)?;
        inputs.path("overlaps", &folder.tables().join(OVERLAPS_FILE))?;
    }
    if experiment.config.answer.is_some() {
        let answers = folder.tables().join(answer::ANSWERS_FILE);
        if !answers.exists() {
            return Err(InputError::new(
                format!("nothing is answered yet: there is no `{}`", answers.display()),
                format!("`monopass run {}` does all stages in order", experiment.source.file.display()),
            )
            .into());
        }
        inputs.path("answers", &answers)?;
    }
    for stage in experiment.stages() {
        let metrics = folder.train(&stage.name).join("metrics.jsonl");
        if metrics.exists() {
            inputs.path(&format!("metrics {}", stage.name), &metrics)?;
        }
    }
    // A page takes a second: another program makes it anew, for its looks may have changed.
    if let Some(program) = std::env::current_exe().ok().filter(|path| path.exists()) {
        inputs.path("executable", &program)?;
    }
    let outdated = match of_before {
        true => [evaluate::outdated(experiment), answer::outdated(experiment)].concat(),
        false => Vec::new(),
    };
    outdated.iter().for_each(|warning| tracing::warn!("{warning}"));
    inputs.settings("outdated", &outdated)?;
    if experiment.is_finished(STAGE, &inputs)? {
        return Ok(());
    }
    experiment.stamped(STAGE, &inputs, || {
        let page = fill(experiment, outdated)?;
        page.write(&folder.report())?;
        tracing::info!("  {}", folder.report().display());
        Ok(vec![folder.report()])
    })
}

fn fill(experiment: &Experiment<'_>, outdated: Vec<String>) -> anyhow::Result<Report> {
    let config = &experiment.config;
    let evaluations: Vec<SetEvaluation> = beside_tables(experiment, EVALUATIONS_FILE)?;
    let overlaps: Vec<Overlap> = beside_tables(experiment, OVERLAPS_FILE)?;
    let mut tables = config.evaluate.as_ref().map(|evaluate| tables_of(&evaluations, evaluate)).unwrap_or_default();
    let answers: Vec<AnswerEvaluation> = beside_tables(experiment, answer::ANSWERS_FILE)?;
    if let Some(answer) = &config.answer {
        tables.push(answers_table(&answers, answer)?);
    }
    let mut overlaps = overlaps;
    overlaps.extend(beside_tables::<Vec<Overlap>>(experiment, answer::OVERLAPS_FILE)?);
    let mut stages = Vec::new();
    for stage in experiment.stages() {
        let metrics = experiment.folder.train(&stage.name).join("metrics.jsonl");
        if metrics.exists() {
            stages.push(StageCurves::read(&stage.name, &metrics)?);
        }
    }
    let (mut differences, orders) = match &config.evaluate {
        Some(evaluate) => report_queries::of(experiment, evaluate, &evaluations)?,
        None => (Vec::new(), Vec::new()),
    };
    tables.extend(changes(experiment)?);
    let measure = config.evaluate.as_ref().and_then(|evaluate| evaluate.measures.first().copied());
    let mut sets: Vec<&str> = evaluations.iter().map(|evaluation| evaluation.set.as_str()).collect();
    sets.dedup();
    sets.sort_unstable();
    sets.dedup();
    let mut trade_offs: Vec<_> = measure
        .map(|measure| sets.iter().flat_map(|set| points_of(&evaluations, set, measure)).collect())
        .unwrap_or_default();
    trade_offs.extend(evaluations.iter().filter_map(fidelity_points_of));
    let mut headlines = headlines(&evaluations);
    if let Some(answer) = &config.answer {
        trade_offs.extend(report_answers::trade_offs(&answers, answer)?);
        headlines.extend(report_answers::headlines(&answers, answer)?);
        differences.extend(report_answers::differences(experiment, &answers, answer)?);
    }
    Ok(Report {
        title: config.report.title.clone().unwrap_or_else(|| config.name.clone()),
        summary: config.report.notes.clone(),
        headlines,
        warnings: overlaps.iter().map(Overlap::warning).chain(outdated).collect(),
        stages,
        trade_offs,
        differences,
        orders,
        layouts: report_layouts::of(experiment)?,
        tables,
        cards: cards(experiment)?,
        config: to_yaml(config)?,
        environment: environment(experiment)?,
    })
}

/// What the command line changed of the file; none where the file alone makes no experiment.
fn changes(experiment: &Experiment<'_>) -> anyhow::Result<Option<Table>> {
    let file = experiment.source.file.display().to_string();
    let Ok(mut written) = experiment.source.as_written().and_then(|source| source.decode::<ExperimentConfig>()) else {
        return Ok(None);
    };
    written.fill_in();
    let both = [(file.clone(), to_value(&written)?), ("this run".to_owned(), to_value(&experiment.config)?)];
    Ok(differences(&format!("Changes to {file}"), &both))
}

/// A file beside the tables; the default when it is not there.
fn beside_tables<T: serde::de::DeserializeOwned + Default>(
    experiment: &Experiment<'_>,
    name: &str,
) -> anyhow::Result<T> {
    let path = experiment.folder.tables().join(name);
    if path.exists() { read_json(&path) } else { Ok(T::default()) }
}

/// The best row of each model on the first set, by the first measure.
fn headlines(evaluations: &[SetEvaluation]) -> Vec<Headline> {
    let Some(first) = evaluations.first() else { return Vec::new() };
    let Some(measure) = first.measures.first() else { return Vec::new() };
    let first_stage = first.first_stage.values.get(measure).map_or(f64::NAN, |value| value.mean);
    let of_set = evaluations.iter().filter(|evaluation| evaluation.set == first.set);
    let mut headlines: Vec<Headline> = of_set
        .filter_map(|evaluation| {
            let value = |row: &evaluator::evaluate::RowEvaluation| row.values.get(measure).map(|value| value.mean);
            let best = evaluation
                .rows
                .iter()
                .max_by(|a, b| value(a).unwrap_or(f64::MIN).total_cmp(&value(b).unwrap_or(f64::MIN)))?;
            Some(Headline {
                figure: format!("{:.3}", value(best)?),
                label: format!("{} of {} ({}) on {}", measure.label(), evaluation.model, best.decoder, evaluation.set),
                detail: format!("first stage {first_stage:.3}"),
            })
        })
        .collect();
    let fastest = evaluations
        .iter()
        .flat_map(|evaluation| evaluation.rows.iter().map(move |row| (evaluation, row)))
        .filter_map(|(evaluation, row)| Some((evaluation, row, row.cost.as_ref()?.speedup.as_ref()?.median)))
        .max_by(|a, b| a.2.total_cmp(&b.2))
        .filter(|(.., speedup)| *speedup > 1.0);
    if let Some((evaluation, row, speedup)) = fastest {
        headlines.push(Headline {
            figure: format!("{speedup:.1}x"),
            label: format!("{} of {} on {}", row.decoder, evaluation.model, evaluation.set),
            detail: format!("faster than {}", evaluation.baseline_decoder.clone().unwrap_or_default()),
        });
    }
    headlines
}

fn cards(experiment: &Experiment<'_>) -> anyhow::Result<Vec<DataCard>> {
    let config = &experiment.config;
    let mut cards = Vec::new();
    for name in config.data.sets.keys().chain(config.data.branched.keys()) {
        let folder = experiment.folder.set(name);
        if !folder.exists() {
            continue;
        }
        let card = Card::read(&folder)?;
        let trained = config.stages().iter().any(|stage| stage.data.0.contains(name));
        let evaluated = config.evaluation_sets().any(|set| set == name)
            || config.answer.iter().flat_map(|answer| &answer.sets).any(|set| set == name);
        let role = match (trained, evaluated) {
            (true, true) => "train and evaluate",
            (true, false) => "train",
            (false, true) => "evaluate",
            (false, false) => "unused",
        };
        let mut facts = vec![(card.counts.rows().to_owned(), card.report.kept.to_string())];
        facts.extend(card.counts.facts().into_iter().map(|(name, figure)| (name.to_owned(), figure)));
        facts.extend(card.report.dropped.iter().map(|(why, count)| (format!("dropped: {why}"), count.to_string())));
        facts.extend(card.report.notes.iter().map(|(what, count)| (what.clone(), count.to_string())));
        cards.push(DataCard { name: name.clone(), role: role.to_owned(), source: card.report.source.clone(), facts });
    }
    Ok(cards)
}

/// What the figures come from, and the commands that make them again.
fn environment(experiment: &Experiment<'_>) -> anyhow::Result<Vec<(String, String)>> {
    let text = |name: &str, value: String| (name.to_owned(), value);
    let config = &experiment.config;
    let mut lines = vec![
        text("this page", PROGRAM.to_owned()),
        text("command", command()),
        text("experiment file", experiment.source.file.display().to_string()),
        text(
            "to run it all again",
            as_typed(vec![
                "monopass".to_owned(),
                "run".to_owned(),
                experiment.folder.config().display().to_string(),
                "--set".to_owned(),
                format!("name={}-again", config.name),
            ]),
        ),
        text("model", config.model.path.clone()),
        text("device", config.model.device.to_string()),
        text(
            "kernels",
            native::kernels::kernels().map_or_else(|error| error.to_string(), |kernels| kernels.to_string()),
        ),
        text("threads", tch::get_num_threads().to_string()),
        text("seed", config.seed.to_string()),
    ];
    let origins = Origins::read(&experiment.folder.tables())?.words(|_| true);
    lines.extend(origins.map(|words| text("evaluated", words)));
    Ok(lines)
}
