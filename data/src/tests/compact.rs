//! Compact answers: one token a candidate.

use std::sync::Arc;

use model::Tokenizer;
use proptest::prelude::*;

use super::{golden, golden_sample, sample, tokenizer};
use crate::DataError;
use crate::batch::tokenize_sample;
use crate::prompt::{AnswerFormat, Identifiers, PromptBuilder, PromptConfig, PromptStyle, PromptTemplate};

/// A golden tokenizer that has learned every letter with the blank before it, as those of language models have.
fn with_letters(name: &str) -> Arc<Tokenizer> {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(golden(name)).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let path = folder.path().join("tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let blank = if name == "bytes" { "\u{120}" } else { "\u{2581}" };
    let ids = json["model"]["vocab"].as_object().unwrap().values().map(|id| id.as_u64().unwrap());
    let added = json["added_tokens"].as_array().unwrap().iter().map(|token| token["id"].as_u64().unwrap());
    let free = ids.chain(added).max().unwrap() + 1;
    for (id, letter) in (free..).zip('A'..='Z') {
        let vocab = json["model"]["vocab"].as_object_mut().unwrap();
        if vocab.insert(format!("{blank}{letter}"), id.into()).is_none() {
            json["model"]["merges"].as_array_mut().unwrap().push(serde_json::json!([blank, letter.to_string()]));
        }
    }
    std::fs::write(&path, json.to_string()).unwrap();
    Arc::new(Tokenizer::load(folder.path()).unwrap())
}

fn compact(style: PromptStyle) -> PromptConfig {
    PromptConfig {
        answer_format: AnswerFormat::Compact,
        identifiers: Identifiers::Alphabetic,
        ..PromptConfig::of(style)
    }
}

#[test]
fn an_answer_is_one_token_a_candidate_and_reads_back() {
    for name in ["bytes", "pieces"] {
        let tokenizer = with_letters(name);
        for template in [PromptTemplate::Chat, PromptTemplate::Vicuna] {
            for style in [PromptStyle::RankZephyr, PromptStyle::RankVicuna, PromptStyle::Recommendation] {
                let config = PromptConfig { template, ..compact(style) };
                let builder = PromptBuilder::new(Arc::clone(&tokenizer), config).unwrap();
                let prompt = builder.prompt(&golden_sample()).unwrap();
                assert!(prompt.opening.is_empty() && prompt.separator.is_empty() && prompt.closing.len() == 1);
                assert_eq!(prompt.single_token_identifiers().unwrap().len(), 3);
                for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
                    builder.verify(&prompt, &order).unwrap();
                    let response = builder.response(&prompt, &order);
                    assert_eq!((response.len(), prompt.answer_tokens()), (4, 4));
                    let (read, counts) = builder.parse_response(&response, 3).unwrap();
                    assert_eq!((read.as_slice(), counts.ok), (order.as_slice(), 1), "{name} {template:?} {style:?}");
                }
                let tokenized = tokenize_sample(&builder, &golden_sample()).unwrap();
                let rank = tokenized.rank.unwrap();
                assert_eq!(rank.row as usize + 1, prompt.input_ids.len(), "the prompt's last row predicts");
                assert_eq!(tokenized.input_ids[prompt.input_ids.len()], rank.identifier_ids[2]);
            }
        }
    }
}

#[test]
fn letters_without_a_token_of_their_own_are_named() {
    let error = PromptBuilder::new(tokenizer("bytes"), compact(PromptStyle::First)).unwrap_err();
    let DataError::CompactIdentifiers { identifiers } = &error else { panic!("{error}") };
    assert!(identifiers.starts_with("` B`, ` C`") && !identifiers.contains("` A`"), "{error}");
    assert!(error.to_string().contains("use `answer_format: bracketed`"), "{error}");
    let numbers = PromptConfig { answer_format: AnswerFormat::Compact, ..PromptConfig::default() };
    let message = PromptBuilder::new(tokenizer("bytes"), numbers).unwrap_err().to_string();
    assert!(message.contains("`answer_format: compact` with `identifiers: numeric`"), "{message}");
}

#[test]
fn texts_are_pinned_and_published_ones_stay() {
    let tokenizer = with_letters("bytes");
    let text = |config| PromptBuilder::new(Arc::clone(&tokenizer), config).unwrap().text(&golden_sample()).unwrap();
    insta::assert_snapshot!("compact_first", text(compact(PromptStyle::First)));
    let published = text(PromptConfig::of(PromptStyle::First));
    let start = published.split("The output format").next().unwrap();
    assert!(text(compact(PromptStyle::First)).starts_with(start));
}

#[test]
fn the_format_is_part_of_the_hash_and_bracketed_hashes_hold() {
    let tokenizer = with_letters("bytes");
    let hash = |config| PromptBuilder::new(Arc::clone(&tokenizer), config).unwrap().hash();
    assert_ne!(hash(compact(PromptStyle::First)), hash(PromptConfig::of(PromptStyle::First)));
    // What is hashed is the settings as they are written: models trained before the key existed must still fit.
    assert!(!serde_json::to_string(&PromptConfig::default()).unwrap().contains("answer_format"));
    let zephyr = PromptBuilder::new(super::tokenizer("bytes"), PromptConfig::default()).unwrap().hash();
    assert_eq!(
        zephyr, "140e4c914bda13aeb14c3e80f5d6297527be2ebf19ea73462df0be286a0ad738",
        "as before there were formats"
    );
    let read: PromptConfig =
        serde_json::from_str(r#"{"answer_format": "compact", "identifiers": "alphabetic"}"#).unwrap();
    assert_eq!((read.answer_format, read.validate().len()), (AnswerFormat::Compact, 0));
}

#[test]
fn smollm2_has_a_token_for_every_letter() {
    let Some(folder) = super::smollm2() else { return };
    let tokenizer = Arc::new(Tokenizer::load(&folder).unwrap());
    for style in [PromptStyle::First, PromptStyle::Recommendation, PromptStyle::DuplicateQuestions] {
        let builder = PromptBuilder::new(Arc::clone(&tokenizer), compact(style)).unwrap();
        let list = sample("q", "query", &["text"; 26], Some((0..26).rev().collect()));
        let tokenized = tokenize_sample(&builder, &list).unwrap();
        assert_eq!(tokenized.targets.len(), 27);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn every_order_follows_the_prompt_token_by_token(order in Just((0u16..26).collect::<Vec<_>>()).prop_shuffle()) {
        for name in ["bytes", "pieces"] {
            let builder = PromptBuilder::new(with_letters(name), compact(PromptStyle::DuplicateQuestions)).unwrap();
            let prompt = builder.prompt(&sample("q", "query", &["text"; 26], None)).unwrap();
            builder.verify(&prompt, &order).unwrap();
            prop_assert_eq!(builder.parse_response(&builder.response(&prompt, &order), 26).unwrap().0, order.clone());
        }
    }
}
