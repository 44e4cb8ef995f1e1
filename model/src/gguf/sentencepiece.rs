//! SentencePiece BPE (Llama 2's and Mistral's kind): pieces with scores, bytes for what is unknown. Merges are not in
//! the file; they follow from the pieces, better scores first.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::GgufError;
use super::metadata::Metadata;
use super::vocabulary::{Parts, Vocabulary};

/// SentencePiece's visible space.
const SPACE: &str = "\u{2581}";

pub(super) fn parts(metadata: Metadata, vocabulary: &Vocabulary) -> Result<Parts, GgufError> {
    const SCORES: &str = "tokenizer.ggml.scores";
    let scores = metadata.floats(SCORES)?.ok_or_else(|| GgufError::Missing { key: SCORES.into() })?;
    if scores.len() != vocabulary.tokens.len() {
        return Err(GgufError::Lengths { key: SCORES, got: scores.len(), wanted: vocabulary.tokens.len() });
    }
    let prefix = metadata.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let mut normalizers = vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": SPACE}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(Parts {
        normalizer: json!({"type": "Sequence", "normalizers": normalizers}),
        pre_tokenizer: Value::Null,
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        model: json!({
            "type": "BPE", "dropout": null, "unk_token": vocabulary.text(vocabulary.unknown),
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
            "ignore_merges": false, "vocab": vocabulary.ids(), "merges": merges(&vocabulary.tokens, &scores),
        }),
    })
}

/// Every way to put a piece together from two others. Order: score of the result, then length of the parts, then the
/// parts' ids.
fn merges(tokens: &[&str], scores: &[f64]) -> Vec<[String; 2]> {
    let ids: HashMap<&str, usize> = tokens.iter().enumerate().rev().map(|(id, token)| (*token, id)).collect();
    let mut merges = Vec::new();
    for (id, token) in tokens.iter().enumerate() {
        let mut of_token = Vec::new();
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if let (Some(left_id), Some(right_id)) = (ids.get(left), ids.get(right)) {
                of_token.push((*left_id, *right_id));
            }
        }
        of_token.sort_unstable();
        merges.extend(of_token.into_iter().map(|(left, right)| (id, left, right)));
    }
    let length = |id: usize| tokens[id].chars().count();
    merges.sort_by(|a, b| {
        // + 0.0: both zeros are one score; in a damaged file some are no numbers
        let by_score = (scores[b.0] + 0.0).total_cmp(&(scores[a.0] + 0.0));
        by_score.then_with(|| length(b.1).cmp(&length(a.1))).then_with(|| length(b.2).cmp(&length(a.2)))
    });
    merges.into_iter().map(|(_, left, right)| [tokens[left].to_owned(), tokens[right].to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_scores_merge_first() {
        let tokens = ["a", "b", "ab", "aba", "ba"];
        let got = merges(&tokens, &[0.0, 0.0, -2.0, -3.0, -1.0]);
        let got: Vec<String> = got.iter().map(|pair| pair.join("+")).collect();
        assert_eq!(got, ["b+a", "a+b", "ab+a", "a+ba"]);
    }

    #[test]
    fn scores_that_are_no_numbers_are_sorted_somewhere() {
        let tokens: Vec<String> = (1..60).map(|length| "a".repeat(length)).collect();
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        let scores: Vec<f64> = (0..59).map(|id| if id % 3 == 0 { f64::NAN } else { f64::from(id * 7 % 11) }).collect();
        assert_eq!(merges(&tokens, &scores).len(), 59 * 58 / 2);
    }
}
