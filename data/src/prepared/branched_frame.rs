//! Branched texts to and from data frames of their flat schema.

use polars::prelude::*;

use super::frame::{series_at, strings_at};
use crate::branched::{Branch, BranchedText};

/// A frame of these texts.
pub(super) fn frame_of(texts: &[BranchedText]) -> PolarsResult<DataFrame> {
    let n = texts.len();
    let branches: usize = texts.iter().map(|text| text.branches.len()).sum();
    let strings = |name: &str, of: fn(&BranchedText) -> &str| {
        StringChunked::from_iter_values(name.into(), texts.iter().map(of)).into_series()
    };
    let lists = |name: &str, of: fn(&Branch) -> &str| {
        let mut builder = ListStringChunkedBuilder::new(name.into(), n, branches);
        texts.iter().for_each(|text| builder.append_values_iter(text.branches.iter().map(of)));
        builder.finish().into_series()
    };
    let mut answers = ListStringChunkedBuilder::new("branches.answers".into(), n, branches);
    let name = "branches.num_answers".into();
    let mut counts = ListPrimitiveChunkedBuilder::<UInt32Type>::new(name, n, branches, DataType::UInt32);
    for text in texts {
        answers.append_values_iter(text.branches.iter().flat_map(|branch| branch.answers.iter().map(String::as_str)));
        counts.append_iter(text.branches.iter().map(|branch| Some(branch.answers.len() as u32)));
    }
    let columns = vec![
        strings("id", |text| &text.id),
        strings("background", |text| &text.background),
        lists("branches.id", |branch| &branch.id),
        lists("branches.prompt", |branch| &branch.prompt),
        answers.finish().into_series(),
        counts.finish().into_series(),
        strings("origin", |text| &text.origin),
    ];
    DataFrame::new(n, columns.into_iter().map(Column::from).collect())
}

/// The texts of a frame.
pub(super) fn texts_of(frame: &DataFrame) -> PolarsResult<Vec<BranchedText>> {
    let text = |name: &str, row: usize| -> PolarsResult<String> {
        Ok(frame.column(name)?.str()?.get(row).unwrap_or_default().to_owned())
    };
    let list = |name: &str, row: usize| strings_at(frame.column(name)?.list()?, row);
    (0..frame.height())
        .map(|row| {
            let counts = series_at(frame.column("branches.num_answers")?.list()?, row)?;
            let mut prompts = list("branches.prompt", row)?.into_iter();
            let mut answers = list("branches.answers", row)?.into_iter();
            let branches = list("branches.id", row)?.into_iter().zip(counts.u32()?.into_no_null_iter());
            let branch = |(id, count): (String, u32)| Branch {
                id,
                prompt: prompts.next().unwrap_or_default(),
                answers: answers.by_ref().take(count as usize).collect(),
            };
            Ok(BranchedText {
                id: text("id", row)?,
                background: text("background", row)?,
                branches: branches.map(branch).collect(),
                origin: text("origin", row)?,
            })
        })
        .collect()
}
