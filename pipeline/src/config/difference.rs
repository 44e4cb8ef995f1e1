//! Where settings differ: an experiment as its file says and as it was run, or several runs.

use evaluator::table::{Cell, Column, Table};
use serde_yaml::Value;

/// A row for each key whose values are not the same everywhere, a column for each of `settings` (name, resolved value).
/// `None` when nothing differs.
pub fn differences(title: &str, settings: &[(String, Value)]) -> Option<Table> {
    let flat: Vec<Vec<(String, String)>> = with_missing_sections_short(settings).iter().map(flattened).collect();
    let mut keys: Vec<&str> = Vec::new();
    for (key, _) in flat.iter().flatten() {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    let mut columns = vec![Column::text("key", "Key")];
    columns.extend(settings.iter().enumerate().map(|(place, (name, _))| Column::text(&format!("value_{place}"), name)));
    let mut table = Table::new("settings", title, columns);
    for key in keys {
        let value =
            |own: &Vec<(String, String)>| own.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        let values: Vec<Option<String>> = flat.iter().map(value).collect();
        if values.windows(2).any(|pair| pair[0] != pair[1]) {
            let cells = values.into_iter().map(|value| value.map_or(Cell::Empty, Cell::Text));
            table.push([Cell::Text(key.to_owned())].into_iter().chain(cells).collect());
        }
    }
    (!table.rows.is_empty()).then_some(table)
}

/// The settings of each side; a section that another side does not have is one line, not one for each of its settings.
fn with_missing_sections_short(settings: &[(String, Value)]) -> Vec<Value> {
    let section = |side: &Value, key: &Value| side.get(key).is_some_and(Value::is_mapping);
    let short = |(_, side): &(String, Value)| {
        let mut side = side.clone();
        for (key, value) in side.as_mapping_mut().into_iter().flatten() {
            if value.is_mapping() && !settings.iter().all(|(_, other)| section(other, key)) {
                let count = flattened(value).len();
                *value = Value::String(format!("({count} setting{})", if count == 1 { "" } else { "s" }));
            }
        }
        side
    };
    settings.iter().map(short).collect()
}

/// Leaves with their keys, as `--set` names them: items of a list that have a `name` by it, other lists as one value.
fn flattened(value: &Value) -> Vec<(String, String)> {
    let mut leaves = Vec::new();
    flatten("", value, &mut leaves);
    leaves
}

fn flatten(prefix: &str, value: &Value, leaves: &mut Vec<(String, String)>) {
    let under = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    match value {
        Value::Mapping(map) if !map.is_empty() => {
            for (key, value) in map {
                flatten(&under(&inline(key)), value, leaves);
            }
        }
        Value::Sequence(items) if !items.is_empty() && items.iter().all(|item| name_of(item).is_some()) => {
            for item in items {
                flatten(&under(name_of(item).unwrap_or_default()), item, leaves);
            }
        }
        _ if prefix.is_empty() => {} // no settings at all
        _ => leaves.push((prefix.to_owned(), inline(value))),
    }
}

fn name_of(item: &Value) -> Option<&str> {
    item.as_mapping()?.get("name")?.as_str()
}

/// In one line.
fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use evaluator::table::TableFormat;

    use super::*;

    fn named(name: &str, yaml: &str) -> (String, Value) {
        (name.to_owned(), serde_yaml::from_str(yaml).unwrap())
    }

    #[test]
    fn only_what_differs_is_told_under_the_names_of_set() {
        let file = "{seed: 1, train: {stages: [{name: a, lr: 1.0}, {name: b, lr: 2.0}]}, answer: {sets: [x]}}";
        let run =
            "{seed: 1, train: {stages: [{name: a, lr: 1.0}, {name: b, lr: 3.0}]}, answer: {sets: [x, y]}, new: null}";
        let table = differences("Changes", &[named("file", file), named("run", run)]).unwrap();
        let csv = table.render(TableFormat::Csv);
        let rows: Vec<&str> = csv.lines().skip(1).collect();
        assert_eq!(
            rows,
            ["train.stages.b.lr,2.0,3.0", "answer.sets,\"[\"\"x\"\"]\",\"[\"\"x\"\",\"\"y\"\"]\"", "new,,null"]
        );
        assert_eq!(differences("Changes", &[named("file", file), named("again", file)]), None);
        let without = "{seed: 2, train: null}";
        let short = differences("Changes", &[named("file", file), named("without", without)]).unwrap();
        let rows = short.render(TableFormat::Csv);
        assert_eq!(
            rows.lines().skip(1).collect::<Vec<_>>(),
            ["seed,1,2", "train,(4 settings),null", "answer,(1 setting),"]
        );
        let nothing = differences("Changes", &[named("file", "{seed: 1}"), named("none", "{}"), named("empty", "")]);
        assert_eq!(nothing.unwrap().render(TableFormat::Csv).lines().skip(1).collect::<Vec<_>>(), ["seed,1,,"]);
    }
}
