use proptest::prelude::*;

use super::{sample, tokenizer};
use crate::DataError;
use crate::prompt::{PromptBuilder, PromptConfig};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn cut_passages_are_starts_of_the_text_within_the_limit(text in "[a-z éß漢字🦀.\\[\\]0-9]{0,120}", limit in 1usize..40) {
        for name in ["bytes", "pieces"] {
            let tokenizer = tokenizer(name);
            let config = PromptConfig { max_passage_tokens: Some(limit), ..PromptConfig::default() };
            let builder = PromptBuilder::new(tokenizer.clone(), config).unwrap();
            let list = sample("q", "q", &[&text], None);
            let whole = PromptBuilder::new(tokenizer.clone(), PromptConfig::default()).unwrap().passage(&list.passages[0]).unwrap();
            let cut = builder.passage(&list.passages[0]).unwrap();
            prop_assert!(whole.starts_with(&cut), "{name}: {cut:?} of {whole:?}");
            prop_assert!(tokenizer.encode(&cut, false).unwrap().len() <= limit);
            prop_assert!(!cut.contains(char::REPLACEMENT_CHARACTER), "{cut:?}");
        }
    }
}

#[test]
fn words_are_cut_before_tokens_and_queries_too() {
    let config = PromptConfig { max_passage_words: Some(3), max_query_tokens: Some(4), ..PromptConfig::default() };
    let builder = PromptBuilder::new(tokenizer("bytes"), config).unwrap();
    let list =
        sample("q", "how long is the life cycle of a flea and of many other animals", &["one two three four"], None);
    assert_eq!(builder.passage(&list.passages[0]).unwrap(), "one two three");
    assert!(!builder.text(&list).unwrap().contains("many other animals"));
}

/// As Qwen's tokenizers, whose text is composed before it is cut into tokens: what is decoded is no start of what was given.
#[test]
fn a_text_that_the_tokenizer_normalises_is_cut_where_its_tokens_end() {
    let tokenizer = super::changed_tokenizer("bytes", |json| json["normalizer"] = serde_json::json!({"type": "NFC"}));
    let config = PromptConfig { max_passage_tokens: Some(20), ..PromptConfig::default() };
    let builder = PromptBuilder::new(tokenizer.clone(), config).unwrap();
    // "e" with an accent of its own, and the sign for ohms
    for text in ["cafe\u{301} and more words than may stand here", "\u{2126} and more words than may stand here"] {
        let cut = builder.passage(&sample("q", "q", &[text], None).passages[0]).unwrap();
        assert!(text.starts_with(&cut) && cut.contains("and more"), "{cut:?} of {text:?}");
        assert!(tokenizer.encode(&cut, false).unwrap().len() <= 20);
    }
}

/// "▁", three bytes and "a": a tokenizer that puts a space in front makes five tokens of four bytes.
#[test]
fn a_text_of_fewer_bytes_than_the_limit_can_have_more_tokens() {
    let config = PromptConfig { max_passage_tokens: Some(4), ..PromptConfig::default() };
    let builder = PromptBuilder::new(tokenizer("pieces"), config).unwrap();
    assert_eq!(builder.passage(&sample("q", "q", &["漢a"], None).passages[0]).unwrap(), "漢");
}

#[test]
fn passages_lose_words_until_the_context_holds_them_where_that_is_asked_for() {
    let long = "word ".repeat(80);
    let list = sample("q", "query", &[&long, "short", &long], None);
    let build = |fit_context: bool, limit: usize| {
        let config = PromptConfig { fit_context, ..PromptConfig::default() };
        PromptBuilder::new(tokenizer("bytes"), config).unwrap().with_context_limit(limit).prompt(&list)
    };
    let whole = build(false, usize::MAX).unwrap();
    let limit = whole.input_ids.len() + whole.answer_tokens() - 100;
    assert!(matches!(build(false, limit), Err(DataError::PromptTooLong { .. })));
    let fitted = build(true, limit).unwrap();
    let tokens = fitted.input_ids.len() + fitted.answer_tokens();
    assert!(tokens <= limit && tokens > limit - 60, "{tokens} of {limit}: little more is cut than must be");
    assert!(fitted.text.contains("short") && !fitted.text.contains(long.trim()));
    assert_eq!(build(true, usize::MAX).unwrap().text, whole.text);
    assert!(
        matches!(build(true, 20), Err(DataError::PromptTooLong { .. })),
        "words cannot be taken from the prompt itself"
    );
}
