//! Answers of several runs side by side, on the texts they share.

use super::result::{AnswerEvaluation, AnswerRow, TextScores};
use crate::EvaluatorError;
use crate::evaluate::{RowName, RunBaseline, distinct};
use crate::stats::{Bootstrap, holm, paired_t_test};
use crate::table::{Cell, Column, Table};

/// A run and what it answered.
#[derive(Debug, Clone)]
pub struct AnsweredRun {
    /// Name of the run, unique among those compared.
    pub run: String,
    /// One for each set and model.
    pub evaluations: Vec<AnswerEvaluation>,
    /// By set: what tells whether two runs asked the same questions about the same texts. A set that is not here is compared with none.
    pub contents: std::collections::BTreeMap<String, String>,
}

/// One row of one run.
#[derive(Clone, Copy)]
struct Source<'a> {
    run: &'a str,
    evaluation: &'a AnswerEvaluation,
    row: &'a AnswerRow,
}

type Measure = (&'static str, fn(&TextScores) -> f64);

const MEASURES: [Measure; 2] = [("EM", |text| text.exact_match), ("F1", |text| text.f1)];

/// All rows of all runs in percent, and the points they are above the baseline with a bootstrap interval over texts, the p-value of a two-sided
/// paired t-test over the texts' means, and that value corrected by Holm's method over the rows of a set and measure.
///
/// # Errors
/// A baseline that no run has, or no set of the same texts in all runs.
pub fn answered_runs_table(
    runs: &[AnsweredRun],
    baseline: &RunBaseline,
    bootstrap: &Bootstrap,
) -> Result<Table, EvaluatorError> {
    let config = |problem: String| EvaluatorError::Config { problems: vec![problem] };
    if let RunBaseline::Row(name) = baseline
        && !sources(runs, None).iter().any(|source| is(source, name))
    {
        return Err(config(format!("no run has the row `{}/{}/{}`", name.run, name.model, name.decoder)));
    }
    let mut table = Table::new("answered_runs", "Answers of the runs", columns());
    for set in distinct(runs.iter().flat_map(|run| &run.evaluations).map(|evaluation| &evaluation.set)) {
        if !have_the_same_texts(runs, set) {
            table
                .notes
                .push(format!("{set}: left out, not all runs have it prepared from the same files by the same settings (`data/{set}/card.json`)."));
            continue;
        }
        let sources = sources(runs, Some(set));
        if sources.iter().any(|source| source.row.texts.len() != sources[0].row.texts.len()) {
            table.notes.push(format!("{set}: left out, the runs answered about different numbers of texts."));
            continue;
        }
        if means(sources[0].row, MEASURES[0].1).len() < 2 {
            table.notes.push(format!("{set}: left out, fewer than two texts have accepted answers."));
            continue;
        }
        for measure in MEASURES {
            add(&mut table, &sources, measure, baseline, bootstrap)?;
        }
        table.notes.push(format!("{set}: {} texts.", sources[0].row.texts.len()));
    }
    if table.rows.is_empty() {
        return Err(config(format!("the runs have no set in common: {}", table.notes.join(" "))));
    }
    table.notes.push(
        "Percent; brackets: bootstrap intervals over texts, of differences paired. p: two-sided paired t-test over the texts' means; p (Holm): \
         corrected for the rows of a set and measure."
            .to_owned(),
    );
    Ok(table)
}

/// For every set of the same texts in all runs the row with the highest F1 of those that are compared with another one, and that one.
#[must_use]
pub fn best_answered_pairs(runs: &[AnsweredRun], baseline: &RunBaseline) -> Vec<(String, RowName, RowName)> {
    let sets = distinct(runs.iter().flat_map(|run| &run.evaluations).map(|evaluation| &evaluation.set));
    let name = |source: &Source<'_>| RowName {
        run: source.run.to_owned(),
        model: source.evaluation.model.clone(),
        decoder: source.row.decoder.name().to_owned(),
    };
    let best = |set: &str| {
        let sources = sources(runs, Some(set));
        let paired = sources.iter().filter_map(|own| Some((own, baseline_of(&sources, own, baseline)?)));
        let f1 = |own: &Source<'_>| own.row.texts.iter().map(|text| text.f1).sum::<f64>();
        let (own, base) = paired.max_by(|(a, _), (b, _)| f1(a).total_cmp(&f1(b)))?;
        Some((set.to_owned(), name(own), name(&base)))
    };
    sets.into_iter().filter(|set| have_the_same_texts(runs, set)).filter_map(best).collect()
}

/// Whether all runs have a set prepared from the same files by the same settings.
fn have_the_same_texts(runs: &[AnsweredRun], set: &str) -> bool {
    let first = runs.first().and_then(|run| run.contents.get(set));
    first.is_some() && runs.iter().all(|run| run.contents.get(set) == first)
}

fn columns() -> Vec<Column> {
    vec![
        Column::text("set", "Set"),
        Column::text("measure", "Measure"),
        Column::text("run", "Run"),
        Column::text("model", "Model"),
        Column::text("decoder", "Decoder"),
        Column::number("value", "Value", 1, None).unit("%"),
        Column::number("difference", "Above baseline", 1, None).unit("points"),
        Column::number("p_value", "p", 4, None),
        Column::number("p_holm", "p (Holm)", 4, None),
    ]
}

fn sources<'a>(runs: &'a [AnsweredRun], set: Option<&str>) -> Vec<Source<'a>> {
    let all = runs.iter().flat_map(|run| run.evaluations.iter().map(move |evaluation| (run, evaluation)));
    let of_set = all.filter(|(_, evaluation)| set.is_none_or(|set| evaluation.set == set));
    let rows = |(run, evaluation): (&'a AnsweredRun, &'a AnswerEvaluation)| {
        evaluation.rows.iter().map(move |row| Source { run: &run.run, evaluation, row })
    };
    of_set.flat_map(rows).collect()
}

fn is(source: &Source<'_>, name: &RowName) -> bool {
    (source.run, source.evaluation.model.as_str(), source.row.decoder.name())
        == (name.run.as_str(), name.model.as_str(), name.decoder.as_str())
}

/// What a row is compared with; none when that is itself.
fn baseline_of<'a>(sources: &[Source<'a>], own: &Source<'a>, baseline: &RunBaseline) -> Option<Source<'a>> {
    let name = baseline.of_row(sources.first()?.run, &own.evaluation.model, own.row.decoder.name());
    let found = *sources.iter().find(|source| is(source, &name))?;
    (!std::ptr::eq(found.row, own.row)).then_some(found)
}

fn add(
    table: &mut Table,
    sources: &[Source<'_>],
    (label, of): Measure,
    baseline: &RunBaseline,
    bootstrap: &Bootstrap,
) -> Result<(), EvaluatorError> {
    let mut tests = Vec::new();
    for source in sources {
        let test = match baseline_of(sources, source, baseline) {
            None => None,
            Some(base) => {
                let p = paired_t_test(&means(source.row, of), &means(base.row, of))?.p_value;
                Some((source.row.above(base.row, of, bootstrap)?, p))
            }
        };
        tests.push(test);
    }
    let mut corrected = holm(&tests.iter().flatten().map(|(_, p)| *p).collect::<Vec<_>>()).into_iter();
    for (source, test) in sources.iter().zip(tests) {
        let mut cells: Vec<Cell> =
            [source.evaluation.set.as_str(), label, source.run, &source.evaluation.model, source.row.decoder.name()]
                .map(Cell::text)
                .to_vec();
        cells.push(source.row.percent(of, bootstrap)?);
        cells.extend(match test {
            None => [Cell::Empty, Cell::Empty, Cell::Empty],
            Some((above, p)) => [above, Cell::number(p), corrected.next().map_or(Cell::Empty, Cell::number)],
        });
        table.push(cells);
    }
    Ok(())
}

/// Of the texts with accepted answers.
fn means(row: &AnswerRow, of: fn(&TextScores) -> f64) -> Vec<f64> {
    let texts = row.texts.iter().filter(|text| text.questions > 0);
    texts.map(|text| of(text) / f64::from(text.questions)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::config::AnswerDecoder;
    use super::*;

    fn run(name: &str, f1: [f64; 3], content: &str) -> AnsweredRun {
        let text = |f1: f64| TextScores {
            questions: 2,
            asked: 2,
            exact_match: f1.floor(),
            f1,
            seconds: 1.0,
            forward_passes: 3,
            tokens_computed: 50,
            new_tokens: 4,
        };
        let row = AnswerRow { decoder: AnswerDecoder::Columnar, texts: f1.map(text).to_vec(), memory_mib: None };
        let evaluation = AnswerEvaluation { set: "dev".into(), model: "m".into(), rows: vec![row] };
        AnsweredRun {
            run: name.into(),
            evaluations: vec![evaluation],
            contents: [("dev".to_owned(), content.to_owned())].into(),
        }
    }

    #[test]
    fn a_run_is_compared_with_the_same_row_of_the_first() {
        let runs = [run("a", [1.0, 0.5, 0.0], "h"), run("b", [2.0, 0.5, 1.0], "h")];
        let table = answered_runs_table(&runs, &RunBaseline::Counterpart, &Bootstrap::default()).unwrap();
        let value = |row: usize, column: usize| table.rows[row][column].value();
        assert_eq!((table.rows.len(), value(2, 5), value(2, 6)), (4, Some(25.0), None));
        let points = 100.0 * (3.5 - 1.5) / 6.0;
        assert!((value(3, 6).unwrap() - points).abs() < 1e-9, "{table:?}");
        assert!(value(3, 7).unwrap() <= value(3, 8).unwrap());
    }

    #[test]
    fn a_set_without_accepted_answers_is_left_out() {
        let mut runs = [run("a", [1.0, 0.5, 0.0], "h"), run("b", [2.0, 0.5, 1.0], "h")];
        for run in &mut runs {
            let mut empty = run.evaluations[0].clone();
            empty.set = "open".into();
            empty.rows[0].texts.iter_mut().for_each(|text| text.questions = 0);
            run.evaluations.push(empty);
            run.contents.insert("open".into(), "h".into());
        }
        let table = answered_runs_table(&runs, &RunBaseline::Counterpart, &Bootstrap::default()).unwrap();
        assert_eq!(table.rows.len(), 4);
        assert!(table.notes.iter().any(|note| note.starts_with("open: left out, fewer than two")), "{:?}", table.notes);
    }

    #[test]
    fn other_texts_and_rows_that_are_not_there_are_told() {
        let runs = [run("a", [1.0, 0.5, 0.0], "h"), run("b", [2.0, 0.5, 1.0], "other")];
        let error = answered_runs_table(&runs, &RunBaseline::Counterpart, &Bootstrap::default()).unwrap_err();
        assert!(error.to_string().contains("not all runs have it prepared from the same files"), "{error}");
        let name = RowName { run: "a".into(), model: "m".into(), decoder: "one_by_one".into() };
        let error = answered_runs_table(&runs[..1], &RunBaseline::Row(name), &Bootstrap::default()).unwrap_err();
        assert!(error.to_string().contains("no run has the row `a/m/one_by_one`"), "{error}");
    }
}
