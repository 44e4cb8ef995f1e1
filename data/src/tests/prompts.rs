use std::sync::Arc;

use model::Tokenizer;
use serde_json::Value;

use super::{golden, golden_sample, sample, tokenizer};
use crate::DataError;
use crate::batch::tokenize_sample;
use crate::prompt::{IdentifierPosition, Identifiers, PromptBuilder, PromptConfig, PromptStyle, PromptTemplate};

fn rows(file: &str, pointer: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(golden(file)).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    value.pointer(pointer).unwrap().as_array().unwrap().clone()
}

fn ids(row: &Value, key: &str) -> Vec<i64> {
    serde_json::from_value(row[key].clone()).unwrap()
}

/// Text and tokens equal transformers' for every style (make.py).
fn check(tokenizer: &Arc<Tokenizer>, rows: &[Value]) {
    for row in rows {
        let style: PromptStyle = serde_json::from_value(row["style"].clone()).unwrap();
        let builder = PromptBuilder::new(Arc::clone(tokenizer), PromptConfig::of(style)).unwrap();
        let prompt = builder.prompt(&golden_sample()).unwrap();
        if let Some(text) = row["text"].as_str() {
            assert_eq!(prompt.text, text, "{style:?}");
        }
        assert_eq!(prompt.input_ids, ids(row, "prompt_ids"), "{style:?}");
        let tokenized = tokenize_sample(&builder, &golden_sample()).unwrap();
        assert_eq!(tokenized.input_ids, ids(row, "full_ids"), "{style:?}");
        assert_eq!(tokenized.targets[0].1, prompt.input_ids.len());
        let rank = tokenized.rank.expect("three identifiers are single tokens");
        assert_eq!(rank.ranks, [2, 3, 1]);
        // The row's logits predict the identifier of the best candidate.
        assert_eq!(tokenized.input_ids[rank.row as usize + 1], rank.identifier_ids[2], "{style:?}");
    }
}

#[test]
fn prompts_equal_transformers_on_byte_level_bpe_with_chatml() {
    check(&tokenizer("bytes"), &rows("prompts.json", "/bytes"));
}

#[test]
fn prompts_equal_transformers_on_sentencepiece_style_bpe_with_zephyrs_template() {
    check(&tokenizer("pieces"), &rows("prompts.json", "/pieces"));
}

/// As `tokenizer(text)` has it in the published training and decoding: Zephyr's template writes no BOS, its tokenizer puts one before every text.
#[test]
fn a_tokenizers_bos_stands_before_a_template_that_has_none() {
    let bare = tokenizer("pieces");
    let bos = bare.token_to_id("<s>").unwrap();
    let with_bos = super::changed_tokenizer("pieces", |json| {
        json["post_processor"] = serde_json::json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [bos], "tokens": ["<s>"]}},
        });
    });
    let list = sample("q", "q", &["one", "two"], None);
    let prompt = |tokenizer: &Arc<Tokenizer>| {
        let builder = PromptBuilder::new(Arc::clone(tokenizer), PromptConfig::default()).unwrap();
        let prompt = builder.prompt(&list).unwrap();
        builder.verify(&prompt, &[1, 0]).unwrap();
        (prompt.input_ids, builder.hash())
    };
    let ((without, old), (with, new)) = (prompt(&bare), prompt(&with_bos));
    assert_eq!(with, [&[bos], without.as_slice()].concat());
    assert_ne!(old, new);
}

#[test]
fn prompts_equal_transformers_on_smollm2() {
    let Some(folder) = super::smollm2() else { return };
    let tokenizer = Arc::new(Tokenizer::load(&folder).unwrap());
    check(&tokenizer, &rows("smollm2_prompts.json", ""));
    let builder = PromptBuilder::new(tokenizer, PromptConfig::of(PromptStyle::RankZephyr)).unwrap();
    let many: Vec<String> = (0..20).map(|i| format!("passage number {i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let list = sample("many", "q", &many, Some((0..20).rev().collect()));
    let tokenized = tokenize_sample(&builder, &list).unwrap();
    assert_eq!(tokenized.rank, None, "`10` is two tokens: no single-token reading of numbers beyond 9");
}

#[test]
fn published_texts_are_pinned() {
    let tokenizer = tokenizer("bytes");
    for style in [PromptStyle::RankZephyr, PromptStyle::First, PromptStyle::RankVicuna] {
        let builder = PromptBuilder::new(Arc::clone(&tokenizer), PromptConfig::of(style)).unwrap();
        insta::assert_snapshot!(format!("{style:?}"), builder.text(&golden_sample()).unwrap());
    }
    let after = PromptConfig {
        identifiers: Identifiers::Alphabetic,
        identifier_position: IdentifierPosition::After,
        template: PromptTemplate::Vicuna,
        ..PromptConfig::default()
    };
    let builder = PromptBuilder::new(tokenizer, after).unwrap();
    insta::assert_snapshot!("identifier_after", builder.text(&golden_sample()).unwrap());
}

#[test]
fn answers_read_back_and_pieces_join() {
    for name in ["bytes", "pieces"] {
        for template in [PromptTemplate::Chat, PromptTemplate::Vicuna] {
            for style in [PromptStyle::RankZephyr, PromptStyle::First] {
                let config = PromptConfig { template, ..PromptConfig::of(style) };
                let builder = PromptBuilder::new(tokenizer(name), config).unwrap();
                let prompt = builder.prompt(&golden_sample()).unwrap();
                for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
                    builder.verify(&prompt, &order).unwrap();
                    let response = builder.response(&prompt, &order);
                    assert_eq!(response.len(), prompt.answer_tokens());
                    let (read, counts) = builder.parse_response(&response, 3).unwrap();
                    assert_eq!((read.as_slice(), counts.ok), (order.as_slice(), 1), "{name} {template:?} {style:?}");
                }
            }
        }
    }
}

#[test]
fn long_numeric_lists_keep_their_identifiers_apart() {
    let builder = PromptBuilder::new(tokenizer("bytes"), PromptConfig::default()).unwrap();
    let texts: Vec<String> = (0..100).map(|i| format!("text {i}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let order: Vec<u16> = (0..100).rev().collect();
    let prompt = builder.prompt(&sample("hundred", "q", &texts, None)).unwrap();
    builder.verify(&prompt, &order).unwrap();
    assert_eq!(builder.parse_response(&builder.response(&prompt, &order), 100).unwrap().0, order);
}

#[test]
fn too_many_candidates_and_too_long_prompts_name_both_numbers() {
    let builder = PromptBuilder::new(tokenizer("bytes"), PromptConfig::of(PromptStyle::First)).unwrap();
    let message = builder.prompt(&sample("q7", "q", &["x"; 27], None)).unwrap_err().to_string();
    assert!(message.contains("`q7` has 27 candidates but alphabetic identifiers name at most 26"), "{message}");
    let builder = builder.with_context_limit(50);
    match builder.prompt(&golden_sample()).unwrap_err() {
        DataError::PromptTooLong { query_id, tokens, limit: 50 } => assert!(query_id == "golden" && tokens > 50),
        other => panic!("{other}"),
    }
    assert!(matches!(builder.prompt(&sample("q", "q", &[], None)), Err(DataError::NoCandidates { .. })));
}

#[test]
fn the_hash_follows_everything_that_shapes_a_prompt() {
    let hash = |tokenizer: &Arc<Tokenizer>, config: PromptConfig| {
        PromptBuilder::new(Arc::clone(tokenizer), config).unwrap().hash()
    };
    let bytes = tokenizer("bytes");
    let zephyr = hash(&bytes, PromptConfig::default());
    assert_eq!(zephyr, hash(&bytes, PromptConfig::default()), "stable");
    let others = [
        hash(&bytes, PromptConfig::of(PromptStyle::First)),
        hash(&bytes, PromptConfig { max_passage_tokens: Some(64), ..PromptConfig::default() }),
        hash(&bytes, PromptConfig { identifier_position: IdentifierPosition::After, ..PromptConfig::default() }),
        hash(&tokenizer("pieces"), PromptConfig::default()),
    ];
    assert!(others.iter().all(|other| *other != zephyr));
}

#[test]
fn tokenizers_that_merge_across_an_edge_are_refused() {
    let merged = character_tokenizer("[", "A");
    let message =
        PromptBuilder::new(Arc::clone(&merged), PromptConfig::of(PromptStyle::First)).unwrap_err().to_string();
    assert!(
        message.contains("does not keep identifier `A` apart") && message.contains("one token covers `[A`"),
        "{message}"
    );
    PromptBuilder::new(Arc::clone(&merged), PromptConfig::default()).unwrap();
    let chat = PromptConfig { template: PromptTemplate::Chat, ..PromptConfig::default() };
    assert!(PromptBuilder::new(merged, chat).unwrap_err().to_string().contains("no chat template"));
    // The prompt's last character joined to the answer's first: `ASSISTANT:` and the blank behind it.
    let error = PromptBuilder::new(character_tokenizer(":", "\u{120}"), PromptConfig::default()).unwrap_err();
    assert!(matches!(error, DataError::PrefixMismatch { .. }), "{error}");
}

/// A tokenizer of single characters with one merge.
fn character_tokenizer(left: &str, right: &str) -> Arc<Tokenizer> {
    let folder = tempfile::tempdir().unwrap();
    let mut vocab = serde_json::Map::new();
    for character in ('\u{21}'..='\u{7e}').chain(['\u{120}', '\u{10a}']) {
        vocab.insert(character.to_string(), vocab.len().into());
    }
    vocab.insert(format!("{left}{right}"), vocab.len().into());
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "post_processor": null, "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": [[left, right]]},
    });
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    Arc::new(Tokenizer::load(folder.path()).unwrap())
}
