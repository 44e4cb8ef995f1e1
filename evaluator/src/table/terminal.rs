//! For eyes: rounded, aligned, details behind the number.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Width};

use super::{ColumnKind, Table};

/// A blank on either side.
const PADDING: u16 = 2;

pub(super) fn render(table: &Table, width: Option<u16>) -> String {
    let mut grid = comfy_table::Table::new();
    grid.load_preset(UTF8_HORIZONTAL_ONLY);
    if let Some(width) = width {
        grid.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    grid.set_header(table.columns.iter().map(super::Column::heading));
    let mut longest: Vec<u16> = table.columns.iter().map(|column| longest_word(&column.heading())).collect();
    for row in 0..table.rows.len() {
        let cell = |column: usize| {
            let text = table.cell_text(row, column);
            if text.detail.is_empty() { text.main } else { format!("{} {}", text.main, text.detail) }
        };
        let cells: Vec<String> = (0..table.columns.len()).map(cell).collect();
        longest.iter_mut().zip(&cells).for_each(|(most, cell)| *most = longest_word(cell).max(*most));
        grid.add_row(cells);
    }
    for ((column, settings), longest) in table.columns.iter().zip(grid.column_iter_mut()).zip(longest) {
        if column.kind == ColumnKind::Number {
            settings.set_cell_alignment(CellAlignment::Right);
        }
        // Rather wider than the terminal than a number in two lines.
        settings.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(longest + PADDING)));
    }
    let mut out = format!("{}\n{grid}\n", table.title);
    for line in std::iter::once(&table.caption).chain(&table.notes).filter(|line| !line.is_empty()) {
        out += line;
        out.push('\n');
    }
    // trailing blanks of the last column
    out.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n"
}

/// Characters of the longest word.
fn longest_word(text: &str) -> u16 {
    text.split_whitespace().map(|word| word.chars().count()).max().unwrap_or(0).try_into().unwrap_or(u16::MAX - PADDING)
}
