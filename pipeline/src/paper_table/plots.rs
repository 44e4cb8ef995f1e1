//! Plots of a table's page: quality against seconds.

use evaluator::report::{LabelledPoint, TradeOff};
use evaluator::table::{Cell, Table};

use super::config::{PaperTable, TablePlot, TableRow};

/// What parts a row's label: `SQuAD · as released · single_token`.
const BETWEEN: &str = " · ";

/// The plots of a filled table: for each one asked for and each experiment, in the order of the rows. What the labels of an experiment's rows
/// begin with is the plot's name, and the rest the points'; where they share no beginning it is the experiment's.
#[must_use]
pub fn trade_offs(table: &Table, paper: &PaperTable) -> Vec<TradeOff> {
    let mut experiments: Vec<&String> = Vec::new();
    for experiment in paper.rows.iter().filter_map(|row| row.experiment.as_ref()) {
        if !experiments.contains(&experiment) {
            experiments.push(experiment);
        }
    }
    let plots = paper.plots.iter().flat_map(|plot| experiments.iter().map(move |experiment| (plot, experiment)));
    plots.filter_map(|(plot, experiment)| trade_off(table, paper, plot, experiment)).collect()
}

/// None where fewer than two rows have both figures.
fn trade_off(table: &Table, paper: &PaperTable, plot: &TablePlot, experiment: &str) -> Option<TradeOff> {
    let place = |key: &str| table.columns.iter().position(|column| column.key == key);
    let (quality, seconds) = (place(&plot.quality)?, place(&plot.seconds)?);
    let is_of_plot = |row: &TableRow| row.plotted && row.experiment.as_deref() == Some(experiment);
    let rows = paper.rows.iter().zip(&table.rows).filter(|(row, _)| is_of_plot(row));
    let figures = |(row, cells): (&TableRow, &Vec<Cell>)| {
        let (Cell::Value(quality), Cell::Value(seconds)) = (&cells[quality], &cells[seconds]) else { return None };
        Some((row.label.clone(), quality.clone(), seconds.value))
    };
    let found: Vec<_> = rows.filter_map(figures).collect();
    let labels: Vec<&str> = found.iter().map(|(label, ..)| label.as_str()).collect();
    let shared = shared_beginning(&labels);
    let points = found.iter().map(|(label, quality, seconds)| LabelledPoint {
        label: label[shared..].to_owned(),
        group: experiment.to_owned(),
        seconds: *seconds,
        value: quality.value,
        interval: quality.interval,
    });
    let name = labels.first()?[..shared].trim_end_matches(BETWEEN);
    (found.len() > 1).then(|| TradeOff {
        set: if name.is_empty() { experiment.to_owned() } else { name.to_owned() },
        measure: table.columns[quality].label.clone(),
        points: points.collect(),
        first_stage: None,
    })
}

/// Bytes of the parts that all labels begin with; a label of one part keeps it.
fn shared_beginning(labels: &[&str]) -> usize {
    let Some(first) = labels.first() else { return 0 };
    let ends = first.match_indices(BETWEEN).map(|(at, between)| at + between.len());
    ends.filter(|end| labels.iter().all(|label| label.starts_with(&first[..*end]))).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use evaluator::table::Column;

    use super::super::config::RunTable;
    use super::super::fill::{Found, fill};
    use super::*;

    fn paper() -> PaperTable {
        let text = "
name: t
title: T
experiments: {a: {file: a.yaml}, b: {file: b.yaml}}
columns: [{key: tau, label: Kendall's tau, table: cost}, {key: median, label: Median, table: cost}]
plots: [{quality: tau, seconds: median}]
rows:
  - {label: SQuAD · released · one, experiment: a, where: {decoder: one}}
  - {label: SQuAD · released · two · 2 passes, experiment: a, where: {decoder: two}}
  - {label: SQuAD · released · far away, experiment: a, where: {decoder: two}, plotted: false}
  - {label: SQuAD · released · reference, experiment: a, where: {decoder: reference}}
  - {label: Films · one, experiment: b, where: {decoder: one}}
";
        serde_yaml::from_str(text).unwrap()
    }

    #[test]
    fn a_plot_for_each_experiment_with_two_rows_and_more() {
        let columns = vec![
            Column::text("decoder", "Decoder"),
            Column::number("tau", "T", 3, None),
            Column::number("median", "M", 3, None),
        ];
        let mut cost = Table::new("cost", "Cost", columns);
        cost.push(vec![Cell::text("one"), Cell::number(0.9), Cell::number(0.5)]);
        cost.push(vec![Cell::text("two"), Cell::number(0.8), Cell::number(0.4)]);
        cost.push(vec![Cell::text("reference"), Cell::Empty, Cell::number(0.7)]);
        let tables = || Found::Tables(BTreeMap::from([(RunTable::Cost, cost.clone())]));
        let found = BTreeMap::from([("a".to_owned(), tables()), ("b".to_owned(), tables())]);
        assert!(paper().check().is_empty());
        let plots = trade_offs(&fill(&paper(), &found), &paper());
        assert_eq!(plots.len(), 1, "one row makes no plot");
        assert_eq!((plots[0].set.as_str(), plots[0].measure.as_str()), ("SQuAD · released", "Kendall's tau"));
        let labels: Vec<&str> = plots[0].points.iter().map(|point| point.label.as_str()).collect();
        assert_eq!(labels, ["one", "two · 2 passes"]);
        let mut unlike = paper();
        unlike.rows[0].label = "alone".to_owned();
        assert_eq!(trade_offs(&fill(&unlike, &found), &unlike)[0].set, "a");
        assert_eq!((plots[0].points[1].seconds, plots[0].points[1].value), (0.4, 0.8));
    }

    #[test]
    fn a_plot_of_a_column_that_is_not_there_is_named() {
        let mut wrong = paper();
        wrong.plots[0].seconds = "latency".to_owned();
        let problems: Vec<String> = wrong.check().into_iter().map(|problem| problem.message).collect();
        assert_eq!(problems, ["no column has the key \"latency\"; there are tau, median"]);
    }
}
