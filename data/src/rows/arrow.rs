//! Parquet and Arrow rows with nested columns, through polars' own Arrow arrays.
//!
//! Data frames would need polars' struct type, which nothing else here uses; the arrays below it are enough to turn
//! `list<struct<from, value>>` into JSON.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::Path;

use polars_arrow::array::{
    Array, BooleanArray, ListArray, NullArray, PrimitiveArray, StructArray, Utf8Array, Utf8ViewArray,
};
use polars_arrow::datatypes::Field;
use polars_arrow::io::ipc::read as ipc;
use polars_buffer::Buffer;
use polars_parquet::read::{self as parquet, BasicDecompressor, PageReader, RowGroupMetadata};
use serde_json::{Map, Value};

use super::{arrow_claims, parquet_claims};
use crate::{DataError, files};

type Each<'a> = &'a mut dyn FnMut(u64, Value) -> Result<ControlFlow<()>, DataError>;

/// Rows of a parquet file, one row group in memory at a time.
pub(super) fn parquet_rows(path: &Path, each: Each<'_>) -> Result<(), DataError> {
    let mut file = File::open(path).map_err(DataError::io(path))?;
    let metadata = guarded(path, || parquet::read_metadata(&mut file).map_err(|e| e.to_string()))?;
    let schema = guarded(path, || parquet::infer_schema(&metadata).map_err(|e| e.to_string()))?;
    let mut row = 0;
    for group in &metadata.row_groups {
        let mut columns = Vec::new();
        for field in schema.iter_values() {
            columns.push((field.name.to_string(), group_column(&mut file, path, group, field)?));
        }
        if emit(path, &columns, &mut row, group.num_rows(), each)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// One column (with everything nested in it) of one row group.
fn group_column(
    file: &mut File,
    path: &Path,
    group: &RowGroupMetadata,
    field: &Field,
) -> Result<Vec<Box<dyn Array>>, DataError> {
    let mut pages = Vec::new();
    let mut types = Vec::new();
    for chunk in group.columns_under_root_iter(&field.name).into_iter().flatten() {
        let range = chunk.byte_range();
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(range.start)).map_err(DataError::io(path))?;
        let length = range.end.saturating_sub(range.start);
        file.take(length).read_to_end(&mut bytes).map_err(DataError::io(path))?;
        if bytes.len() as u64 != length {
            let message = format!("column `{}` ends after {} of {length} bytes", field.name, bytes.len());
            return Err(DataError::Table { path: path.to_owned(), message });
        }
        let bytes = Buffer::from(bytes);
        guarded(path, || parquet_claims::check_column(&bytes, chunk))?;
        let reader = PageReader::new(Cursor::new(bytes), chunk, vec![], usize::MAX);
        pages.push(BasicDecompressor::new(reader, vec![]));
        types.push(&chunk.descriptor().descriptor.primitive_type);
    }
    let (arrays, _) =
        guarded(path, || parquet::column_iter_to_arrays(pages, types, field.clone(), None).map_err(|e| e.to_string()))?;
    Ok(arrays)
}

/// Rows of an Arrow IPC file.
pub(super) fn ipc_file_rows(path: &Path, each: Each<'_>) -> Result<(), DataError> {
    let mut bytes = Cursor::new(files::read_bytes(path)?);
    let metadata = guarded(path, || ipc::read_file_metadata(&mut bytes).map_err(|e| e.to_string()))?;
    let dictionaries = metadata.dictionaries.as_deref().unwrap_or_default();
    for blocks in [&metadata.blocks, dictionaries] {
        guarded(path, || arrow_claims::check_blocks(bytes.get_ref(), blocks))?;
    }
    let names: Vec<String> = metadata.schema.iter_names().map(ToString::to_string).collect();
    let mut batches = ipc::FileReader::new(bytes, metadata, None, None);
    let mut row = 0;
    while let Some(batch) = guarded(path, || batches.next().transpose().map_err(|e| e.to_string()))? {
        let (rows, columns) = named(&names, batch.len(), batch.into_arrays());
        if emit(path, &columns, &mut row, rows, each)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Rows of an Arrow IPC stream.
pub(super) fn ipc_stream_rows(path: &Path, each: Each<'_>) -> Result<(), DataError> {
    let mut bytes = Cursor::new(files::read_bytes(path)?);
    guarded(path, || arrow_claims::check_stream(bytes.get_ref()))?;
    let metadata = guarded(path, || ipc::read_stream_metadata(&mut bytes).map_err(|e| e.to_string()))?;
    let names: Vec<String> = metadata.schema.iter_names().map(ToString::to_string).collect();
    let mut states = ipc::StreamReader::new(bytes, metadata, None);
    let mut row = 0;
    while let Some(state) = guarded(path, || states.next().transpose().map_err(|e| e.to_string()))? {
        let ipc::StreamState::Some(batch) = state else { break };
        let (rows, columns) = named(&names, batch.len(), batch.into_arrays());
        if emit(path, &columns, &mut row, rows, each)?.is_break() {
            break;
        }
    }
    Ok(())
}

type Columns = Vec<(String, Vec<Box<dyn Array>>)>;

fn named(names: &[String], rows: usize, arrays: Vec<Box<dyn Array>>) -> (usize, Columns) {
    (rows, names.iter().cloned().zip(arrays.into_iter().map(|array| vec![array])).collect())
}

/// Hands out `rows` rows of `columns` as JSON objects; `row` counts over the file.
fn emit(
    path: &Path,
    columns: &Columns,
    row: &mut u64,
    rows: usize,
    each: Each<'_>,
) -> Result<ControlFlow<()>, DataError> {
    if columns.is_empty() && rows > 0 {
        return Err(DataError::Table { path: path.to_owned(), message: format!("{rows} rows without a column") });
    }
    for local in 0..rows {
        *row += 1;
        let mut object = Map::new();
        for (name, chunks) in columns {
            let value = chunked_value(chunks, local)
                .map_err(|message| DataError::malformed(path, *row, format!("column `{name}`: {message}")))?;
            object.insert(name.clone(), value);
        }
        if each(*row, Value::Object(object))?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn chunked_value(chunks: &[Box<dyn Array>], mut index: usize) -> Result<Value, String> {
    for chunk in chunks {
        if index < chunk.len() {
            return value(chunk.as_ref(), index);
        }
        index -= chunk.len();
    }
    Err("shorter than the other columns".to_owned())
}

/// One entry as JSON.
fn value(array: &dyn Array, index: usize) -> Result<Value, String> {
    if array.is_null(index) {
        return Ok(Value::Null);
    }
    let any = array.as_any();
    macro_rules! number {
        ($($type:ty),*) => {$(
            if let Some(array) = any.downcast_ref::<PrimitiveArray<$type>>() {
                return Ok(Value::from(array.value(index)));
            }
        )*};
    }
    number!(i8, i16, i32, i64, u8, u16, u32, u64, f32, f64);
    if let Some(array) = any.downcast_ref::<Utf8ViewArray>() {
        return Ok(Value::from(array.value(index)));
    }
    if let Some(array) = any.downcast_ref::<Utf8Array<i32>>() {
        return Ok(Value::from(array.value(index)));
    }
    if let Some(array) = any.downcast_ref::<Utf8Array<i64>>() {
        return Ok(Value::from(array.value(index)));
    }
    if let Some(array) = any.downcast_ref::<BooleanArray>() {
        return Ok(Value::from(array.value(index)));
    }
    if let Some(array) = any.downcast_ref::<ListArray<i32>>() {
        return list(array.value(index).as_ref());
    }
    if let Some(array) = any.downcast_ref::<ListArray<i64>>() {
        return list(array.value(index).as_ref());
    }
    if let Some(array) = any.downcast_ref::<StructArray>() {
        let fields = array.fields().iter().zip(array.values());
        let object: Result<Map<String, Value>, String> =
            fields.map(|(field, values)| Ok((field.name.to_string(), value(values.as_ref(), index)?))).collect();
        return object.map(Value::Object);
    }
    if any.is::<NullArray>() {
        return Ok(Value::Null);
    }
    Err(format!("type {:?} is not supported; use strings, numbers, lists and structs", array.dtype()))
}

fn list(array: &dyn Array) -> Result<Value, String> {
    (0..array.len()).map(|index| value(array, index)).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, String>) -> Result<T, DataError> {
    model::guard::guarded(read).map_err(|message| DataError::Table { path: path.to_owned(), message })
}
