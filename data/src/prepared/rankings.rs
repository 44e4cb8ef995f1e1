//! Rankings (decoders' and teachers' alike) as parquet or JSONL, by the file's ending.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use polars::prelude::*;

use crate::report::SetReport;
use crate::rows::for_each_row;
use crate::{DataError, RankingRecord, files};

/// Writes rankings, whole or not at all: JSONL when the name ends in `.jsonl`, else parquet with the columns of
/// [`RankingRecord`] (`order`: list of uint16, `scores`: list of float32 or null).
pub fn write_rankings(path: &Path, records: &[RankingRecord]) -> Result<(), DataError> {
    if is_jsonl(path) {
        return files::write_with(path, |file| {
            let mut out = std::io::BufWriter::new(file);
            for record in records {
                let line = serde_json::to_string(record).map_err(|error| DataError::write(path)(error.into()))?;
                writeln!(out, "{line}").map_err(DataError::write(path))?;
            }
            out.flush().map_err(DataError::write(path))
        });
    }
    let mut frame = frame_of(records).map_err(DataError::table(path))?;
    files::write_with(path, |file| {
        ParquetWriter::new(file).set_parallel(false).finish(&mut frame).map_err(DataError::table(path))?;
        Ok(())
    })
}

fn is_jsonl(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jsonl")
}

fn frame_of(records: &[RankingRecord]) -> PolarsResult<DataFrame> {
    let n = records.len();
    let places = records.iter().map(|record| record.order.len()).sum();
    let mut orders = ListPrimitiveChunkedBuilder::<UInt16Type>::new("order".into(), n, places, DataType::UInt16);
    let mut scores = ListPrimitiveChunkedBuilder::<Float32Type>::new("scores".into(), n, places, DataType::Float32);
    for record in records {
        orders.append_slice(&record.order);
        scores.append_opt_slice(record.scores.as_deref());
    }
    let strings = |name: &str, text: fn(&RankingRecord) -> &str| {
        StringChunked::from_iter_values(name.into(), records.iter().map(text)).into_series()
    };
    let numbers = |name: &str, number: fn(&RankingRecord) -> u32| {
        UInt32Chunked::from_vec(name.into(), records.iter().map(number).collect()).into_series()
    };
    let seconds = Float64Chunked::from_vec("seconds".into(), records.iter().map(|record| record.seconds).collect());
    let columns = vec![
        strings("query_id", |record| &record.query_id),
        strings("decoder", |record| &record.decoder),
        orders.finish().into_series(),
        scores.finish().into_series(),
        numbers("forward_passes", |record| record.forward_passes),
        numbers("new_tokens", |record| record.new_tokens),
        seconds.into_series(),
    ];
    DataFrame::new(n, columns.into_iter().map(Column::from).collect())
}

/// Reads rankings from parquet, JSONL, a JSON array or Arrow, whatever the name.
///
/// # Errors
/// A row without the fields of a ranking, with file and row.
pub fn read_rankings(path: &Path) -> Result<Vec<RankingRecord>, DataError> {
    let mut records = Vec::new();
    let mut report = SetReport::new(format!("rankings {}", path.display()), true);
    for_each_row(path, &mut report, |line, row, _| {
        let record: RankingRecord =
            serde_json::from_value(row).map_err(|error| DataError::malformed(path, line, error.to_string()))?;
        records.push(record);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_read_back_equal() {
        let record = |id: &str, scores| RankingRecord {
            query_id: id.into(),
            decoder: "single_token".into(),
            order: vec![2, 0, 1],
            scores,
            forward_passes: 1,
            new_tokens: 0,
            seconds: 0.125,
        };
        let records = vec![record("a", Some(vec![1.5, 0.25, -3.0])), record("b", None)];
        let folder = tempfile::tempdir().unwrap();
        for name in ["rankings.parquet", "rankings.jsonl"] {
            let path = folder.path().join(name);
            write_rankings(&path, &records).unwrap();
            assert_eq!(read_rankings(&path).unwrap(), records, "{name}");
        }
    }
}
