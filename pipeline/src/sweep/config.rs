//! What a sweep file may hold.

use std::collections::HashSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_yaml::{Mapping, Value};

use crate::config::problem::Problem;
use crate::paper_table::config::RunTable;

/// An experiment file, and the values it is run with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepConfig {
    /// Names the folder of the runs: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The experiment file; a relative path starts from the folder the command runs in.
    pub experiment: PathBuf,
    /// Where the sweep's folder is made. Default `runs`.
    #[serde(default = "default_output_dir")]
    pub output_dir: PathBuf,
    /// Values that hold for all runs, by key as for `--set`.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    pub set: Mapping,
    /// The values that differ.
    pub over: Over,
    /// Runs at a time; each gets its share of the cores, and the GPUs in turn. Default 1.
    #[serde(default = "one")]
    pub jobs: usize,
    /// Table that is put together from all runs. Default `results`.
    #[serde(default)]
    pub table: RunTable,
}

/// Values by key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// Every combination of the listed values: `grid: {seed: [1, 2], train.learning_rate: [1e-4, 3e-4]}` gives four runs.
    #[schemars(with = "std::collections::BTreeMap<String, Vec<serde_json::Value>>")]
    Grid(Mapping),
    /// The first values together, the second ones, and so on; all lists are equally long.
    #[schemars(with = "std::collections::BTreeMap<String, Vec<serde_json::Value>>")]
    Zip(Mapping),
    /// The runs one by one: `list: [{seed: 1}, {seed: 2, train.max_steps: 10}]`.
    #[schemars(with = "Vec<std::collections::BTreeMap<String, serde_json::Value>>")]
    List(Vec<Mapping>),
}

fn default_output_dir() -> PathBuf {
    "runs".into()
}

fn one() -> usize {
    1
}

/// Keys and values of one run.
pub type Values = Vec<(String, Value)>;

impl SweepConfig {
    /// Everything wrong with the settings.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !crate::config::check::is_plain(&self.name) {
            let wanted = crate::config::check::PLAIN;
            problems.push(Problem::new("name", format!("got \"{}\", wanted {wanted}", self.name)));
        }
        if self.jobs == 0 {
            problems.push(Problem::new("jobs", "got 0, wanted at least 1"));
        }
        if let Over::Grid(lists) | Over::Zip(lists) = &self.over {
            let kind = if matches!(self.over, Over::Grid(_)) { "grid" } else { "zip" };
            for (key, value) in lists {
                if value.as_sequence().is_none_or(Vec::is_empty) {
                    let path = format!("over.{kind}.{}", text_of(key));
                    problems.push(Problem::new(path, "wanted a list of at least one value"));
                }
            }
            let lengths: HashSet<usize> = lists.values().filter_map(|v| v.as_sequence().map(Vec::len)).collect();
            if kind == "zip" && lengths.len() > 1 {
                problems
                    .push(Problem::new("over.zip", "lists of different lengths, wanted as many values for every key"));
            }
        }
        if problems.is_empty() && self.values().is_empty() {
            problems.push(Problem::new("over", "no values, wanted at least one run"));
        }
        for key in ["name", "output_dir"] {
            if self.values().iter().flatten().any(|(swept, _)| swept == key) || self.set.contains_key(key) {
                problems
                    .push(Problem::new("over", format!("`{key}` is given by the sweep and cannot be a value of it")));
            }
        }
        problems
    }

    /// The swept values of every run, in order; the last key of a grid moves fastest.
    pub fn values(&self) -> Vec<Values> {
        match &self.over {
            Over::List(runs) => runs.iter().map(pairs).collect(),
            Over::Zip(lists) => {
                let length = lists.values().filter_map(|values| values.as_sequence().map(Vec::len)).min().unwrap_or(0);
                let run = |index: usize| {
                    lists
                        .iter()
                        .map(|(key, values)| {
                            (text_of(key), values.as_sequence().map_or(Value::Null, |v| v[index].clone()))
                        })
                        .collect()
                };
                (0..length).map(run).collect()
            }
            Over::Grid(lists) => {
                let mut runs: Vec<Values> = vec![Vec::new()];
                for (key, values) in lists {
                    let with = |run: &Values, value: &Value| {
                        let mut run = run.clone();
                        run.push((text_of(key), value.clone()));
                        run
                    };
                    let values = values.as_sequence().cloned().unwrap_or_default();
                    runs = runs
                        .iter()
                        .flat_map(|run| values.iter().map(|value| with(run, value)).collect::<Vec<_>>())
                        .collect();
                }
                if lists.is_empty() { Vec::new() } else { runs }
            }
        }
    }

    /// The values that hold for all runs.
    pub fn fixed(&self) -> Values {
        pairs(&self.set)
    }
}

fn pairs(map: &Mapping) -> Values {
    map.iter().map(|(key, value)| (text_of(key), value.clone())).collect()
}

fn text_of(key: &Value) -> String {
    key.as_str().map_or_else(|| one_line(key), str::to_owned)
}

/// A value as `--set` reads it: a text that YAML would read as something else (nothing, a number, one with a comment) in quotes.
pub fn as_override(value: &Value) -> String {
    match value {
        Value::String(text) if serde_yaml::from_str::<Value>(text).ok().as_ref() != Some(value) => {
            serde_json::to_string(text).unwrap_or_default()
        }
        other => one_line(other),
    }
}

/// A value in words, for names and tables.
pub fn one_line(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::decode::decode;

    fn sweep(over: &str) -> SweepConfig {
        let text = format!("name: s\nexperiment: e.yaml\nover: {over}");
        decode(serde_yaml::from_str(&text).unwrap()).unwrap()
    }

    fn shown(over: &str) -> Vec<String> {
        let run =
            |values: Values| values.iter().map(|(k, v)| format!("{k}={}", one_line(v))).collect::<Vec<_>>().join(" ");
        sweep(over).values().into_iter().map(run).collect()
    }

    #[test]
    fn grids_zips_and_lists() {
        assert_eq!(
            shown("{grid: {a.b: [1, 2], c: [x, {d: 3}]}}"),
            ["a.b=1 c=x", "a.b=1 c={\"d\":3}", "a.b=2 c=x", "a.b=2 c={\"d\":3}"]
        );
        assert_eq!(shown("{zip: {a: [1, 2], b: [1e-4, null]}}"), ["a=1 b=0.0001", "a=2 b=null"]);
        assert_eq!(shown("{list: [{a: 1}, {b: true, a: 2}]}"), ["a=1", "b=true a=2"]);
    }

    #[test]
    fn texts_are_read_back_as_they_stand() {
        for text in
            ["", "x", "You rank. #1 first", "null", "123", "1e-4", "a: b", "[1", "\"quoted\"", "two\nlines", " led"]
        {
            let value = Value::String(text.to_owned());
            assert_eq!(serde_yaml::from_str::<Value>(&as_override(&value)).unwrap(), value, "{text}");
        }
        assert_eq!(as_override(&Value::String("first".into())), "first");
        assert_eq!(as_override(&serde_yaml::from_str("{a: [1, x]}").unwrap()), "{\"a\":[1,\"x\"]}");
    }

    #[test]
    fn what_cannot_be_swept_is_told() {
        let problem =
            |over: &str| sweep(over).check().first().map(|p| format!("{}: {}", p.path, p.message)).unwrap_or_default();
        assert_eq!(problem("{grid: {a: 1}}"), "over.grid.a: wanted a list of at least one value");
        assert!(problem("{zip: {a: [1], b: [1, 2]}}").starts_with("over.zip: lists of different lengths"));
        assert!(problem("{grid: {name: [a]}}").contains("`name` is given by the sweep"));
        assert_eq!(problem("{list: []}"), "over: no values, wanted at least one run");
        assert_eq!(problem("{grid: {seed: [1]}}"), "");
    }
}
