//! Tables of an evaluation.

use super::result::{FIRST_STAGE, MeasuredValue, RowEvaluation, SetEvaluation, compare_rows};
use super::{EvaluateConfig, SignificanceBaseline};
use crate::measures::RankingMeasure;
use crate::table::{Better, Cell, Column, Table, Value};

/// Below this a difference is marked.
const SIGNIFICANT: f64 = 0.05;

/// A set's first stage once, then every row of every model.
fn rows(evaluations: &[SetEvaluation]) -> Vec<(&SetEvaluation, &RowEvaluation)> {
    let mut rows = Vec::new();
    let mut sets: Vec<&str> = Vec::new();
    for evaluation in evaluations {
        if !sets.contains(&evaluation.set.as_str()) {
            sets.push(&evaluation.set);
        }
    }
    for set in sets {
        let of_set: Vec<&SetEvaluation> = evaluations.iter().filter(|evaluation| evaluation.set == set).collect();
        rows.push((of_set[0], &of_set[0].first_stage));
        rows.extend(of_set.iter().flat_map(|evaluation| evaluation.rows.iter().map(|row| (*evaluation, row))));
    }
    rows
}

fn name_columns() -> Vec<Column> {
    vec![Column::text("set", "Set"), Column::text("model", "Model"), Column::text("decoder", "Decoder")]
}

fn name_cells(evaluation: &SetEvaluation, row: &RowEvaluation) -> Vec<Cell> {
    let first_stage = row.decoder == FIRST_STAGE;
    let model = if first_stage { "first stage" } else { &evaluation.model };
    let decoder = if first_stage { Cell::Empty } else { Cell::text(&row.decoder) };
    vec![Cell::text(&evaluation.set), Cell::text(model), decoder]
}

fn measured(value: Option<&MeasuredValue>, mark: &str) -> Cell {
    value.map_or(Cell::Empty, |measured| {
        Cell::Value(Value {
            value: measured.mean,
            interval: Some(measured.interval),
            paper: None,
            mark: mark.to_owned(),
        })
    })
}

/// All measures asked for anywhere, in order of appearance.
fn all_measures(evaluations: &[SetEvaluation]) -> Vec<RankingMeasure> {
    let mut measures = Vec::new();
    for measure in evaluations.iter().flat_map(|evaluation| &evaluation.measures) {
        if !measures.contains(measure) {
            measures.push(*measure);
        }
    }
    measures
}

/// The row that `row` is tested against, with its evaluation; none when that is itself or was not run.
#[must_use]
pub fn baseline_of<'a>(
    evaluations: &'a [SetEvaluation],
    evaluation: &'a SetEvaluation,
    row: &RowEvaluation,
    baseline: &SignificanceBaseline,
) -> Option<(&'a SetEvaluation, &'a RowEvaluation)> {
    if row.decoder == FIRST_STAGE {
        return None;
    }
    match baseline {
        SignificanceBaseline::FirstStage => Some((evaluation, &evaluation.first_stage)),
        SignificanceBaseline::Model(name) if *name == evaluation.model => None,
        SignificanceBaseline::Model(name) => {
            let other = evaluations.iter().find(|other| other.set == evaluation.set && other.model == *name)?;
            other.rows.iter().find(|other| other.decoder == row.decoder).map(|row| (other, row))
        }
        SignificanceBaseline::Decoder(kind) if kind.name() == row.decoder => None,
        SignificanceBaseline::Decoder(kind) => evaluation.row(&kind.name()).map(|row| (evaluation, row)),
    }
}

fn baseline_words(baseline: &SignificanceBaseline) -> String {
    match baseline {
        SignificanceBaseline::FirstStage => "the first stage".into(),
        SignificanceBaseline::Model(name) => format!("model `{name}` with the same decoder"),
        SignificanceBaseline::Decoder(kind) => format!("decoder `{kind}` of the same model"),
    }
}

/// Measures, fidelity, latency and speedup, a row per decoder, model and set.
#[must_use]
pub fn results_table(evaluations: &[SetEvaluation], config: &EvaluateConfig) -> Table {
    let measures = all_measures(evaluations);
    let mut columns = name_columns();
    columns.extend(measures.iter().map(|m| Column::number(&m.to_string(), &m.label(), 4, Some(Better::Higher))));
    columns.push(Column::number("ranking_fidelity", "Fidelity", 3, None));
    columns.push(Column::number("forward_passes", "Passes", 1, None));
    columns.push(Column::number("latency_median", "Latency", 3, None).unit("s"));
    columns.push(Column::number("speedup", "Speedup", 2, None).unit("x"));
    let mut table = Table::new("results", "Results", columns);
    // the best of several sets says nothing
    let num_sets = evaluations.iter().filter(|other| other.set != evaluations[0].set).count();
    if num_sets > 0 {
        table.columns.iter_mut().for_each(|column| column.better = None);
    }
    for (evaluation, row) in rows(evaluations) {
        let baseline = baseline_of(evaluations, evaluation, row, &config.significance_baseline);
        let mark = |measure: RankingMeasure| {
            let tested = compare_rows(row, baseline?.1, measure, &config.bootstrap).ok()?;
            (tested.p_value < SIGNIFICANT).then_some(if tested.difference > 0.0 { "▲" } else { "▼" })
        };
        let mut cells = name_cells(evaluation, row);
        cells.extend(measures.iter().map(|m| measured(row.values.get(m), mark(*m).unwrap_or_default())));
        cells.push(measured(row.fidelity.get("ranking"), ""));
        cells.extend(cost_cells(row));
        table.push(cells);
    }
    table.notes = notes(evaluations, config);
    table
}

fn cost_cells(row: &RowEvaluation) -> [Cell; 3] {
    let Some(cost) = &row.cost else { return [Cell::Empty, Cell::Empty, Cell::Empty] };
    let speedup = cost.speedup.map_or(Cell::Empty, |s| Cell::with_interval(s.median, s.interval));
    [Cell::number(cost.forward_passes), Cell::number(cost.latency.median), speedup]
}

fn notes(evaluations: &[SetEvaluation], config: &EvaluateConfig) -> Vec<String> {
    let percent = 100.0 * config.bootstrap.confidence;
    let mut notes = vec![
        format!(
            "Brackets: {percent:.0} % percentile bootstrap intervals over queries ({} resamples, seed {}).",
            config.bootstrap.samples, config.bootstrap.seed
        ),
        format!(
            "▲ ▼: better or worse than {} (two-sided paired t-test, p < {SIGNIFICANT}).",
            baseline_words(&config.significance_baseline)
        ),
    ];
    if config.relevance_level > 1 {
        notes.push(format!("Relevant: grade {} and above, for all measures but nDCG.", config.relevance_level));
    }
    if let Some(reference) = evaluations.iter().find_map(|e| e.reference_decoder.as_ref()) {
        notes.push(format!(
            "Fidelity: share of candidate pairs in the same order as by `{reference}` of the same model."
        ));
    }
    if let Some(baseline) = evaluations.iter().find_map(|e| e.baseline_decoder.as_ref()) {
        notes.push(format!(
            "Latency: median seconds a query, windows summed. Speedup: median over queries of the time of `{baseline}` \
             over the decoder's own, on the same query in the same process."
        ));
    }
    let mut told: Vec<&str> = Vec::new();
    for evaluation in evaluations {
        if told.contains(&evaluation.set.as_str()) {
            continue;
        }
        told.push(&evaluation.set);
        notes.push(set_note(evaluation));
    }
    notes
}

fn set_note(evaluation: &SetEvaluation) -> String {
    let mut note = format!("{}: {} judged queries", evaluation.set, evaluation.queries.len());
    match (evaluation.missing.len(), evaluation.complete) {
        (0, _) => {}
        (missing, true) => note += &format!(", of which {missing} have no candidates and count 0"),
        (missing, false) => note += &format!("; {missing} more have no candidates and are left out"),
    }
    if evaluation.num_unjudged > 0 {
        note += &format!(
            "; {} more queries have no judgements and count for time and fidelity only",
            evaluation.num_unjudged
        );
    }
    note + "."
}

/// Differences of every row from the baseline row, with intervals and p-values, for every measure.
#[must_use]
pub fn comparison_table(evaluations: &[SetEvaluation], config: &EvaluateConfig) -> Table {
    let mut columns = name_columns();
    columns.push(Column::text("measure", "Measure"));
    columns.push(Column::number("baseline", "Baseline", 4, None));
    columns.push(Column::number("value", "Value", 4, None));
    columns.push(Column::number("difference", "Difference", 4, None));
    columns.push(Column::number("p_value", "p", 4, None));
    let title = format!("Against {}", baseline_words(&config.significance_baseline));
    let mut table = Table::new("comparison", &title, columns);
    for (evaluation, row) in rows(evaluations) {
        let Some((_, baseline)) = baseline_of(evaluations, evaluation, row, &config.significance_baseline) else {
            continue;
        };
        for measure in &evaluation.measures {
            let Ok(tested) = compare_rows(row, baseline, *measure, &config.bootstrap) else { continue };
            let mean = |row: &RowEvaluation| row.values.get(measure).map_or(Cell::Empty, |v| Cell::number(v.mean));
            let mut cells = name_cells(evaluation, row);
            cells.extend([
                Cell::text(measure.label()),
                mean(baseline),
                mean(row),
                Cell::with_interval(tested.difference, tested.interval),
                Cell::number(tested.p_value),
            ]);
            table.push(cells);
        }
    }
    table.notes.push("Intervals: bootstrap of the paired difference; p: two-sided paired t-test.".into());
    table
}

/// All fidelity measures against the reference decoder.
#[must_use]
pub fn fidelity_table(evaluations: &[SetEvaluation]) -> Table {
    let mut columns = name_columns();
    for (key, label, decimals, better) in [
        ("kendall_tau", "Kendall's τ", 3, Better::Higher),
        ("ranking", "Pairs kept", 3, Better::Higher),
        ("spearman", "Spearman's ρ", 3, Better::Higher),
        ("footrule", "Footrule", 1, Better::Lower),
        ("kemeny", "Kemeny", 1, Better::Lower),
        ("recall_at_10", "Recall@10", 3, Better::Higher),
        ("ndcg_at_10", "nDCG@10", 3, Better::Higher),
    ] {
        columns.push(Column::number(key, label, decimals, Some(better)));
    }
    columns.iter_mut().for_each(|column| column.better = None);
    let reference = evaluations.iter().find_map(|e| e.reference_decoder.clone()).unwrap_or_default();
    let mut table = Table::new("fidelity", &format!("Fidelity to the order of `{reference}`"), columns);
    for (evaluation, row) in rows(evaluations) {
        if row.fidelity.is_empty() || row.decoder == reference {
            continue;
        }
        let mut cells = name_cells(evaluation, row);
        cells.extend(table.columns[3..].iter().map(|column| measured(row.fidelity.get(&column.key), "")));
        table.push(cells);
    }
    table.notes.push("Footrule and Kemeny are sums over a list, not normalised; the rest are at most 1.".into());
    table
}

/// What every decoder costs, and what had to be mended in its answers.
#[must_use]
pub fn cost_table(evaluations: &[SetEvaluation]) -> Table {
    let mut columns = name_columns();
    columns.extend([
        Column::number("latency_median", "Median", 3, None).unit("s"),
        Column::number("latency_p95", "p95", 3, None).unit("s"),
        Column::number("speedup", "Speedup", 2, None).unit("x"),
        Column::number("speedup_of_sums", "of sums", 2, None).unit("x"),
        Column::number("speedup_over_forced", "over forced", 2, None).unit("x"),
        Column::number("windows", "Windows", 1, None),
        Column::number("forward_passes", "Passes", 1, None),
        Column::number("accepted_per_pass", "Accepted a pass", 2, None),
        Column::number("new_tokens", "New tokens", 1, None),
        Column::number("tokens_computed", "Tokens read", 0, None),
        Column::number("memory_mib", "Memory", 0, None).unit("MiB"),
        Column::number("ok", "Answers ok", 0, None),
        Column::number("wrong_format", "Wrong format", 0, None),
        Column::number("repetition", "Repetition", 0, None),
        Column::number("out_of_range", "Out of range", 0, None),
        Column::number("missing", "Missing", 0, None),
    ]);
    let mut table = Table::new("cost", "Cost and repairs", columns);
    for (evaluation, row) in rows(evaluations) {
        let Some(cost) = &row.cost else { continue };
        let mut cells = name_cells(evaluation, row);
        let speedup = cost.speedup;
        cells.extend([
            Cell::number(cost.latency.median),
            Cell::number(cost.latency.p95),
            speedup.map_or(Cell::Empty, |s| Cell::with_interval(s.median, s.interval)),
            speedup.map_or(Cell::Empty, |s| Cell::number(s.of_sums)),
            cost.speedup_over_forced.map_or(Cell::Empty, |s| Cell::with_interval(s.median, s.interval)),
            Cell::number(cost.windows),
            Cell::number(cost.forward_passes),
            cost.accepted_per_pass.map_or(Cell::Empty, Cell::number),
            Cell::number(cost.new_tokens),
            Cell::number(cost.tokens_computed),
            cost.memory_mib.map_or(Cell::Empty, Cell::number),
        ]);
        let repair = &row.repair;
        let counts = [repair.ok, repair.wrong_format, repair.repetition, repair.out_of_range, repair.missing];
        // decoders that write no text have nothing to mend
        let written = counts.iter().any(|count| *count > 0);
        cells.extend(counts.map(|count| if written { Cell::number(count as f64) } else { Cell::Empty }));
        table.push(cells);
    }
    table.notes.push(
        "Means a query, windows summed; tokenising is not in the time. Answers are counted one by one (a window is one \
         answer); a broken one can count under several heads. Accepted: items that a pass after the prompt's decided. \
         Memory: what one window of the longest list takes beside the model at the fullest moment, the decoder alone."
            .into(),
    );
    table
}
