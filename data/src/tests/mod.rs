//! Tests across modules: golden prompts, published formats, real data where it is at hand.

mod bad_input;
mod batches;
mod branched;
mod compact;
mod formats;
mod prepared;
mod prompts;
mod quora;
mod real_data;
mod recommendation;
mod recommendation_real;
mod splits;
mod squad;
mod truncation;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Tokenizer;

use crate::{Passage, RankingSample};

/// Golden files of this crate.
pub(super) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/data").join(name)
}

/// One of the two small tokenizers made by make.py: `bytes` (ChatML) or `pieces` (Zephyr).
pub(super) fn tokenizer(name: &str) -> Arc<Tokenizer> {
    Arc::new(Tokenizer::load(&golden(name)).unwrap())
}

/// The folder of SmolLM2-135M-Instruct: MONOPASS_SMOLLM2, else where the quickstart puts it; None, with a line, where there is none.
pub(super) fn smollm2() -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/SmolLM2-135M-Instruct");
    let folder = std::env::var_os("MONOPASS_SMOLLM2").map_or_else(default, PathBuf::from);
    if folder.join("tokenizer.json").is_file() {
        return Some(folder);
    }
    println!("skipped: no model in {} (set MONOPASS_SMOLLM2)", folder.display());
    None
}

/// A tokenizer of the golden files whose `tokenizer.json` was changed.
pub(super) fn changed_tokenizer(name: &str, change: impl FnOnce(&mut serde_json::Value)) -> Arc<Tokenizer> {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.path().join("tokenizer.json");
    let mut json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(&path, json.to_string()).unwrap();
    Arc::new(Tokenizer::load(folder.path()).unwrap())
}

/// Real data, or None with a line that says what was left out.
pub(super) fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("MONOPASS_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    let path = root.join("data").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: no {} (set MONOPASS_SHARED)", path.display());
    None
}

pub(super) fn sample(id: &str, query: &str, passages: &[&str], target: Option<Vec<u16>>) -> RankingSample {
    let passages = passages.iter().enumerate().map(|(place, text)| Passage {
        doc_id: format!("{id}-{place}"),
        title: String::new(),
        text: (*text).to_owned(),
        first_stage_score: Some(1.0 / (place as f32 + 1.0)),
        label: None,
    });
    RankingSample {
        query_id: id.to_owned(),
        query: query.to_owned(),
        passages: passages.collect(),
        target,
        origin: "test".to_owned(),
    }
}

/// Golden query and passages of make.py.
pub(super) fn golden_sample() -> RankingSample {
    sample(
        "golden",
        "how long is the life cycle of a flea?",
        &[
            "A flea can live up to a year (1), but its general lifespan depends on its living conditions.",
            "Übergröße: 20 cats \u{2014} and ½ a dog.",
            "An Insect Growth Regulator (IGR) breaks the flea lifecycle.",
        ],
        Some(vec![2, 0, 1]),
    )
}
