//! Rows of JSONL, JSON arrays, parquet and Arrow (file and stream) files, all as JSON values.
//!
//! The kind of file is read from its first bytes, not from its name; gzip is unpacked first.

mod arrow;
mod arrow_claims;
mod parquet_claims;

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::Value;

use crate::report::SetReport;
use crate::{DataError, files};

/// What a file turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFormat {
    /// One JSON value per line.
    JsonLines,
    /// One JSON array of rows.
    JsonArray,
    /// Parquet.
    Parquet,
    /// Arrow IPC file (`ARROW1`).
    ArrowFile,
    /// Arrow IPC stream (what `datasets` saves).
    ArrowStream,
}

/// Format by the first bytes of the (unpacked) file.
pub fn detect(path: &Path) -> Result<RowFormat, DataError> {
    use std::io::BufRead;
    let mut reader = files::open(path)?;
    let head = reader.fill_buf().map_err(DataError::io(path))?;
    let first = head.iter().copied().find(|byte| !byte.is_ascii_whitespace() && ![0xef, 0xbb, 0xbf].contains(byte));
    Ok(match first {
        _ if head.starts_with(b"PAR1") => RowFormat::Parquet,
        _ if head.starts_with(b"ARROW1") => RowFormat::ArrowFile,
        _ if head.starts_with(&[0xff; 4]) => RowFormat::ArrowStream,
        Some(b'[') => RowFormat::JsonArray,
        _ => RowFormat::JsonLines,
    })
}

/// Calls `each` with every row and its place: the line in JSONL, the 1-based row number elsewhere. A line that is not
/// JSON is counted in the report as a malformed sample.
pub fn for_each_row(
    path: &Path,
    report: &mut SetReport,
    mut each: impl FnMut(u64, Value, &mut SetReport) -> Result<ControlFlow<()>, DataError>,
) -> Result<(), DataError> {
    match detect(path)? {
        RowFormat::JsonLines => files::for_each_line(path, |line, text| {
            let parsed = text.and_then(|text| serde_json::from_str(text).map_err(|error| json_message(&error)));
            match parsed {
                Ok(value) => each(line, value, report),
                Err(message) => {
                    report.malformed_sample(path, line, message)?;
                    Ok(ControlFlow::Continue(()))
                }
            }
        }),
        RowFormat::JsonArray => {
            let rows: Vec<Value> = serde_json::from_slice(&files::read_bytes(path)?)
                .map_err(|error| DataError::malformed(path, error.line() as u64, json_message(&error)))?;
            for (row, value) in rows.into_iter().enumerate() {
                if each(row as u64 + 1, value, report)?.is_break() {
                    break;
                }
            }
            Ok(())
        }
        RowFormat::Parquet => arrow::parquet_rows(path, &mut |row, value| each(row, value, report)),
        RowFormat::ArrowFile => arrow::ipc_file_rows(path, &mut |row, value| each(row, value, report)),
        RowFormat::ArrowStream => arrow::ipc_stream_rows(path, &mut |row, value| each(row, value, report)),
    }
}

/// serde_json's message without its "at line 1", which is the line within the row.
fn json_message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line ") {
        Some((message, _)) => format!("not JSON: {message} (column {})", error.column()),
        None => format!("not JSON: {text}"),
    }
}

/// Text of the first of `keys` that is there (numbers are written out); None when none is.
#[must_use]
pub fn text_of(row: &Value, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| match row.get(key) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    })
}
