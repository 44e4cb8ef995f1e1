//! What a table file may hold.

use std::collections::BTreeMap;
use std::path::PathBuf;

use evaluator::table::Better;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::problem::Problem;

/// A table: rows and columns, the experiments that fill the cells, the published values and where they stand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PaperTable {
    /// Name of the table's files: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Heading.
    pub title: String,
    /// What each row and figure is, in a sentence or two.
    #[serde(default)]
    pub caption: String,
    /// The experiments, by the name that rows use, in the order in which they are run: a later one may begin with a model that an earlier one
    /// trained.
    #[serde(default)]
    pub experiments: IndexMap<String, TableExperiment>,
    /// Columns, left to right.
    pub columns: Vec<TableColumn>,
    /// Rows, top down.
    pub rows: Vec<TableRow>,
    /// Plots of the table's page.
    #[serde(default)]
    pub plots: Vec<TablePlot>,
    /// Sentences under the table: where the published values come from, what differs.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// An experiment file and what is changed in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableExperiment {
    /// The experiment file; a relative path starts from the folder the command runs in.
    pub file: PathBuf,
    /// `key.path=value`, as for `--set`.
    #[serde(default)]
    pub set: Vec<String>,
}

/// A table of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunTable {
    /// Measures, fidelity, latency and speedup of rankings.
    #[default]
    Results,
    /// EM, F1 and seconds of answers.
    Answers,
    /// Paired differences of rankings from the baseline.
    Comparison,
    /// Closeness of rankings to the reference's order.
    Fidelity,
    /// Passes, tokens, seconds and memory of rankings.
    Cost,
}

impl RunTable {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Results, Self::Answers, Self::Comparison, Self::Fidelity, Self::Cost];

    /// Name in table files and of the run's files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Results => "results",
            Self::Answers => "answers",
            Self::Comparison => "comparison",
            Self::Fidelity => "fidelity",
            Self::Cost => "cost",
        }
    }
}

/// A column of figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableColumn {
    /// Name in JSON and CSV, and in a row's `paper`.
    pub key: String,
    /// Heading.
    pub label: String,
    /// Column of the experiments' tables. Default: `key`.
    #[serde(default)]
    pub from: Option<String>,
    /// Columns whose mean it is, by their keys, instead of a column of the experiments. Not run where one of them is not; without an interval. `from`, `table` and `where`
    /// have no place beside it.
    #[serde(default)]
    pub mean_of: Vec<String>,
    /// Which of the experiments' tables, where not the row's: `cost`.
    #[serde(default)]
    pub table: Option<RunTable>,
    /// What the experiment's row has to say, beside what the table's row asks for: `{set: dl21}`.
    #[serde(default)]
    pub r#where: BTreeMap<String, String>,
    /// Digits after the point. Default 4.
    #[serde(default = "four")]
    pub decimals: u8,
    /// Which values are better; absent when none are.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub better: Option<Better>,
    /// Multiplies our values: 100 where the paper prints percent. Default 1.
    #[serde(default = "one")]
    pub scale: f64,
}

/// One column against another, a plot for each experiment and a point for each of its rows that has both figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TablePlot {
    /// Key of the column that tells quality.
    pub quality: String,
    /// Key of the column that tells seconds.
    pub seconds: String,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableRow {
    /// First cell.
    pub label: String,
    /// The experiment that fills it; without one it shows published values only.
    #[serde(default)]
    pub experiment: Option<String>,
    /// Which of the experiment's tables. Default `results`.
    #[serde(default)]
    pub table: RunTable,
    /// What the experiment's row has to say: `{model: first, decoder: single_token}`.
    #[serde(default)]
    pub r#where: BTreeMap<String, String>,
    /// Published values by column, in the column's scale.
    #[serde(default)]
    pub paper: BTreeMap<String, f64>,
    /// Where its published values stand, for a note; where all of a table stand in one place, `notes` can say it.
    #[serde(default)]
    pub source: Option<String>,
    /// Why it is not run here.
    #[serde(default)]
    pub not_run: Option<String>,
    /// Whether plots have it. Default true; false for one so far from the others that they would lie on one line.
    #[serde(default = "yes")]
    pub plotted: bool,
}

fn yes() -> bool {
    true
}

fn four() -> u8 {
    4
}

fn one() -> f64 {
    1.0
}

impl PaperTable {
    /// Everything wrong with the settings.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !crate::config::check::is_plain(&self.name) {
            let wanted = crate::config::check::PLAIN;
            problems.push(Problem::new("name", format!("got \"{}\", wanted {wanted}", self.name)));
        }
        let keys: Vec<&str> = self.columns.iter().map(|column| column.key.as_str()).collect();
        for (place, key) in keys.iter().enumerate().filter(|(place, key)| keys[..*place].contains(key)) {
            problems.push(Problem::new(format!("columns[{place}].key"), format!("two columns have the key \"{key}\"")));
        }
        for (place, row) in self.rows.iter().enumerate() {
            if self.rows[..place].iter().any(|other| other.label == row.label) {
                let message = format!("two rows are called \"{}\"; `--kept` could not tell them apart", row.label);
                problems.push(Problem::new(format!("rows[{place}].label"), message));
            }
        }
        let of_runs = |key: &str| self.columns.iter().any(|column| column.key == key && column.mean_of.is_empty());
        for (place, column) in self.columns.iter().enumerate() {
            let own = column.from.is_some() || column.table.is_some() || !column.r#where.is_empty();
            if own && !column.mean_of.is_empty() {
                let message = "`from`, `table` and `where` have no place beside it: it is made of other columns";
                problems.push(Problem::new(format!("columns[{place}].mean_of"), message));
            }
            for key in column.mean_of.iter().filter(|key| !of_runs(key)) {
                let message = format!("got \"{key}\", wanted the key of a column that is no mean itself");
                problems.push(Problem::new(format!("columns[{place}].mean_of"), message));
            }
        }
        for (place, plot) in self.plots.iter().enumerate() {
            for (axis, key) in [("quality", &plot.quality), ("seconds", &plot.seconds)] {
                if !keys.contains(&key.as_str()) {
                    let message = format!("no column has the key \"{key}\"; there are {}", keys.join(", "));
                    problems.push(Problem::new(format!("plots[{place}].{axis}"), message));
                }
            }
        }
        for (place, row) in self.rows.iter().enumerate() {
            if let Some(name) = row.experiment.as_ref().filter(|name| !self.experiments.contains_key(*name)) {
                let known: Vec<&str> = self.experiments.keys().map(String::as_str).collect();
                let message = format!("got \"{name}\", wanted one of `experiments`: {}", known.join(", "));
                problems.push(Problem::new(format!("rows[{place}].experiment"), message));
            }
            for key in row.paper.keys().filter(|key| !keys.contains(&key.as_str())) {
                let message = format!("no column has this key; there are {}", keys.join(", "));
                problems.push(Problem::new(format!("rows[{place}].paper.{key}"), message));
            }
        }
        problems
    }
}
