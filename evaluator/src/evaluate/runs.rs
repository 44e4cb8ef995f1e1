//! Rows of several runs side by side, on the queries they share.

use std::collections::{BTreeMap, HashSet};

use super::result::{FIRST_STAGE, MeasuredValue, RowEvaluation, SetEvaluation};
use crate::EvaluatorError;
use crate::measures::RankingMeasure;
use crate::stats::{Bootstrap, holm, mean, paired_t_test};
use crate::table::{Cell, Column, Table};

/// A run and what it found.
#[derive(Debug, Clone)]
pub struct RunEvaluations {
    /// Name of the run, unique among those compared.
    pub run: String,
    /// One per set and model.
    pub evaluations: Vec<SetEvaluation>,
}

/// One row of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowName {
    /// Run.
    pub run: String,
    /// Model.
    pub model: String,
    /// Decoder; [`FIRST_STAGE`] for the candidates as they come.
    pub decoder: String,
}

/// What every row is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunBaseline {
    /// The row of the same model and decoder in the first run.
    Counterpart,
    /// One row.
    Row(RowName),
}

/// A row and where it comes from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub run: &'a str,
    pub evaluation: &'a SetEvaluation,
    pub row: &'a RowEvaluation,
}

/// All rows of all runs: the mean over the queries that all runs have of a set, and the paired difference from the baseline with its
/// bootstrap interval, the p-value of a two-sided paired t-test, and that value corrected by Holm's method over the rows of a set and
/// measure. Without `measures` those that all runs have.
///
/// # Errors
/// A baseline that no run has, or no set with at least two queries in common.
pub fn runs_table(
    runs: &[RunEvaluations],
    baseline: &RunBaseline,
    measures: &[RankingMeasure],
    bootstrap: &Bootstrap,
) -> Result<Table, EvaluatorError> {
    if let RunBaseline::Row(name) = baseline
        && !runs.iter().any(|run| run.evaluations.iter().any(|evaluation| find(&run.run, evaluation, name).is_some()))
    {
        let problem = format!("no run has the row `{}/{}/{}`", name.run, name.model, name.decoder);
        return Err(EvaluatorError::Config { problems: vec![problem] });
    }
    let mut table = Table::new("runs", "Runs", columns());
    for set in distinct(runs.iter().flat_map(|run| &run.evaluations).map(|evaluation| &evaluation.set)) {
        let without: Vec<&str> = runs
            .iter()
            .filter(|run| !run.evaluations.iter().any(|own| own.set == set))
            .map(|run| run.run.as_str())
            .collect();
        if !without.is_empty() {
            table.notes.push(format!("{set}: left out, not evaluated by {}.", without.join(", ")));
            continue;
        }
        let sources = sources(runs, set);
        let shared = shared_queries(&sources);
        let all = sources.iter().map(|source| source.evaluation.queries.len()).max().unwrap_or(0);
        if shared.len() < 2 {
            table.notes.push(format!("{set}: left out, the runs have {} judged queries in common", shared.len()));
            continue;
        }
        table.notes.push(format!("{set}: {} judged queries that all runs have, of at most {all}.", shared.len()));
        let wanted = wanted(&sources, measures);
        let dropped = measures.iter().filter(|measure| !wanted.contains(measure));
        let dropped: Vec<String> = dropped.map(|measure| measure.label()).collect();
        if !dropped.is_empty() {
            table.notes.push(format!("{set}: not all rows have {}.", dropped.join(", ")));
        }
        for measure in wanted {
            add(&mut table, &sources, &shared, measure, baseline, bootstrap)?;
        }
    }
    if table.rows.is_empty() {
        let problem = "the runs have no set and measure in common".to_owned();
        return Err(EvaluatorError::Config { problems: vec![problem] });
    }
    table.notes.push(
        "Brackets: bootstrap intervals; of differences paired. p: two-sided paired t-test; p (Holm): corrected for the rows \
         of a set and measure."
            .to_owned(),
    );
    Ok(table)
}

fn columns() -> Vec<Column> {
    vec![
        Column::text("set", "Set"),
        Column::text("measure", "Measure"),
        Column::text("run", "Run"),
        Column::text("model", "Model"),
        Column::text("decoder", "Decoder"),
        Column::number("value", "Value", 4, None),
        Column::number("baseline", "Baseline", 4, None),
        Column::number("difference", "Difference", 4, None),
        Column::number("p_value", "p", 4, None),
        Column::number("p_holm", "p (Holm)", 4, None),
    ]
}

/// Names in order of appearance, each once.
pub(crate) fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    for name in names {
        if !found.contains(&name.as_str()) {
            found.push(name);
        }
    }
    found
}

impl RunBaseline {
    /// The row that one of this model and decoder is compared with; `first_run` is the first of those compared.
    pub(crate) fn of_row(&self, first_run: &str, model: &str, decoder: &str) -> RowName {
        match self {
            Self::Row(name) => name.clone(),
            Self::Counterpart => {
                RowName { run: first_run.to_owned(), model: model.to_owned(), decoder: decoder.to_owned() }
            }
        }
    }
}

/// The first stage of each run's first model, then its rows.
pub(super) fn sources<'a>(runs: &'a [RunEvaluations], set: &str) -> Vec<Source<'a>> {
    let mut sources = Vec::new();
    for RunEvaluations { run, evaluations } in runs {
        let of_set = || evaluations.iter().filter(|evaluation| evaluation.set == set);
        sources.extend(of_set().take(1).map(|evaluation| Source { run, evaluation, row: &evaluation.first_stage }));
        for evaluation in of_set() {
            sources.extend(evaluation.rows.iter().map(|row| Source { run, evaluation, row }));
        }
    }
    sources
}

/// Queries that every source has, in the order of the first.
pub(super) fn shared_queries<'a>(sources: &[Source<'a>]) -> Vec<&'a str> {
    let Some(first) = sources.first() else { return Vec::new() };
    let sets: Vec<HashSet<&str>> =
        sources.iter().map(|source| source.evaluation.queries.iter().map(String::as_str).collect()).collect();
    let has = |query: &&str| sets.iter().all(|own| own.contains(query));
    first.evaluation.queries.iter().map(String::as_str).filter(has).collect()
}

/// Measures asked for, else those of the first source, that every source has.
pub(super) fn wanted(sources: &[Source<'_>], asked: &[RankingMeasure]) -> Vec<RankingMeasure> {
    let own = sources.first().map(|source| source.evaluation.measures.clone()).unwrap_or_default();
    let candidates = if asked.is_empty() { own } else { asked.to_vec() };
    candidates.into_iter().filter(|m| sources.iter().all(|source| source.row.per_query.contains_key(m))).collect()
}

fn find<'a>(run: &str, evaluation: &'a SetEvaluation, name: &RowName) -> Option<&'a RowEvaluation> {
    let first_stage = name.decoder == FIRST_STAGE;
    (run == name.run && (first_stage || evaluation.model == name.model))
        .then(|| evaluation.row(&name.decoder))
        .flatten()
}

/// Values of a measure on the shared queries.
pub(super) fn values(source: Source<'_>, shared: &[&str], measure: RankingMeasure) -> Vec<f64> {
    let place: BTreeMap<&str, usize> =
        source.evaluation.queries.iter().enumerate().map(|(place, query)| (query.as_str(), place)).collect();
    shared.iter().map(|query| source.row.per_query[&measure][place[query]]).collect()
}

/// What a row is compared with; none when that is itself.
pub(super) fn baseline_of<'a>(sources: &[Source<'a>], own: Source<'a>, baseline: &RunBaseline) -> Option<Source<'a>> {
    let name = baseline.of_row(sources.first()?.run, &own.evaluation.model, &own.row.decoder);
    let found = *sources
        .iter()
        .find(|source| find(source.run, source.evaluation, &name).is_some() && source.row.decoder == name.decoder)?;
    (!std::ptr::eq(found.row, own.row)).then_some(found)
}

fn add(
    table: &mut Table,
    sources: &[Source<'_>],
    shared: &[&str],
    measure: RankingMeasure,
    baseline: &RunBaseline,
    bootstrap: &Bootstrap,
) -> Result<(), EvaluatorError> {
    let mut tests = Vec::new();
    let mut first_stages: Vec<Vec<f64>> = Vec::new();
    for source in sources {
        let own = values(*source, shared, measure);
        // The same first stage of a further run is no further test: Holm's method would count it.
        let told = source.row.decoder == FIRST_STAGE && first_stages.contains(&own);
        if source.row.decoder == FIRST_STAGE {
            first_stages.push(own.clone());
        }
        let test = match baseline_of(sources, *source, baseline).filter(|_| !told) {
            None => None,
            Some(base) => {
                let base = values(base, shared, measure);
                let test = paired_t_test(&own, &base)?;
                Some((mean(&base), test.difference, bootstrap.difference(&own, &base)?, test.p_value))
            }
        };
        tests.push((MeasuredValue::of(&own, bootstrap)?, test));
    }
    let corrected = holm(&tests.iter().filter_map(|(_, test)| test.map(|(.., p)| p)).collect::<Vec<_>>());
    let mut corrected = corrected.into_iter();
    for (source, (value, test)) in sources.iter().zip(tests) {
        let first_stage = source.row.decoder == FIRST_STAGE;
        let mut cells = vec![
            Cell::text(&source.evaluation.set),
            Cell::text(measure.label()),
            Cell::text(source.run),
            Cell::text(if first_stage { "first stage" } else { &source.evaluation.model }),
            if first_stage { Cell::Empty } else { Cell::text(&source.row.decoder) },
            Cell::with_interval(value.mean, value.interval),
        ];
        cells.extend(match test {
            None => [Cell::Empty, Cell::Empty, Cell::Empty, Cell::Empty],
            Some((base, difference, interval, p)) => [
                Cell::number(base),
                Cell::with_interval(difference, interval),
                Cell::number(p),
                corrected.next().map_or(Cell::Empty, Cell::number),
            ],
        });
        table.push(cells);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{RowEvaluation, best_pairs};

    fn row(decoder: &str, values: &[f64]) -> RowEvaluation {
        RowEvaluation {
            decoder: decoder.to_owned(),
            values: BTreeMap::new(),
            per_query: BTreeMap::from([(measure(), values.to_vec())]),
            fidelity: BTreeMap::new(),
            cost: None,
            repair: crate::decode::RepairCounts::default(),
        }
    }

    fn measure() -> RankingMeasure {
        "ndcg_cut_10".parse().unwrap()
    }

    fn run(name: &str, queries: &[&str], values: &[f64]) -> RunEvaluations {
        let evaluation = SetEvaluation {
            set: "dev".to_owned(),
            model: "first".to_owned(),
            num_queries: queries.len(),
            queries: queries.iter().map(|query| (*query).to_owned()).collect(),
            missing: Vec::new(),
            num_unjudged: 0,
            complete: false,
            measures: vec![measure()],
            baseline_decoder: None,
            reference_decoder: None,
            first_stage: row(FIRST_STAGE, &vec![0.5; queries.len()]),
            rows: vec![row("single_token", values)],
        };
        RunEvaluations { run: name.to_owned(), evaluations: vec![evaluation] }
    }

    fn number(table: &Table, row: usize, column: &str) -> Option<f64> {
        let place = table.columns.iter().position(|own| own.key == column).unwrap();
        table.rows[row][place].value()
    }

    #[test]
    fn rows_meet_on_the_queries_they_share() {
        let runs =
            [run("a", &["1", "2", "3", "4"], &[0.1, 0.2, 0.3, 0.9]), run("b", &["3", "2", "1"], &[0.5, 0.3, 0.1])];
        let table = runs_table(&runs, &RunBaseline::Counterpart, &[], &Bootstrap::default()).unwrap();
        // a's first stage and row, then b's.
        assert_eq!(table.rows.len(), 4);
        assert!((number(&table, 1, "value").unwrap() - 0.2).abs() < 1e-12);
        assert_eq!(number(&table, 1, "difference"), None, "a row is not compared with itself");
        assert!((number(&table, 3, "difference").unwrap() - 0.1).abs() < 1e-12);
        assert!(table.notes[0].contains("3 judged queries that all runs have, of at most 4"), "{:?}", table.notes);
    }

    #[test]
    fn the_same_first_stage_is_tested_once() {
        let runs = [run("a", &["1", "2", "3"], &[0.1, 0.2, 0.3]), run("b", &["1", "2", "3"], &[0.5, 0.3, 0.1])];
        let table = runs_table(&runs, &RunBaseline::Counterpart, &[], &Bootstrap::default()).unwrap();
        assert_eq!(number(&table, 2, "p_value"), None);
        assert_eq!(number(&table, 3, "p_holm"), number(&table, 3, "p_value"), "one test needs no correction");
        let name = RowName { run: "a".to_owned(), model: "first".to_owned(), decoder: "single_token".to_owned() };
        let table = runs_table(&runs, &RunBaseline::Row(name), &[], &Bootstrap::default()).unwrap();
        assert!(number(&table, 0, "p_value").is_some() && number(&table, 2, "p_value").is_none());
    }

    #[test]
    fn sets_that_not_all_runs_have_are_left_out_and_told() {
        let mut runs = [run("a", &["1", "2"], &[0.1, 0.3]), run("b", &["1", "2"], &[0.5, 0.3])];
        let mut more = run("b", &["1", "2"], &[0.5, 0.3]).evaluations.remove(0);
        more.set = "test".to_owned();
        runs[1].evaluations.push(more);
        let table = runs_table(&runs, &RunBaseline::Counterpart, &[], &Bootstrap::default()).unwrap();
        assert_eq!(table.rows.len(), 4);
        assert!(table.notes.contains(&"test: left out, not evaluated by a.".to_owned()), "{:?}", table.notes);
        let asked = [measure(), RankingMeasure::RecipRank];
        let table = runs_table(&runs, &RunBaseline::Counterpart, &asked, &Bootstrap::default()).unwrap();
        assert!(table.notes.iter().any(|note| note.starts_with("dev: not all rows have ")), "{:?}", table.notes);
        runs[1].evaluations.remove(0);
        let error = runs_table(&runs, &RunBaseline::Counterpart, &[], &Bootstrap::default()).unwrap_err().to_string();
        assert!(error.contains("no set and measure in common"), "{error}");
    }

    #[test]
    fn the_best_row_stands_beside_its_baseline_on_shared_queries() {
        let runs = [run("a", &["1", "2", "3"], &[0.1, 0.2, 0.3]), run("b", &["3", "1"], &[0.5, 0.4])];
        let pairs = best_pairs(&runs, &RunBaseline::Counterpart, &[]);
        assert_eq!(pairs.len(), 1);
        let row =
            |run: &str, decoder: &str| RowName { run: run.into(), model: "first".into(), decoder: decoder.into() };
        assert_eq!(pairs[0].queries, ["1", "3"]);
        assert_eq!(pairs[0].own, (row("b", "single_token"), vec![0.4, 0.5]));
        assert_eq!(pairs[0].baseline, (row("a", "single_token"), vec![0.1, 0.3]));

        let pairs = best_pairs(&runs, &RunBaseline::Row(row("a", FIRST_STAGE)), &[measure()]);
        assert_eq!((&pairs[0].own.0, &pairs[0].baseline.0), (&row("b", "single_token"), &row("a", FIRST_STAGE)));
        assert!(best_pairs(&runs, &RunBaseline::Counterpart, &[RankingMeasure::RecipRank]).is_empty());
        assert!(best_pairs(&runs[..1], &RunBaseline::Counterpart, &[]).is_empty(), "nothing but itself");
    }

    #[test]
    fn one_row_may_be_the_baseline_of_all() {
        let runs = [run("a", &["1", "2"], &[0.1, 0.3]), run("b", &["1", "2"], &[0.5, 0.3])];
        let name = RowName { run: "b".to_owned(), model: String::new(), decoder: FIRST_STAGE.to_owned() };
        let table = runs_table(&runs, &RunBaseline::Row(name), &[measure()], &Bootstrap::default()).unwrap();
        assert!((number(&table, 1, "difference").unwrap() + 0.3).abs() < 1e-12);
        assert_eq!(number(&table, 2, "difference"), None);
        let unknown = RowName { run: "c".to_owned(), model: "m".to_owned(), decoder: "d".to_owned() };
        let error = runs_table(&runs, &RunBaseline::Row(unknown), &[], &Bootstrap::default()).unwrap_err().to_string();
        assert!(error.contains("no run has the row `c/m/d`"), "{error}");
    }

    #[test]
    fn runs_without_anything_in_common_are_refused() {
        let runs = [run("a", &["1", "2"], &[0.1, 0.3]), run("b", &["3", "4"], &[0.5, 0.3])];
        let error = runs_table(&runs, &RunBaseline::Counterpart, &[], &Bootstrap::default()).unwrap_err().to_string();
        assert!(error.contains("no set and measure in common"), "{error}");
    }
}
