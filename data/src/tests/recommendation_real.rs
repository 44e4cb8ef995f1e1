//! MovieLens-100K, Amazon games and Quora pairs, where they are at hand.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::shared;
use crate::sources::{RankingSetConfig, load};
use crate::{RankingSample, SetReport};

fn parts(mut set: Value, validation: usize, test: usize) -> Vec<(Vec<RankingSample>, SetReport)> {
    let mut part = |name: &str| {
        set["split"] = json!({"part": name, "validation": validation, "test": test});
        load(&serde_json::from_value::<RankingSetConfig>(set.clone()).unwrap()).unwrap()
    };
    vec![part("train"), part("validation"), part("test")]
}

/// Each list of `n` candidates, its target once, no text twice, and no query id in two parts.
fn check(parts: &[(Vec<RankingSample>, SetReport)], n: usize) {
    let mut ids = HashSet::new();
    for (samples, report) in parts {
        println!("{} lists; {report}", samples.len());
        for sample in samples {
            assert!(ids.insert(sample.query_id.as_str()), "{} in two parts", sample.query_id);
            assert_eq!(sample.passages.len(), n, "{}", sample.query_id);
            assert_eq!(sample.passages.iter().filter(|passage| passage.label == Some(1)).count(), 1);
            let texts: HashSet<&str> = sample.passages.iter().map(|passage| passage.text.as_str()).collect();
            assert_eq!(texts.len(), n, "{}: a text twice", sample.query_id);
        }
    }
}

/// Share of lists whose target stands in the first fifth.
fn in_first_fifth(samples: &[RankingSample]) -> f64 {
    let place = |sample: &&RankingSample| sample.passages.iter().position(|passage| passage.label == Some(1)) < Some(5);
    samples.iter().filter(place).count() as f64 / samples.len() as f64
}

#[test]
fn movielens_100k_gives_three_lists_a_user() {
    let Some(folder) = shared("movielens-100k") else { return };
    let set = json!({"source": {"movielens": {"interactions": folder.join("ml-100k.inter.gz"),
        "items": folder.join("ml-100k.item"), "lists_per_user": 3, "seed": 1}}});
    let parts = parts(set, 300, 300);
    check(&parts, 25);
    assert_eq!(parts.iter().map(|part| part.0.len()).collect::<Vec<_>>(), [2229, 300, 300]);
    assert!((0.16..0.24).contains(&in_first_fifth(&parts[0].0)), "targets stand anywhere");
    assert!(parts[0].0.iter().all(|sample| sample.query.starts_with("1. ") && sample.query.contains("; 10. ")));
}

#[test]
fn amazon_games_put_the_next_item_among_the_candidates() {
    let Some(folder) = shared("amazon-games") else { return };
    let set = json!({"source": {"next_item": {"interactions": folder.join("Games-6k.test.inter.gz"),
        "items": folder.join("Games-6k.item"), "candidates": folder.join("candidates.sasrec.gz"), "seed": 1}},
        "exact_candidates": 25});
    let parts = parts(set, 500, 500);
    check(&parts, 25);
    assert_eq!(parts.iter().map(|part| part.0.len()).collect::<Vec<_>>(), [4000, 500, 500]);
}

#[test]
fn quora_pairs_get_hard_negatives() {
    let Some(folder) = shared("quora-duplicates") else { return };
    let set = json!({"source": {"quora": {"path": folder.join("train.tsv.gz"), "max_questions": 600, "seed": 1}},
        "exact_candidates": 25});
    let parts = parts(set, 100, 100);
    check(&parts, 25);
    let lists: usize = parts.iter().map(|part| part.0.len()).sum();
    assert!(lists > 590, "{lists} of 600 pairs");
    assert!((0.1..0.3).contains(&in_first_fifth(&parts[0].0)), "targets stand anywhere");
}
