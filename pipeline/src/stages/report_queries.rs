//! What the report tells query by query: wins and losses, and where decoders put the reference's ranks.

use std::collections::{BTreeMap, HashSet};

use evaluator::EvaluateConfig;
use evaluator::evaluate::{FIRST_STAGE, PredictionLine, RowEvaluation, SetEvaluation, baseline_of};
use evaluator::measures::RankingMeasure;
use evaluator::read_lines;
use evaluator::report::{OrderMaps, QueryDifferences, Side};

use super::{Experiment, prepare};

/// The rankings of a set, by model.
type Lines<'a> = BTreeMap<&'a str, Vec<PredictionLine>>;

/// Both, set by set.
///
/// # Errors
/// When predictions or a prepared set cannot be read.
pub fn of(
    experiment: &Experiment<'_>,
    config: &EvaluateConfig,
    evaluations: &[SetEvaluation],
) -> anyhow::Result<(Vec<QueryDifferences>, Vec<OrderMaps>)> {
    let mut sets: Vec<&str> = Vec::new();
    for evaluation in evaluations {
        if !sets.contains(&evaluation.set.as_str()) {
            sets.push(&evaluation.set);
        }
    }
    let (mut differences, mut orders) = (Vec::new(), Vec::new());
    for set in sets {
        let of_set: Vec<SetEvaluation> = evaluations.iter().filter(|own| own.set == set).cloned().collect();
        // a run that was copied here may have left its sets behind: ids are shown without their texts then
        let samples = if experiment.folder.set(set).exists() { prepare::samples(experiment, set)? } else { Vec::new() };
        let lines = lines(experiment, set, &of_set, &samples)?;
        differences.extend(difference(config, &of_set, &lines, &samples));
        orders.extend(of_set.iter().filter_map(|evaluation| {
            let title = format!("{} on {set}", evaluation.model);
            OrderMaps::of(title, evaluation.reference_decoder.as_deref()?, lines.get(evaluation.model.as_str())?)
        }));
    }
    Ok((differences, orders))
}

/// What was decoded of the queries that each evaluation is of: its file may hold more, of a run with a higher `max_queries`.
fn lines<'a>(
    experiment: &Experiment<'_>,
    set: &str,
    of_set: &'a [SetEvaluation],
    samples: &[data::RankingSample],
) -> anyhow::Result<Lines<'a>> {
    let mut lines = Lines::new();
    for evaluation in of_set {
        let file = experiment.folder.predictions_of(set, &evaluation.model, "jsonl");
        if file.exists() {
            let mut read = read_lines(&file)?;
            let taken: HashSet<&str> =
                samples.iter().take(evaluation.num_queries).map(|sample| sample.query_id.as_str()).collect();
            read.retain(|line: &PredictionLine| samples.is_empty() || taken.contains(line.query_id.as_str()));
            lines.insert(&evaluation.model, read);
        }
    }
    Ok(lines)
}

/// The set's best row by the first measure, against the row that it is tested against.
fn difference(
    config: &EvaluateConfig,
    of_set: &[SetEvaluation],
    lines: &Lines<'_>,
    samples: &[data::RankingSample],
) -> Option<QueryDifferences> {
    let measure = *of_set.first()?.measures.first()?;
    let value = |row: &RowEvaluation| row.values.get(&measure).map_or(f64::MIN, |value| value.mean);
    let rows = of_set.iter().flat_map(|evaluation| evaluation.rows.iter().map(move |row| (evaluation, row)));
    let tested = rows.filter_map(|(evaluation, row)| {
        let baseline = baseline_of(of_set, evaluation, row, &config.significance_baseline)?;
        Some(((evaluation, row), baseline))
    });
    let (own, baseline) = tested.max_by(|(a, _), (b, _)| value(a.1).total_cmp(&value(b.1)))?;
    let labels = (label(own), label(baseline));
    let sides = (side(&labels.0, own, measure, lines, samples)?, side(&labels.1, baseline, measure, lines, samples)?);
    Some(QueryDifferences::of(&own.0.set, &measure.label(), sides, &own.0.queries))
}

fn side<'a>(
    label: &'a str,
    (evaluation, row): (&SetEvaluation, &'a RowEvaluation),
    measure: RankingMeasure,
    lines: &'a Lines<'_>,
    samples: &'a [data::RankingSample],
) -> Option<Side<'a>> {
    let values = row.per_query.get(&measure)?;
    let lines = lines.get(evaluation.model.as_str()).map(Vec::as_slice).unwrap_or_default();
    Some(Side { label, decoder: &row.decoder, values, lines, samples })
}

fn label((evaluation, row): (&SetEvaluation, &RowEvaluation)) -> String {
    if row.decoder == FIRST_STAGE {
        "first stage".to_owned()
    } else {
        format!("{} · {}", evaluation.model, row.decoder)
    }
}
