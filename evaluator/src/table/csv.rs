//! RFC 4180. A numeric column `x` becomes `x`, and where any cell has them `x_low`, `x_high`, `x_paper`, `x_not_run`.

use super::{Cell, ColumnKind, Table};

/// What a numeric column can be split into.
const PARTS: [&str; 5] = ["", "_low", "_high", "_paper", "_not_run"];

pub(super) fn render(table: &Table) -> String {
    let parts: Vec<Vec<usize>> = (0..table.columns.len()).map(|column| used_parts(table, column)).collect();
    let mut lines = Vec::with_capacity(table.rows.len() + 1);
    let heading = |column: usize| {
        let key = table.columns[column].key.clone();
        parts[column].iter().map(move |part| format!("{key}{}", PARTS[*part]))
    };
    lines.push((0..table.columns.len()).flat_map(heading).map(|text| quoted(&text)).collect::<Vec<_>>().join(","));
    for row in &table.rows {
        let cells = row.iter().zip(&parts);
        let fields = cells.flat_map(|(cell, parts)| parts.iter().map(move |part| quoted(&field(cell, *part))));
        lines.push(fields.collect::<Vec<_>>().join(","));
    }
    lines.join("\n") + "\n"
}

fn used_parts(table: &Table, column: usize) -> Vec<usize> {
    if table.columns[column].kind == ColumnKind::Text {
        return vec![0];
    }
    let used = |part: usize| table.rows.iter().any(|row| !field(&row[column], part).is_empty());
    (0..PARTS.len()).filter(|part| *part == 0 || used(*part)).collect()
}

/// Numbers are written in full: rounding is for readers.
fn field(cell: &Cell, part: usize) -> String {
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    match (cell, part) {
        (Cell::Text(text), 0) => text.clone(),
        (Cell::Value(value), 0) => value.value.to_string(),
        (Cell::Value(value), 1) => number(value.interval.map(|interval| interval.low)),
        (Cell::Value(value), 2) => number(value.interval.map(|interval| interval.high)),
        (Cell::Value(value), 3) => number(value.paper),
        (Cell::NotRun { paper, .. }, 3) => number(*paper),
        (Cell::NotRun { reason, .. }, 4) => reason.clone(),
        _ => String::new(),
    }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
