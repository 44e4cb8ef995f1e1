//! Cells of a published table out of the tables of runs.

use std::collections::BTreeMap;

use evaluator::stats::Interval;
use evaluator::table::{Cell, Column, Table, Value};

use super::config::{PaperTable, RunTable, TableColumn, TableRow};

/// What there is of an experiment.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Its tables, by name.
    Tables(BTreeMap<RunTable, Table>),
    /// Nothing, and why.
    Missing(String),
    /// It was run and failed; how.
    Failed(String),
}

/// The table, ours beside the paper's. A column with published values is followed by one with ours minus the paper's, whose mark says whether our
/// interval covers the published value.
pub fn fill(paper: &PaperTable, found: &BTreeMap<String, Found>) -> Table {
    let published = |column: &TableColumn| paper.rows.iter().any(|row| row.paper.contains_key(&column.key));
    let mut columns = vec![Column::text("row", "")];
    for column in &paper.columns {
        columns.push(Column::number(&column.key, &column.label, column.decimals, column.better));
        if published(column) {
            columns.push(Column::number(&difference_key(&column.key), "ours − paper", column.decimals, None));
        }
    }
    let mut table = Table::new(&paper.name, &paper.title, columns);
    table.caption.clone_from(&paper.caption);
    for row in &paper.rows {
        let mut cells = vec![Cell::text(&row.label)];
        for column in &paper.columns {
            let cell =
                if column.mean_of.is_empty() { cell(row, column, found) } else { mean(paper, row, column, found) };
            let difference = difference(&cell);
            cells.push(cell);
            if published(column) {
                cells.push(difference);
            }
        }
        table.push(cells);
    }
    table.notes.clone_from(&paper.notes);
    table.notes.extend(sources(paper));
    table
}

/// A note for each place that published values come from, with the rows that have them from there.
fn sources(paper: &PaperTable) -> Vec<String> {
    let mut sources: Vec<(&str, Vec<&str>)> = Vec::new();
    for (row, source) in paper.rows.iter().filter_map(|row| Some((row, row.source.as_deref()?))) {
        match sources.iter_mut().find(|(known, _)| *known == source) {
            Some((_, rows)) => rows.push(&row.label),
            None => sources.push((source, vec![&row.label])),
        }
    }
    let note = |(source, rows): (&str, Vec<&str>)| format!("Published values of {}: {source}.", rows.join("; "));
    sources.into_iter().map(note).collect()
}

/// Leaves out the differences of columns in which nothing of ours stands beside a published value, and says what their marks mean where
/// any is left.
pub fn settle_differences(table: &mut Table, paper: &PaperTable) {
    let keys: Vec<String> = paper.columns.iter().map(|column| difference_key(&column.key)).collect();
    let mut place = 0;
    let mut any = false;
    while place < table.columns.len() {
        let is_difference = keys.contains(&table.columns[place].key);
        let is_empty = table.rows.iter().all(|row| matches!(row[place], Cell::Empty));
        any |= is_difference && !is_empty;
        if is_difference && is_empty {
            table.columns.remove(place);
            table.rows.iter_mut().for_each(|row| drop(row.remove(place)));
        } else {
            place += 1;
        }
    }
    if any {
        let note = "=: our interval covers the published value; ≠: it does not.".to_owned();
        table.notes.insert(paper.notes.len().min(table.notes.len()), note);
    }
}

fn cell(row: &TableRow, column: &TableColumn, found: &BTreeMap<String, Found>) -> Cell {
    let paper = row.paper.get(&column.key).copied();
    let not_run = |reason: String| Cell::NotRun { reason, paper };
    let Some(experiment) = &row.experiment else {
        return not_run(row.not_run.clone().unwrap_or_else(|| "no experiment here".to_owned()));
    };
    match found.get(experiment) {
        None => not_run("no such experiment".to_owned()),
        Some(Found::Missing(reason) | Found::Failed(reason)) => not_run(reason.clone()),
        Some(Found::Tables(tables)) => {
            let name = column.table.unwrap_or(row.table);
            let Some(table) = tables.get(&name) else {
                return not_run(format!("the run has no table `{}`", name.name()));
            };
            match ours(table, row, column) {
                Ok(Some(value)) => Cell::Value(Value { paper, ..value }),
                Ok(None) => Cell::Empty,
                // A run has the row, and this table of it does not: the reference's closeness to itself.
                Err(Lack::Row(_))
                    if name != row.table && tables.get(&row.table).is_some_and(|table| has_row(table, row)) =>
                {
                    Cell::Empty
                }
                Err(Lack::Row(reason) | Lack::Choice(reason)) => not_run(reason),
            }
        }
    }
}

/// The mean of the row's cells in the columns named. Where one of them has no figure there is no mean either, and it says why.
fn mean(paper: &PaperTable, row: &TableRow, column: &TableColumn, found: &BTreeMap<String, Found>) -> Cell {
    let published = row.paper.get(&column.key).copied();
    let mut values = Vec::new();
    for other in paper.columns.iter().filter(|other| column.mean_of.contains(&other.key)) {
        match cell(row, other, found) {
            Cell::Value(value) => values.push(value.value),
            Cell::NotRun { reason, .. } => return Cell::NotRun { reason, paper: published },
            _ => return Cell::Empty,
        }
    }
    let value = column.scale * values.iter().sum::<f64>() / values.len() as f64;
    Cell::Value(Value { value, interval: None, paper: published, mark: String::new() })
}

/// Why a run has no figure for a cell.
enum Lack {
    /// Nothing there says what is asked for.
    Row(String),
    /// More than one row does.
    Choice(String),
}

/// The figure of the run's row that says what is asked for, scaled; none where that row's cell is empty (a baseline has no speedup over
/// itself).
fn ours(table: &Table, row: &TableRow, column: &TableColumn) -> Result<Option<Value>, Lack> {
    let place = |key: &str| {
        table
            .columns
            .iter()
            .position(|own| own.key == key)
            .ok_or_else(|| Lack::Row(format!("`{}` has no column `{key}`", table.name)))
    };
    let from = place(column.from.as_ref().unwrap_or(&column.key))?;
    let asked: Vec<(usize, &str)> = row
        .r#where
        .iter()
        .chain(&column.r#where)
        .map(|(key, value)| Ok((place(key)?, value.as_str())))
        .collect::<Result<_, Lack>>()?;
    let all = |cells: &&Vec<Cell>| asked.iter().all(|(place, value)| says(&cells[*place], value));
    let words = || {
        let words = asked.iter().map(|(at, value)| format!("{} {value}", table.columns[*at].key));
        words.collect::<Vec<_>>().join(", ")
    };
    let found: Vec<&Vec<Cell>> = table.rows.iter().filter(all).collect();
    let cells = match found[..] {
        [cells] => cells,
        [] => return Err(Lack::Row(format!("the run has no row with {}", words()))),
        _ => return Err(Lack::Choice(format!("the run has {} rows with {}; say which", found.len(), words()))),
    };
    let Some(Cell::Value(value)) = cells.get(from) else { return Ok(None) };
    let scale = column.scale;
    let interval = value.interval.map(|i| Interval { low: i.low * scale, high: i.high * scale });
    // Marks of the run's table are explained there.
    Ok(Some(Value { value: value.value * scale, interval, paper: None, mark: String::new() }))
}

/// An empty cell says nothing, and that can be asked for.
fn says(cell: &Cell, value: &str) -> bool {
    match cell {
        Cell::Text(text) => text == value,
        Cell::Empty => value.is_empty(),
        _ => false,
    }
}

/// Whether a row of the run says what the row asks for.
fn has_row(table: &Table, row: &TableRow) -> bool {
    let asked = |cells: &Vec<Cell>| {
        row.r#where.iter().all(|(key, value)| {
            let place = table.columns.iter().position(|own| own.key == *key);
            place.is_some_and(|place| says(&cells[place], value))
        })
    };
    table.rows.iter().any(asked)
}

/// Key of the column with ours minus the paper's: a name that no column of a run has.
pub(super) fn difference_key(column: &str) -> String {
    format!("{column}_minus_paper")
}

/// Ours minus the paper's; the mark says whether our interval covers the published value.
pub(super) fn difference(cell: &Cell) -> Cell {
    let Cell::Value(Value { value, interval, paper: Some(paper), .. }) = cell else { return Cell::Empty };
    let mark = match interval {
        Some(interval) if interval.contains(*paper) => "=",
        Some(_) => "≠",
        None => "",
    };
    let shifted = interval.map(|i| Interval { low: i.low - paper, high: i.high - paper });
    Cell::Value(Value { value: value - paper, interval: shifted, paper: None, mark: mark.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paper() -> PaperTable {
        let text = "
name: t
title: T
experiments: {rank: {file: rank.yaml}}
columns:
  - {key: dl21, label: DL21, from: ndcg_cut_10, where: {set: dl21}, decimals: 1, scale: 100}
rows:
  - {label: FIRST, experiment: rank, where: {model: first}, paper: {dl21: 45}}
  - {label: RankZephyr, experiment: rank, where: {model: rank_zephyr}, paper: {dl21: 70.16}, source: its card}
  - {label: duoT5, paper: {dl21: 50}, not_run: another method, source: its card}
";
        serde_yaml::from_str(text).unwrap()
    }

    fn run_table() -> Table {
        let columns = vec![
            Column::text("set", "Set"),
            Column::text("model", "Model"),
            Column::number("ndcg_cut_10", "N", 4, None),
        ];
        let mut table = Table::new("results", "Results", columns);
        let value = Cell::with_interval(0.4458, Interval { low: 0.38, high: 0.51 });
        table.push(vec![Cell::text("dl19"), Cell::text("first"), Cell::number(0.9)]);
        table.push(vec![Cell::text("dl21"), Cell::text("first"), value]);
        table
    }

    #[test]
    fn cells_come_from_the_row_that_says_what_is_asked_for() {
        let tables = BTreeMap::from([(RunTable::Results, run_table())]);
        let found = BTreeMap::from([("rank".to_owned(), Found::Tables(tables))]);
        assert!(paper().check().is_empty());
        let mut table = fill(&paper(), &found);
        settle_differences(&mut table, &paper());
        assert!(table.notes[0].starts_with("=: our interval"));
        assert_eq!(table.notes[1], "Published values of RankZephyr; duoT5: its card.");
        let text = table.render(evaluator::table::TableFormat::Markdown);
        let Cell::Value(value) = &table.rows[0][1] else { panic!("{text}") };
        assert!((value.value - 44.58).abs() < 1e-9 && value.paper == Some(45.0));
        let Cell::Value(value) = &table.rows[0][2] else { panic!("{text}") };
        assert_eq!((value.mark.as_str(), (value.value + 0.42).abs() < 1e-9), ("=", true));
        let Cell::NotRun { reason, paper } = &table.rows[1][1] else { panic!("{text}") };
        assert_eq!((reason.as_str(), *paper), ("the run has no row with model rank_zephyr, set dl21", Some(70.16)));
        let Cell::NotRun { reason, .. } = &table.rows[2][1] else { panic!("{text}") };
        assert_eq!(reason, "another method");
    }

    /// The first of several would be another set's figure under this one's heading.
    #[test]
    fn a_cell_that_several_rows_could_fill_says_so() {
        let found =
            BTreeMap::from([("rank".to_owned(), Found::Tables(BTreeMap::from([(RunTable::Results, run_table())])))]);
        let mut paper = paper();
        paper.columns[0].r#where.clear();
        let table = fill(&paper, &found);
        let Cell::NotRun { reason, .. } = &table.rows[0][1] else { panic!("{table:?}") };
        assert_eq!(reason, "the run has 2 rows with model first; say which");
    }

    #[test]
    fn differences_are_shown_where_there_are_any() {
        let found = BTreeMap::from([("rank".to_owned(), Found::Missing("no run".to_owned()))]);
        let mut table = fill(&paper(), &found);
        assert_eq!(table.columns.len(), 3);
        settle_differences(&mut table, &paper());
        let keys: Vec<&str> = table.columns.iter().map(|column| column.key.as_str()).collect();
        assert_eq!((keys.as_slice(), table.notes.len()), (["row", "dl21"].as_slice(), 1));
        assert!(table.rows.iter().all(|row| row.len() == 2));
    }

    #[test]
    fn a_mean_is_of_the_columns_named_and_missing_where_one_of_them_is() {
        let text = "
name: t
title: T
experiments: {rank: {file: rank.yaml}}
columns:
  - {key: avg, label: Avg, mean_of: [dl19, dl21]}
  - {key: dl19, label: DL19, from: ndcg_cut_10, where: {set: dl19}, scale: 100}
  - {key: dl21, label: DL21, from: ndcg_cut_10, where: {set: dl21}, scale: 100}
rows:
  - {label: FIRST, experiment: rank, where: {model: first}, paper: {avg: 68}}
  - {label: RankZephyr, experiment: rank, where: {model: rank_zephyr}, paper: {avg: 70}}
";
        let paper: PaperTable = serde_yaml::from_str(text).unwrap();
        let found =
            BTreeMap::from([("rank".to_owned(), Found::Tables(BTreeMap::from([(RunTable::Results, run_table())])))]);
        let table = fill(&paper, &found);
        let Cell::Value(value) = &table.rows[0][1] else { panic!("{table:?}") };
        assert!((value.value - (90.0 + 44.58) / 2.0).abs() < 1e-9 && value.paper == Some(68.0));
        let Cell::Value(value) = &table.rows[0][2] else { panic!("{table:?}") };
        assert_eq!(((value.value + 0.71).abs() < 1e-9, value.mark.as_str()), (true, ""));
        let Cell::NotRun { reason, paper: published } = &table.rows[1][1] else { panic!("{table:?}") };
        assert_eq!((reason.as_str(), *published), ("the run has no row with model rank_zephyr, set dl19", Some(70.0)));
        let mut wrong = paper.clone();
        wrong.columns[0].mean_of = vec!["avg".to_owned(), "dl20".to_owned()];
        let problems: Vec<String> = wrong.check().into_iter().map(|problem| problem.message).collect();
        assert_eq!(problems.len(), 2);
        assert_eq!(problems[1], "got \"dl20\", wanted the key of a column that is no mean itself");
    }

    #[test]
    fn experiments_are_in_the_order_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.yaml");
        let text =
            "{name: t, title: T, experiments: {rank: {file: r.yaml}, first: {file: r.yaml}}, columns: [], rows: []}";
        std::fs::write(&file, text).unwrap();
        let paper: PaperTable = crate::config::load::ConfigSource::read(&file, &[]).unwrap().decode().unwrap();
        assert_eq!(paper.experiments.keys().collect::<Vec<_>>(), ["rank", "first"]);
    }

    #[test]
    fn experiments_and_columns_that_do_not_exist_are_named() {
        let mut table = paper();
        table.rows[0].experiment = Some("gone".to_owned());
        table.rows[1].paper.insert("dl22".to_owned(), 1.0);
        let problems: Vec<String> = table.check().into_iter().map(|problem| problem.message).collect();
        assert_eq!(problems[0], "got \"gone\", wanted one of `experiments`: rank");
        assert_eq!(problems[1], "no column has this key; there are dl21");
    }
}
