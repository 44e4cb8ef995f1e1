//! What the report tells of answers: figures on top, F1 against seconds, wins and losses question by question.

use evaluator::answer::{AnswerBaseline, AnswerConfig, AnswerEvaluation, AnswerRow};
use evaluator::latency::{Latency, Speedup};
use evaluator::report::{Headline, LabelledPoint, QueryDifferences, TradeOff};

use super::answered::{AnsweredBy, question_by_question};
use super::{Experiment, prepare};

type Row<'a> = (&'a AnswerEvaluation, &'a AnswerRow);

fn rows(evaluations: &[AnswerEvaluation]) -> impl Iterator<Item = Row<'_>> {
    evaluations.iter().flat_map(|evaluation| evaluation.rows.iter().map(move |row| (evaluation, row)))
}

fn label((evaluation, row): Row<'_>) -> String {
    format!("{} · {}", evaluation.model, row.decoder.name())
}

fn is_baseline((evaluation, row): Row<'_>, baseline: &AnswerBaseline) -> bool {
    evaluation.model == baseline.model && row.decoder == baseline.decoder
}

fn sets(evaluations: &[AnswerEvaluation]) -> Vec<&str> {
    let mut sets: Vec<&str> = evaluations.iter().map(|evaluation| evaluation.set.as_str()).collect();
    sets.sort_unstable();
    sets.dedup();
    sets
}

/// A plot for each set.
///
/// # Errors
/// Nothing to resample.
pub fn trade_offs(evaluations: &[AnswerEvaluation], config: &AnswerConfig) -> anyhow::Result<Vec<TradeOff>> {
    let mut plots = Vec::new();
    for set in sets(evaluations) {
        let mut points = Vec::new();
        for (evaluation, row) in rows(evaluations).filter(|(evaluation, _)| evaluation.set == set) {
            let Some((value, interval)) = row.f1_percent(&config.bootstrap)? else { continue };
            points.push(LabelledPoint {
                label: label((evaluation, row)),
                group: evaluation.model.clone(),
                seconds: Latency::of(&row.seconds()).median,
                value,
                interval: Some(interval),
            });
        }
        if points.len() > 1 {
            plots.push(TradeOff { set: set.to_owned(), measure: "F1 (%)".to_owned(), points, first_stage: None });
        }
    }
    Ok(plots)
}

/// The best row of each model on the first set, and the fastest against the baseline.
///
/// # Errors
/// Nothing to resample.
pub fn headlines(evaluations: &[AnswerEvaluation], config: &AnswerConfig) -> anyhow::Result<Vec<Headline>> {
    let Some(set) = evaluations.first().map(|evaluation| evaluation.set.as_str()) else { return Ok(Vec::new()) };
    let mut headlines = Vec::new();
    let of_set = || evaluations.iter().filter(|evaluation| evaluation.set == set);
    for evaluation in of_set() {
        let mut best: Option<(f64, Headline)> = None;
        for row in &evaluation.rows {
            let Some((f1, interval)) = row.f1_percent(&config.bootstrap)? else { continue };
            if best.as_ref().is_none_or(|(highest, _)| f1 > *highest) {
                let headline = Headline {
                    figure: format!("{f1:.1}"),
                    label: format!("F1 of {} ({}) on {set}", evaluation.model, row.decoder.name()),
                    detail: format!("[{:.1}, {:.1}]", interval.low, interval.high),
                };
                best = Some((f1, headline));
            }
        }
        headlines.extend(best.map(|(_, headline)| headline));
    }
    let Some(baseline) = config.baseline() else { return Ok(headlines) };
    let all = || rows(evaluations).filter(|(evaluation, _)| evaluation.set == set);
    let Some(base) = all().find(|row| is_baseline(*row, &baseline)) else { return Ok(headlines) };
    let mut fastest: Option<(f64, Row<'_>)> = None;
    for row in all().filter(|row| !is_baseline(*row, &baseline)) {
        let speedup = Speedup::paired(&row.1.seconds(), &base.1.seconds(), &config.bootstrap)?.median;
        if fastest.is_none_or(|(highest, _)| speedup > highest) {
            fastest = Some((speedup, row));
        }
    }
    headlines.extend(fastest.filter(|(speedup, _)| *speedup > 1.0).map(|(speedup, row)| Headline {
        figure: format!("{speedup:.2}x"),
        label: format!("{} on {set}", label(row)),
        detail: format!("faster than {}", label(base)),
    }));
    Ok(headlines)
}

/// The best row of each set by F1, against the baseline.
///
/// # Errors
/// Predictions or a prepared set that cannot be read, or nothing to resample.
pub fn differences(
    experiment: &Experiment<'_>,
    evaluations: &[AnswerEvaluation],
    config: &AnswerConfig,
) -> anyhow::Result<Vec<QueryDifferences>> {
    let Some(baseline) = config.baseline() else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for set in sets(evaluations).into_iter().filter(|set| experiment.folder.set(set).exists()) {
        let of_set = || rows(evaluations).filter(|(evaluation, _)| evaluation.set == set);
        let Some(base) = of_set().find(|row| is_baseline(*row, &baseline)) else { continue };
        let mut best: Option<(f64, Row<'_>)> = None;
        for row in of_set().filter(|row| !is_baseline(*row, &baseline)) {
            let Some((f1, _)) = row.1.f1_percent(&config.bootstrap)? else { continue };
            if best.is_none_or(|(highest, _)| f1 > highest) {
                best = Some((f1, row));
            }
        }
        let Some((_, best)) = best else { continue };
        let texts = prepare::texts(experiment, set)?;
        let sides = (answered(experiment, best), answered(experiment, base));
        found.extend(question_by_question(set, &texts, (&sides.0, &sides.1), config.normalisation)?);
    }
    Ok(found)
}

fn answered<'a>(experiment: &'a Experiment<'_>, row: Row<'a>) -> AnsweredBy<'a> {
    let (evaluation, decoded) = row;
    AnsweredBy {
        label: label(row),
        folder: &experiment.folder,
        model: &evaluation.model,
        decoder: decoded.decoder.name(),
    }
}
