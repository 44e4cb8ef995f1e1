//! A table as the template wants it.

use serde::Serialize;

use crate::table::{Cell, ColumnKind, Table};

/// A table in words.
#[derive(Debug, Serialize)]
pub(super) struct TableView {
    name: String,
    title: String,
    caption: String,
    headings: Vec<Heading>,
    rows: Vec<RowView>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Heading {
    text: String,
    number: bool,
}

#[derive(Debug, Serialize)]
struct RowView {
    /// True where the first column changes: a line is drawn above.
    starts_group: bool,
    cells: Vec<CellView>,
}

#[derive(Debug, Serialize)]
struct CellView {
    main: String,
    detail: String,
    /// What the column is sorted by.
    value: Option<f64>,
    number: bool,
    best: bool,
    muted: bool,
}

/// Words of a table.
pub(super) fn view(table: &Table) -> TableView {
    let best = table.best_rows();
    let is_number = |column: usize| table.columns[column].kind == ColumnKind::Number;
    let cell = |row: usize, column: usize| {
        let text = table.cell_text(row, column);
        let content = &table.rows[row][column];
        CellView {
            main: if matches!(content, Cell::Empty) { "–".into() } else { text.main },
            detail: text.detail,
            value: if let Cell::Value(value) = content { Some(value.value) } else { None },
            number: is_number(column),
            best: best[column].contains(&row),
            muted: matches!(content, Cell::Empty | Cell::NotRun { .. }),
        }
    };
    let changes = |row: usize| row > 0 && table.rows[row].first() != table.rows[row - 1].first();
    // Where every row has a name of its own there are no groups.
    let has_groups = (1..table.rows.len()).any(|row| !changes(row));
    let row = |row: usize| RowView {
        starts_group: has_groups && changes(row),
        cells: (0..table.columns.len()).map(|column| cell(row, column)).collect(),
    };
    TableView {
        name: table.name.clone(),
        title: table.title.clone(),
        caption: table.caption.clone(),
        headings: table
            .columns
            .iter()
            .enumerate()
            .map(|(column, settings)| Heading { text: settings.heading(), number: is_number(column) })
            .collect(),
        rows: (0..table.rows.len()).map(row).collect(),
        notes: table.notes.clone(),
    }
}
