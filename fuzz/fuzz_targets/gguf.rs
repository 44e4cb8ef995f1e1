//! `monopass import` of a GGUF file: header, metadata, tokenizer, weights.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = monopass_fuzz::file("model.gguf", bytes);
    let _ = model::gguf::import(&path, &monopass_fuzz::folder().join("imported"));
});
