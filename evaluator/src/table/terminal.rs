//! For eyes: rounded, aligned, details behind the number.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, ContentArrangement};

use super::{ColumnKind, Table};

pub(super) fn render(table: &Table, width: Option<u16>) -> String {
    let mut grid = comfy_table::Table::new();
    grid.load_preset(UTF8_HORIZONTAL_ONLY);
    if let Some(width) = width {
        grid.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    grid.set_header(table.columns.iter().map(super::Column::heading));
    for row in 0..table.rows.len() {
        let cell = |column: usize| {
            let text = table.cell_text(row, column);
            if text.detail.is_empty() { text.main } else { format!("{} {}", text.main, text.detail) }
        };
        grid.add_row((0..table.columns.len()).map(cell));
    }
    for (column, settings) in table.columns.iter().zip(grid.column_iter_mut()) {
        if column.kind == ColumnKind::Number {
            settings.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut out = format!("{}\n{grid}\n", table.title);
    for line in std::iter::once(&table.caption).chain(&table.notes).filter(|line| !line.is_empty()) {
        out += line;
        out.push('\n');
    }
    // trailing blanks of the last column
    out.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n"
}
