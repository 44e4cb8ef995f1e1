//! Rows of a data set: JSONL, a JSON array, parquet, Arrow file and stream, told apart by their first bytes.
#![no_main]

use std::ops::ControlFlow;

use data::SetReport;
use data::rows::{for_each_row, text_of};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: monopass_fuzz::let_caught_panics_pass(), |bytes: &[u8]| {
    let path = monopass_fuzz::file("rows", bytes);
    let _ = for_each_row(&path, &mut SetReport::default(), |_, row, _| {
        let _ = text_of(&row, &["text", "query"]);
        Ok(ControlFlow::Continue(()))
    });
});
