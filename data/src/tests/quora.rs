//! Lists of duplicate questions from a small file written here.

use proptest::prelude::*;
use serde_json::json;

use crate::sources::{RankingSetConfig, load};
use crate::{RankingSample, SetReport};

fn lists(rows: &str, settings: serde_json::Value) -> (Vec<RankingSample>, SetReport) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.tsv");
    std::fs::write(&path, rows).unwrap();
    let mut source = json!({ "path": path });
    source.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    load(&serde_json::from_value::<RankingSetConfig>(json!({"source": {"quora": source}})).unwrap()).unwrap()
}

#[test]
fn known_duplicates_are_no_negatives() {
    let rows = "question1\tquestion2\n\
        How do I learn Rust?\tWhat is the best way to learn Rust?\n\
        How do I learn Rust?\tHow should I learn to write Rust?\n\
        How can I start to learn Rust?\tWhat is the best way to learn Rust?\n\
        how do i learn rust\tHow do I learn Rust?\n\
        How do I learn Go?\tWhat is the best way to learn Go?\n\
        How do I cook rice?\tHow do I boil rice?\n\
        only one\n\
        \tempty\n";
    let (samples, report) = lists(rows, json!({"num_candidates": 3}));
    assert_eq!(samples.iter().map(|sample| sample.query_id.as_str()).collect::<Vec<_>>(), ["2", "3", "4", "6", "7"]);
    for sample in &samples[..3] {
        let mut negatives: Vec<&str> =
            sample.passages.iter().filter(|p| p.label == Some(0)).map(|p| p.text.as_str()).collect();
        negatives.sort_unstable();
        assert!(negatives.iter().all(|text| !text.contains("Rust")), "{negatives:?}");
        assert!(negatives.contains(&"What is the best way to learn Go?"), "{negatives:?}");
    }
    assert_eq!((report.dropped["a pair of equal questions"], report.dropped["malformed row"]), (1, 2));
    let shown = report.to_string();
    assert!(shown.contains("pairs.tsv:8: 1 fields, wanted the header's 2"), "{shown}");
    assert!(shown.contains("pairs.tsv:9: a pair without one of its questions"), "{shown}");
}

#[test]
fn pairs_of_different_questions_give_negatives_only_and_limits_draw() {
    let rows = "id\tquestion1\tquestion2\tis_duplicate\n\
        0\twhat is red\twhich thing is red\t1\n1\twhat is red\twhat is blue\t0\n2\twhat is green\twhich is green\t1\n";
    let (samples, report) = lists(rows, json!({"num_candidates": 3}));
    assert_eq!((samples.len(), report.dropped["a pair of different questions"]), (2, 1));
    assert!(samples[0].passages.iter().any(|p| p.text == "what is blue" && p.label == Some(0)), "{:?}", samples[0]);
    // As data frames write it, and what nobody can read.
    let frame =
        rows.replace("\t1\n", "\tTrue\n").replace("\t0\n", "\tFalse\n") + "3\twhat is old\twhat is new\tmaybe\n";
    let (of_frame, report) = lists(&frame, json!({"num_candidates": 3}));
    assert_eq!(of_frame, lists(rows, json!({"num_candidates": 3})).0);
    assert!(report.to_string().contains("`is_duplicate` is `maybe`, wanted 0 or 1"), "{report}");
    let (samples, _) = lists(rows, json!({"num_candidates": 2, "max_questions": 1, "seed": 3}));
    assert_eq!((samples.len(), samples[0].passages.len()), (1, 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_list_holds_its_duplicate_once_and_no_other(
        pairs in prop::collection::vec((0usize..12, 0usize..12), 1..25), n in 2usize..7, seed: u64,
    ) {
        let words = ["red", "blue", "old", "new", "fast", "slow"];
        let question = |number: usize| format!("is it {} or {} {number}?", words[number % 6], words[(number * 5 + 1) % 6]);
        let rows: String = pairs.iter().map(|&(a, b)| format!("{}\t{}\n", question(a), question(b))).collect();
        if pairs.iter().all(|(a, b)| a == b) {
            return Ok(());
        }
        let (samples, report) = lists(&format!("question1\tquestion2\n{rows}"), json!({"num_candidates": n, "seed": seed}));
        prop_assert_eq!(report.read as usize, pairs.len());
        for sample in &samples {
            let (first, second) = pairs[sample.query_id.parse::<usize>().unwrap() - 2];
            let positives: Vec<&str> =
                sample.passages.iter().filter(|p| p.label == Some(1)).map(|p| p.text.as_str()).collect();
            prop_assert_eq!(&sample.query, &question(first));
            prop_assert_eq!(positives, [question(second)]);
            for negative in sample.passages.iter().filter(|p| p.label == Some(0)) {
                prop_assert!(negative.text != sample.query);
                let paired = |&(a, b): &(usize, usize)| {
                    [(a, b), (b, a)].iter().any(|&(a, b)| question(a) == sample.query && question(b) == negative.text)
                };
                prop_assert!(!pairs.iter().any(paired), "{} is a duplicate of {}", negative.text, sample.query);
            }
            prop_assert!(sample.passages.len() <= n);
        }
    }
}
