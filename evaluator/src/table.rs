//! Tables as data, and their forms: JSON, CSV, Markdown, LaTeX, terminal. The report renders them as HTML.

mod csv;
mod latex;
mod markdown;
mod terminal;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stats::Interval;

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Short name, also for files.
    pub name: String,
    /// Heading.
    pub title: String,
    /// What each row and figure is, in a sentence or two.
    #[serde(default)]
    pub caption: String,
    /// Columns.
    pub columns: Vec<Column>,
    /// Rows, each with one cell per column.
    pub rows: Vec<Vec<Cell>>,
    /// Footnotes.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Name in JSON and CSV.
    pub key: String,
    /// Heading.
    pub label: String,
    /// Text or numbers.
    pub kind: ColumnKind,
    /// Unit of the numbers, if they have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Digits after the point.
    #[serde(default)]
    pub decimals: u8,
    /// Which values are better; absent when none are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub better: Option<Better>,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKind {
    /// Words.
    Text,
    /// Numbers.
    Number,
}

/// Direction of a measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Words.
    Text(String),
    /// A number.
    Value(Value),
    /// Not run, and why; with the paper's value if there is one.
    NotRun {
        /// Why.
        reason: String,
        /// Published value.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        paper: Option<f64>,
    },
    /// Does not apply.
    Empty,
}

/// A number, how sure it is, and what was published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// The number.
    pub value: f64,
    /// Bootstrap interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// Published value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paper: Option<f64>,
    /// Short mark behind the number, explained in the notes: `*`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mark: String,
}

/// Files a table can be written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TableFormat {
    /// The table as data.
    Json,
    /// One line a row; intervals and published values in columns of their own.
    Csv,
    /// GitHub's.
    Markdown,
    /// A `tabular` with booktabs rules.
    Latex,
}

impl TableFormat {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Json, Self::Csv, Self::Markdown, Self::Latex];

    /// File extension.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Markdown => "md",
            Self::Latex => "tex",
        }
    }
}

impl Column {
    /// A column of words.
    #[must_use]
    pub fn text(key: &str, label: &str) -> Self {
        Self { key: key.into(), label: label.into(), kind: ColumnKind::Text, unit: None, decimals: 0, better: None }
    }

    /// A column of numbers.
    #[must_use]
    pub fn number(key: &str, label: &str, decimals: u8, better: Option<Better>) -> Self {
        Self { kind: ColumnKind::Number, decimals, better, ..Self::text(key, label) }
    }

    /// The same with a unit.
    #[must_use]
    pub fn unit(mut self, unit: &str) -> Self {
        self.unit = Some(unit.into());
        self
    }

    /// Heading with the unit.
    #[must_use]
    pub fn heading(&self) -> String {
        self.unit.as_ref().map_or_else(|| self.label.clone(), |unit| format!("{} ({unit})", self.label))
    }
}

impl Cell {
    /// Words.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A bare number.
    #[must_use]
    pub fn number(value: f64) -> Self {
        Self::Value(Value { value, interval: None, paper: None, mark: String::new() })
    }

    /// A number with its interval.
    #[must_use]
    pub fn with_interval(value: f64, interval: Interval) -> Self {
        Self::Value(Value { value, interval: Some(interval), paper: None, mark: String::new() })
    }

    /// Number of the cell, if it has one.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        if let Self::Value(value) = self { Some(value.value) } else { None }
    }
}

/// A cell in words: number (with its mark), and what stands behind it in smaller type.
pub(crate) struct CellText {
    pub main: String,
    pub detail: String,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(name: &str, title: &str, columns: Vec<Column>) -> Self {
        Self { name: name.into(), title: title.into(), columns, ..Self::default() }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// When it has not one cell per column.
    pub fn push(&mut self, row: Vec<Cell>) {
        assert_eq!(row.len(), self.columns.len(), "cells and columns of table `{}`", self.name);
        self.rows.push(row);
    }

    /// In a format for files.
    #[must_use]
    pub fn render(&self, format: TableFormat) -> String {
        match format {
            TableFormat::Json => {
                serde_json::to_string_pretty(self).expect("a table holds strings, numbers and lists only") + "\n"
            }
            TableFormat::Csv => csv::render(self),
            TableFormat::Markdown => markdown::render(self),
            TableFormat::Latex => latex::render(self),
        }
    }

    /// For a terminal `width` characters wide; as wide as it needs when absent.
    #[must_use]
    pub fn render_terminal(&self, width: Option<u16>) -> String {
        terminal::render(self, width)
    }

    /// Rows of the best value in each column, equal as printed; none where nothing is better or all rows are equal.
    pub(crate) fn best_rows(&self) -> Vec<Vec<usize>> {
        let best = |(index, column): (usize, &Column)| {
            let Some(better) = column.better else { return Vec::new() };
            let values = self.rows.iter().enumerate().filter_map(|(row, cells)| Some((row, cells[index].value()?)));
            let values: Vec<(usize, f64)> = values.filter(|(_, value)| value.is_finite()).collect();
            let of_two = if better == Better::Higher { f64::max } else { f64::min };
            let Some(best) = values.iter().map(|(_, value)| *value).reduce(of_two) else { return Vec::new() };
            let printed = |value: f64| format!("{:.*}", usize::from(column.decimals), zero(value));
            let rows: Vec<usize> =
                values.iter().filter(|(_, value)| printed(*value) == printed(best)).map(|(row, _)| *row).collect();
            if rows.len() < values.len() { rows } else { Vec::new() }
        };
        self.columns.iter().enumerate().map(best).collect()
    }

    /// Words of a cell.
    pub(crate) fn cell_text(&self, row: usize, column: usize) -> CellText {
        let decimals = usize::from(self.columns[column].decimals);
        // As it was published: with more digits than ours where it has them.
        let paper = |paper: &Option<f64>| {
            paper.map(|value| {
                let (whole, rounded) = (value.to_string(), format!("{value:.decimals$}"));
                format!("paper {}", if whole.len() > rounded.len() { whole } else { rounded })
            })
        };
        match &self.rows[row][column] {
            Cell::Text(text) => CellText { main: text.clone(), detail: String::new() },
            Cell::Empty => CellText { main: String::new(), detail: String::new() },
            Cell::NotRun { reason, paper: published } => {
                // A row says why once.
                let says = |cell: &Cell| matches!(cell, Cell::NotRun { reason: earlier, .. } if earlier == reason);
                let reason = (!self.rows[row][..column].iter().any(says)).then(|| reason.clone());
                let Some(reason) = reason else {
                    let main = paper(published).unwrap_or_else(|| "not run".to_owned());
                    return CellText { main, detail: String::new() };
                };
                let detail: Vec<String> = std::iter::once(reason).chain(paper(published)).collect();
                CellText { main: "not run:".into(), detail: detail.join("; ") }
            }
            Cell::Value(value) => {
                let interval =
                    value.interval.map(|i| format!("[{:.decimals$}, {:.decimals$}]", zero(i.low), zero(i.high)));
                let detail: Vec<String> = interval.into_iter().chain(paper(&value.paper)).collect();
                let smallest = 10f64.powi(-i32::from(self.columns[column].decimals));
                // a p-value is never 0
                let is_p_value = P_VALUES.contains(&self.columns[column].key.as_str());
                let number = if is_p_value && value.value < smallest {
                    format!("<{smallest:.decimals$}")
                } else {
                    format!("{:.decimals$}", zero(value.value))
                };
                CellText { main: number + &value.mark, detail: detail.join("; ") }
            }
        }
    }
}

/// Keys of columns that hold p-values.
const P_VALUES: [&str; 2] = ["p_value", "p_holm"];

/// Without a sign on zero.
fn zero(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let columns = vec![
            Column::text("model", "Model"),
            Column::number("ndcg_cut_10", "nDCG@10", 4, Some(Better::Higher)),
            Column::number("seconds", "Latency", 2, Some(Better::Lower)).unit("s"),
        ];
        let mut table = Table::new("results", "Results & figures", columns);
        table.caption = "Means over 43 queries".into();
        let mut first = Value {
            value: 0.73651,
            interval: Some(Interval { low: 0.7, high: 0.77 }),
            paper: Some(0.7365),
            mark: "*".into(),
        };
        table.push(vec![Cell::text("RankZephyr | 3B_x"), Cell::Value(first.clone()), Cell::number(5.0)]);
        (first.value, first.paper, first.mark) = (0.5058, None, String::new());
        table.push(vec![Cell::text("BM25, \"k1=1.2\""), Cell::Value(first), Cell::Empty]);
        let reason = "needs a GPU".to_owned();
        table.push(vec![Cell::text("FIRST"), Cell::NotRun { reason, paper: Some(0.7294) }, Cell::number(-0.0)]);
        table.notes.push("* p < 0.05 against BM25".into());
        table
    }

    #[test]
    fn every_form() {
        let table = table();
        for format in TableFormat::ALL {
            insta::assert_snapshot!(format!("table_{}", format.extension()), table.render(format));
        }
        insta::assert_snapshot!("table_terminal", table.render_terminal(None));
        insta::assert_snapshot!("table_terminal_narrow", table.render_terminal(Some(60)));
        // Numbers stay whole where there is no room for the table.
        assert_eq!(table.render_terminal(Some(10)).matches("0.7365*").count(), 1);
    }

    #[test]
    fn a_row_says_once_why_it_was_not_run() {
        let mut table = table();
        let not_run = |paper| Cell::NotRun { reason: "no run".to_owned(), paper };
        table.rows = vec![
            vec![Cell::text("FIRST"), not_run(Some(0.7)), not_run(None)],
            vec![Cell::text("RankZephyr"), not_run(None), not_run(Some(0.8))],
        ];
        let text = table.render(TableFormat::Markdown);
        assert!(text.contains("| FIRST | not run: no run; paper 0.7000 | not run |"), "{text}");
        assert!(text.contains("| RankZephyr | not run: no run | paper 0.80 |"), "{text}");
        assert_eq!(table.render(TableFormat::Csv).matches("no run").count(), 4);
    }

    #[test]
    fn json_round_trips() {
        let table = table();
        assert_eq!(serde_json::from_str::<Table>(&table.render(TableFormat::Json)).unwrap(), table);
    }

    #[test]
    fn the_best_of_each_column() {
        assert_eq!(table().best_rows(), [vec![], vec![0], vec![2]]);
        let mut table = table();
        (table.rows[0][2], table.rows[1][2]) = (Cell::number(0.001), Cell::number(7.0));
        assert_eq!(table.best_rows()[2], [0, 2], "equal as printed");
        table.rows[1][2] = Cell::Empty;
        assert!(table.best_rows()[2].is_empty(), "better than no other");
    }
}
