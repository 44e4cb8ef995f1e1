//! A table that was written before: it stands in for runs that are not here, and new figures are held against it.

use std::collections::{BTreeMap, BTreeSet};

use evaluator::table::{Cell, Column, Table, Value};

use super::config::{PaperTable, RunTable, TableColumn, TableRow};
use super::fill::{Found, difference, difference_key};

/// Fills the rows that have no figure of a run here from a table that was written before, by row and column; takes over the notes that say
/// where the figures of their experiments come from. Rows of an experiment that failed here stay without figures. Returns how many rows were
/// taken.
pub fn take_over(table: &mut Table, paper: &PaperTable, found: &BTreeMap<String, Found>, kept: &Table) -> usize {
    let failed = |name: &String| matches!(found.get(name), Some(Found::Failed(_)));
    let mut experiments = BTreeSet::new();
    let mut taken = 0;
    for (row, cells) in paper.rows.iter().zip(&mut table.rows) {
        let experiment = row.experiment.as_ref().filter(|name| !has_figures(cells) && !failed(name));
        let Some(experiment) = experiment else { continue };
        let Some(old) = row_of(kept, &row.label).filter(|old| has_figures(old)) else { continue };
        for column in &paper.columns {
            let place = |columns: &[Column], key: &str| columns.iter().position(|own| own.key == key);
            // A file from elsewhere may have a row that is too short.
            let old = place(&kept.columns, &column.key).and_then(|place| old.get(place));
            let Some(at) = place(&table.columns, &column.key) else { continue };
            let published = row.paper.get(&column.key).copied();
            cells[at] = old.map_or_else(|| not_kept(published), |old| with_paper(old, published));
            if let Some(beside) = place(&table.columns, &difference_key(&column.key)) {
                cells[beside] = difference(&cells[at]);
            }
        }
        experiments.insert(experiment);
        taken += 1;
    }
    for name in experiments {
        let of = note_of(name, "");
        let new = |note: &&String| note.starts_with(&of) && !table.notes.contains(note);
        let notes: Vec<String> = kept.notes.iter().filter(new).cloned().collect();
        table.notes.extend(notes);
    }
    taken
}

/// A figure that the kept table has no place for: it was made before the file asked for it.
fn not_kept(paper: Option<f64>) -> Cell {
    match paper {
        Some(_) => Cell::NotRun { reason: "not in the kept table".to_owned(), paper },
        None => Cell::Empty,
    }
}

/// What the kept table has figures of and the file does not ask for, in words: rows by label, columns by key.
#[must_use]
pub fn left_behind(paper: &PaperTable, kept: &Table) -> Vec<String> {
    let asked = |label: &str| paper.rows.iter().any(|row| row.label == label);
    let labels = kept.rows.iter().filter(|cells| has_figures(cells)).filter_map(|cells| match cells.first() {
        Some(Cell::Text(label)) if !asked(label) => Some(format!("row `{label}`")),
        _ => None,
    });
    let of_file = |key: &str| paper.columns.iter().any(|own| own.key == key || difference_key(&own.key) == key);
    let figures = |at: usize| kept.rows.iter().any(|cells| cells.get(at).is_some_and(|cell| cell.value().is_some()));
    let columns = kept.columns.iter().enumerate().filter(|(at, column)| !of_file(&column.key) && figures(*at));
    labels.chain(columns.map(|(_, column)| format!("column `{}`", column.key))).collect()
}

/// Labels of rows that have figures in the kept table and none in this one: their experiment failed, or the row no longer names one.
#[must_use]
pub fn without_figures(table: &Table, kept: &Table) -> Vec<String> {
    let label = |cells: &[Cell]| match cells.first() {
        Some(Cell::Text(label)) => Some(label.clone()),
        _ => None,
    };
    let bare = table.rows.iter().filter(|cells| !has_figures(cells)).filter_map(|cells| label(cells));
    bare.filter(|label| row_of(kept, label).is_some_and(|old| has_figures(old))).collect()
}

/// A kept figure beside what the table file says was published, which may have been corrected since.
fn with_paper(kept: &Cell, paper: Option<f64>) -> Cell {
    match kept {
        Cell::Value(value) => Cell::Value(Value { paper, ..value.clone() }),
        Cell::NotRun { reason, .. } => Cell::NotRun { reason: reason.clone(), paper },
        other => other.clone(),
    }
}

/// The experiments that gave the table a figure, each with the models of its rows that have one.
#[must_use]
pub fn with_figures<'p>(table: &Table, paper: &'p PaperTable) -> BTreeMap<&'p String, BTreeSet<&'p str>> {
    let mut found: BTreeMap<&String, BTreeSet<&str>> = BTreeMap::new();
    for (row, _) in paper.rows.iter().zip(&table.rows).filter(|(_, cells)| has_figures(cells)) {
        if let Some(name) = &row.experiment {
            found.entry(name).or_default().extend(row.r#where.get("model").map(String::as_str));
        }
    }
    found
}

fn has_figures(cells: &[Cell]) -> bool {
    cells.iter().any(|cell| cell.value().is_some())
}

/// The note that says where an experiment's figures come from.
#[must_use]
pub fn note_of(experiment: &str, origin: &str) -> String {
    format!("Run `{experiment}`: {origin}")
}

/// How figures that were run here agree with a table that was written before.
#[derive(Debug, Default, PartialEq)]
pub struct Agreement {
    /// Figures within the earlier interval.
    pub within: usize,
    /// The others, in words.
    pub outside: Vec<String>,
}

/// Columns that tell seconds, or ratios of them.
const OF_A_MACHINE: [&str; 4] = ["latency_median", "seconds", "speedup", "memory_mib"];

fn is_of_a_machine(column: &TableColumn, row: &TableRow) -> bool {
    let from = column.from.as_ref().unwrap_or(&column.key);
    column.table.unwrap_or(row.table) == RunTable::Cost || OF_A_MACHINE.contains(&from.as_str())
}

/// Holds the figures of experiments that were run here against the earlier intervals. Costs, seconds and speedups are left out: they belong to a
/// machine.
#[must_use]
pub fn agreement(table: &Table, paper: &PaperTable, found: &BTreeMap<String, Found>, kept: &Table) -> Agreement {
    let mut agreement = Agreement::default();
    for (row, cells) in paper.rows.iter().zip(&table.rows) {
        let here = row.experiment.as_ref().is_some_and(|name| matches!(found.get(name), Some(Found::Tables(_))));
        let Some(old) = row_of(kept, &row.label).filter(|_| here) else { continue };
        for column in paper.columns.iter().filter(|column| !is_of_a_machine(column, row)) {
            let at = |table: &Table| table.columns.iter().position(|own| own.key == column.key);
            let (Some(own), Some(earlier)) = (at(table), at(kept)) else { continue };
            let (Some(value), Some(Cell::Value(earlier))) = (cells[own].value(), old.get(earlier)) else { continue };
            let Some(interval) = earlier.interval else { continue };
            if interval.contains(value) {
                agreement.within += 1;
            } else {
                agreement.outside.push(format!(
                    "{}, {}: {value:.4}, before {:.4} [{:.4}, {:.4}]",
                    row.label, column.label, earlier.value, interval.low, interval.high
                ));
            }
        }
    }
    agreement
}

fn row_of<'t>(table: &'t Table, label: &str) -> Option<&'t Vec<Cell>> {
    table.rows.iter().find(|cells| matches!(cells.first(), Some(Cell::Text(text)) if text == label))
}

#[cfg(test)]
mod tests {
    use super::super::fill::fill;
    use super::*;
    use evaluator::stats::Interval;

    fn paper() -> PaperTable {
        let text = "
name: t
title: T
experiments: {a: {file: a.yaml}, b: {file: b.yaml}}
columns:
  - {key: ndcg, label: N}
  - {key: seconds, label: S, table: cost}
rows:
  - {label: of a, experiment: a, where: {model: m}}
  - {label: of b, experiment: b, where: {model: m}}
";
        serde_yaml::from_str(text).unwrap()
    }

    /// What a run whose measure has this value left.
    fn run(value: f64) -> Found {
        let interval = Interval { low: value - 0.1, high: value + 0.1 };
        let table = |kind: RunTable, key: &str| {
            let mut table = Table::new(
                kind.name(),
                kind.name(),
                vec![Column::text("model", "M"), Column::number(key, key, 4, None)],
            );
            table.push(vec![Cell::text("m"), Cell::with_interval(value, interval)]);
            (kind, table)
        };
        Found::Tables(BTreeMap::from([table(RunTable::Results, "ndcg"), table(RunTable::Cost, "seconds")]))
    }

    #[test]
    fn rows_without_figures_come_from_the_kept_table_with_their_origin() {
        let paper = paper();
        let all = BTreeMap::from([("a".to_owned(), run(0.5)), ("b".to_owned(), run(0.7))]);
        let mut kept = fill(&paper, &all);
        kept.notes = vec![note_of("a", "then"), note_of("b", "there"), "another".to_owned()];
        let here = BTreeMap::from([("a".to_owned(), run(0.55)), ("b".to_owned(), Found::Missing("no run".to_owned()))]);
        let mut table = fill(&paper, &here);
        assert_eq!(table.rows[1][1].value(), None);
        assert_eq!(take_over(&mut table, &paper, &here, &kept), 1);
        assert_eq!((table.rows[0][1].value(), table.rows[1][1].value()), (Some(0.55), Some(0.7)));
        assert_eq!(table.notes, ["Run `b`: there"]);
        let failed = BTreeMap::from([("a".to_owned(), run(0.55)), ("b".to_owned(), Found::Failed("how".to_owned()))]);
        let mut table = fill(&paper, &failed);
        assert_eq!(take_over(&mut table, &paper, &failed, &kept), 0, "old figures would hide that it failed");
        assert_eq!(without_figures(&table, &kept), ["of b"], "nor may it be written over the only copy");
        assert_eq!(table.rows[1][1].value(), None);
    }

    #[test]
    fn a_kept_figure_stands_beside_what_is_published_now() {
        let mut paper = paper();
        let found = BTreeMap::from([("a".to_owned(), run(0.5))]);
        paper.rows[0].paper.insert("ndcg".to_owned(), 0.45);
        let kept = fill(&paper, &found);
        paper.rows[0].paper.insert("ndcg".to_owned(), 0.9);
        let mut table = fill(&paper, &BTreeMap::new());
        assert!(with_figures(&table, &paper).is_empty());
        assert_eq!(take_over(&mut table, &paper, &BTreeMap::new(), &kept), 1);
        assert_eq!(table.rows[0], fill(&paper, &found).rows[0]);
        assert_eq!(with_figures(&table, &paper).len(), 1);
        // A cell that was not run has its published value beside it as well.
        let mut without = kept.clone();
        without.rows[0][1] = Cell::NotRun { reason: "then".to_owned(), paper: Some(0.45) };
        let mut table = fill(&paper, &BTreeMap::new());
        take_over(&mut table, &paper, &BTreeMap::new(), &without);
        assert_eq!(table.rows[0][1], Cell::NotRun { reason: "then".to_owned(), paper: Some(0.9) });
    }

    #[test]
    fn a_kept_row_that_is_too_short_gives_what_it_has() {
        let paper = paper();
        let all = BTreeMap::from([("a".to_owned(), run(0.5)), ("b".to_owned(), run(0.7))]);
        let mut kept = fill(&paper, &all);
        kept.rows.iter_mut().for_each(|row| row.truncate(2));
        let mut table = fill(&paper, &BTreeMap::new());
        assert_eq!(take_over(&mut table, &paper, &BTreeMap::new(), &kept), 2);
        assert_eq!((table.rows[1][1].value(), table.rows[1][2].value()), (Some(0.7), None));
        // There is a run of it, only not of this column: nothing says `no run`.
        assert_eq!(table.rows[1][2], Cell::Empty);
        kept.rows.iter_mut().for_each(|row| row.truncate(1));
        assert_eq!(agreement(&fill(&paper, &all), &paper, &all, &kept), Agreement::default());
    }

    #[test]
    fn what_the_file_no_longer_asks_for_is_named() {
        let mut paper = paper();
        let kept = fill(&paper, &BTreeMap::from([("a".to_owned(), run(0.5)), ("b".to_owned(), run(0.7))]));
        assert!(left_behind(&paper, &kept).is_empty());
        paper.rows[1].label = "of B".to_owned();
        paper.columns[0].key = "other".to_owned();
        assert_eq!(left_behind(&paper, &kept), ["row `of b`", "column `ndcg`"]);
    }

    #[test]
    fn figures_outside_the_earlier_interval_are_named_and_costs_are_not_held() {
        let paper = paper();
        let kept = fill(&paper, &BTreeMap::from([("a".to_owned(), run(0.5)), ("b".to_owned(), run(0.7))]));
        let here = BTreeMap::from([("a".to_owned(), run(0.55)), ("b".to_owned(), run(0.9))]);
        let agreement = agreement(&fill(&paper, &here), &paper, &here, &kept);
        assert_eq!(agreement.within, 1);
        assert_eq!(agreement.outside, ["of b, N: 0.9000, before 0.7000 [0.6000, 0.8000]"]);
    }
}
