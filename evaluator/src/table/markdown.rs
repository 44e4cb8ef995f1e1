//! GitHub's tables; the best value of a column is bold.

use super::{ColumnKind, Table};

pub(super) fn render(table: &Table) -> String {
    let mut out = format!("### {}\n\n", table.title);
    if !table.caption.is_empty() {
        out += &format!("{}\n\n", table.caption);
    }
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    out += &line(table.columns.iter().map(|column| escaped(&column.heading())).collect());
    let rule = |kind| if kind == ColumnKind::Number { "---:" } else { "---" };
    out += &line(table.columns.iter().map(|column| rule(column.kind).to_owned()).collect());
    let best = table.best_rows();
    for row in 0..table.rows.len() {
        let cell = |column: usize| {
            let text = table.cell_text(row, column);
            let main = escaped(&text.main);
            let main = if best[column].contains(&row) { format!("**{main}**") } else { main };
            if text.detail.is_empty() { main } else { format!("{main} {}", escaped(&text.detail)) }
        };
        out += &line((0..table.columns.len()).map(cell).collect());
    }
    for note in &table.notes {
        out += &format!("\n{}\n", escaped(note));
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('*', "\\*").replace('\n', " ")
}
