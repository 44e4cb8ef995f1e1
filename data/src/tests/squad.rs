//! SQuAD cut into passages: the passage that holds the answer is the relevant one.

use std::fs;

use crate::sources::{RankingSetConfig, load};

const FILE: &str = r#"{"version": "1.1", "data": [{"title": "Rivers", "paragraphs": [{
    "context": "The Rhône é rises in the Alps. It ends in the sea near Arles. Boats carry salt.",
    "qas": [{"id": "a", "question": "Where does it end?", "answers": [{"text": "Arles", "answer_start": 55}]},
            {"id": "b", "question": "What do boats carry?", "answers": [{"text": "salt", "answer_start": 74}]},
            {"id": "c", "question": "Where does the Rhône rise in the Alps?", "answers": []}]}]}]}"#;

#[test]
fn the_passage_with_the_answer_is_the_relevant_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("squad.json");
    fs::write(&path, FILE).unwrap();
    let config = serde_json::json!({"source": {"squad": {"path": path, "num_candidates": 3, "passage_words": 8}}});
    let config: RankingSetConfig = serde_json::from_value(config).unwrap();
    let (samples, report) = load(&config).unwrap();
    let relevant: Vec<_> = samples
        .iter()
        .map(|sample| sample.passages.iter().find(|p| p.label == Some(1)).map(|p| (p.doc_id.as_str(), p.text.as_str())))
        .collect();
    assert_eq!(relevant, [Some(("0-0-1", "It ends in the sea near Arles.")), Some(("0-0-2", "Boats carry salt."))]);
    assert_eq!(report.dropped["no passage holds the answer"], 1, "{report}");
}
