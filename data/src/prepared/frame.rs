//! Samples to and from data frames of the flat schema.

use polars::prelude::*;

use crate::{Passage, RankingSample};

/// A frame of these samples.
pub(super) fn frame_of(samples: &[RankingSample]) -> PolarsResult<DataFrame> {
    let n = samples.len();
    let passages: usize = samples.iter().map(|sample| sample.passages.len()).sum();
    let strings = |name: &str, text: fn(&RankingSample) -> &str| {
        StringChunked::from_iter_values(name.into(), samples.iter().map(text)).into_series()
    };
    let lists = |name: &str, text: fn(&Passage) -> &str| {
        let mut builder = ListStringChunkedBuilder::new(name.into(), n, passages);
        for sample in samples {
            builder.append_values_iter(sample.passages.iter().map(text));
        }
        builder.finish().into_series()
    };
    let mut scores = ListPrimitiveChunkedBuilder::<Float32Type>::new(
        "passages.first_stage_score".into(),
        n,
        passages,
        DataType::Float32,
    );
    let mut labels =
        ListPrimitiveChunkedBuilder::<Int32Type>::new("passages.label".into(), n, passages, DataType::Int32);
    let mut targets = ListPrimitiveChunkedBuilder::<UInt16Type>::new("target".into(), n, passages, DataType::UInt16);
    for sample in samples {
        scores.append_iter(sample.passages.iter().map(|passage| passage.first_stage_score));
        labels.append_iter(sample.passages.iter().map(|passage| passage.label));
        targets.append_opt_slice(sample.target.as_deref());
    }
    let columns = vec![
        strings("query_id", |sample| &sample.query_id),
        strings("query", |sample| &sample.query),
        lists("passages.doc_id", |passage| &passage.doc_id),
        lists("passages.title", |passage| &passage.title),
        lists("passages.text", |passage| &passage.text),
        scores.finish().into_series(),
        labels.finish().into_series(),
        targets.finish().into_series(),
        strings("origin", |sample| &sample.origin),
    ];
    DataFrame::new(n, columns.into_iter().map(Column::from).collect())
}

/// The samples of a frame.
pub(super) fn samples_of(frame: &DataFrame) -> PolarsResult<Vec<RankingSample>> {
    let query_ids = frame.column("query_id")?.str()?;
    let queries = frame.column("query")?.str()?;
    let origins = frame.column("origin")?.str()?;
    let doc_ids = frame.column("passages.doc_id")?.list()?;
    let titles = frame.column("passages.title")?.list()?;
    let texts = frame.column("passages.text")?.list()?;
    let scores = frame.column("passages.first_stage_score")?.list()?;
    let labels = frame.column("passages.label")?.list()?;
    let targets = frame.column("target")?.list()?;
    let text = |column: &StringChunked, row: usize| column.get(row).unwrap_or_default().to_owned();
    (0..frame.height())
        .map(|row| {
            let doc_ids = strings_at(doc_ids, row)?;
            let mut titles = strings_at(titles, row)?.into_iter();
            let mut texts = strings_at(texts, row)?.into_iter();
            let scores = series_at(scores, row)?;
            let labels = series_at(labels, row)?;
            let (scores, labels) = (scores.f32()?, labels.i32()?);
            let passages = doc_ids.into_iter().enumerate().map(|(place, doc_id)| Passage {
                doc_id,
                title: titles.next().unwrap_or_default(),
                text: texts.next().unwrap_or_default(),
                first_stage_score: scores.get(place),
                label: labels.get(place),
            });
            let target = match targets.get_as_series(row) {
                Some(target) => Some(target.u16()?.into_no_null_iter().collect()),
                None => None,
            };
            Ok(RankingSample {
                query_id: text(query_ids, row),
                query: text(queries, row),
                passages: passages.collect(),
                target,
                origin: text(origins, row),
            })
        })
        .collect()
}

pub(super) fn series_at(column: &ListChunked, row: usize) -> PolarsResult<Series> {
    column.get_as_series(row).ok_or_else(|| polars_err!(ComputeError: "row {row} of `{}` is null", column.name()))
}

pub(super) fn strings_at(column: &ListChunked, row: usize) -> PolarsResult<Vec<String>> {
    let series = series_at(column, row)?;
    Ok(series.str()?.iter().map(|text| text.unwrap_or_default().to_owned()).collect())
}
