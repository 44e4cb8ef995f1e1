//! Tab-separated files with a header. In RecBole's atomic files a column's name is followed by its type (`user_id:token`).

use std::ops::ControlFlow;
use std::path::Path;

use crate::report::SetReport;
use crate::{DataError, files};

/// What a file's rows are: how malformed ones are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// Each would be a sample.
    Samples,
    /// Rows of a file that samples are made with.
    Side,
}

impl Rows {
    fn malformed(self, report: &mut SetReport, path: &Path, line: u64, message: String) -> Result<(), DataError> {
        match self {
            Self::Samples => report.malformed_sample(path, line, message),
            Self::Side => report.malformed_row(path, line, message),
        }
    }
}

/// A column that is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    names: &'static [&'static str],
    required: bool,
}

impl Column {
    /// A column that must be there, under the first of these names.
    pub(super) const fn required(names: &'static [&'static str]) -> Self {
        Self { names, required: true }
    }

    /// A column whose fields are empty texts when it is not there.
    pub(super) const fn optional(names: &'static [&'static str]) -> Self {
        Self { names, required: false }
    }
}

/// Calls `each` with the line and the fields of the wanted columns of every row. Rows with another number of fields than
/// the header are counted as malformed, as `rows` says.
///
/// # Errors
/// A file without a header, a header without a required column, malformed rows when strict.
pub(super) fn for_each_record<const N: usize>(
    path: &Path,
    rows: Rows,
    columns: [Column; N],
    report: &mut SetReport,
    mut each: impl FnMut(u64, [&str; N], &mut SetReport) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut header: Option<(usize, [Option<usize>; N])> = None;
    files::for_each_line(path, |line, text| {
        let text = match text {
            Ok(text) => text,
            Err(message) => {
                rows.malformed(report, path, line, message)?;
                return Ok(ControlFlow::Continue(()));
            }
        };
        let fields: Vec<&str> = text.split('\t').collect();
        let Some((width, places)) = header else {
            header = Some((fields.len(), find(path, line, &fields, &columns)?));
            return Ok(ControlFlow::Continue(()));
        };
        if fields.len() == width {
            each(line, places.map(|place| place.map_or("", |place| fields[place].trim())), report)?;
        } else {
            let message = format!("{} fields, wanted the header's {width}", fields.len());
            rows.malformed(report, path, line, message)?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    match header {
        Some(_) => Ok(()),
        None => Err(DataError::malformed(path, 1, format!("no header; wanted columns {}", names(&columns)))),
    }
}

/// Places of the columns in the header.
fn find<const N: usize>(
    path: &Path,
    line: u64,
    header: &[&str],
    columns: &[Column; N],
) -> Result<[Option<usize>; N], DataError> {
    let there: Vec<&str> = header.iter().map(|field| field.split(':').next().unwrap_or_default().trim()).collect();
    let place = |column: &Column| column.names.iter().find_map(|name| there.iter().position(|field| field == name));
    let places = columns.each_ref().map(place);
    match columns.iter().zip(&places).find(|(column, place)| column.required && place.is_none()) {
        None => Ok(places),
        Some((column, _)) => {
            let missing = column.names.join("` or `");
            let message = format!("header `{}` has no column `{missing}`", there.join(" "));
            Err(DataError::malformed(path, line, message))
        }
    }
}

fn names(columns: &[Column]) -> String {
    let required = columns.iter().filter(|column| column.required);
    required.map(|column| format!("`{}`", column.names.join("` or `"))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] =
        [Column::required(&["item_id"]), Column::required(&["movie_title", "title"]), Column::optional(&["year"])];

    fn read(content: &str) -> Result<(Vec<String>, SetReport), DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.item");
        std::fs::write(&path, content).unwrap();
        let mut report = SetReport::default();
        let mut rows = Vec::new();
        for_each_record(&path, Rows::Side, COLUMNS, &mut report, |line, [id, title, year], _| {
            rows.push(format!("{line} {id} {title} {year}"));
            Ok(())
        })?;
        Ok((rows, report))
    }

    #[test]
    fn columns_are_found_by_name_and_short_rows_counted() {
        let (rows, report) = read("title:token_seq\tother\titem_id:token\nA b\tx\t1\nC\t\t2\n\nbroken\t3\n").unwrap();
        assert_eq!(rows, ["2 1 A b ", "3 2 C "]);
        assert_eq!(report.notes["malformed rows of side files"], 1);
        assert!(report.to_string().contains("x.item:5: 2 fields, wanted the header's 3"), "{report}");
    }

    #[test]
    fn a_missing_column_or_header_is_named() {
        let message = read("item_id:token\tyear\n1\t2\n").unwrap_err().to_string();
        assert!(message.contains(":1: header `item_id year` has no column `movie_title` or `title`"), "{message}");
        let message = read("").unwrap_err().to_string();
        assert!(message.contains("no header; wanted columns `item_id`, `movie_title` or `title`"), "{message}");
    }
}
