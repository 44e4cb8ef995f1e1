//! All decoders on tiny random models.

mod drafted_lists;

use std::collections::BTreeSet;

use data::prompt::{Identifiers, RankingPrompt};
use data::{Passage, RankingSample};
use model::config::Architecture;
use model::{AttentionPattern, CausalLm, LoadOptions, ModelConfig, Tokenizer};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor, no_grad};

use super::*;
use crate::sliding::{PromptSource, WindowConfig, rerank};

/// Token ids of the tiny vocabulary below.
const END: i64 = 1;
const OPEN: i64 = 2;
const CLOSE: i64 = 3;
const THEN: i64 = 4;
const DIGIT_0: i64 = 5;
const LETTER_A: i64 = 15;
const WORD: i64 = 41;
const VOCAB: i64 = 60;

pub(crate) fn tiny(seed: u64) -> CausalLm {
    let options = LoadOptions { device: Device::Cpu, kind: Kind::Float };
    CausalLm::random(ModelConfig::tiny(Architecture::Llama, VOCAB), seed, &options)
}

/// A tokenizer that knows the words of an answer.
pub(crate) fn tokenizer() -> Tokenizer {
    let mut vocab = serde_json::Map::new();
    let mut words = vec!["<pad>".to_owned(), "</s>".into(), "[".into(), "]".into(), ">".into()];
    words.extend((0..10).map(|digit| digit.to_string()));
    words.extend(('A'..='Z').map(String::from));
    words.extend((WORD..VOCAB).map(|index| format!("word{index}")));
    for (id, word) in words.into_iter().enumerate() {
        vocab.insert(word, id.into());
    }
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<pad>"},
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"eos_token": "</s>"}"#).unwrap();
    Tokenizer::load(folder.path()).unwrap()
}

/// Writes a word per passage, so that the prompt depends on the order.
pub(crate) struct FakePrompts(pub Identifiers);

impl PromptSource for FakePrompts {
    fn prompt(&self, sample: &RankingSample) -> Result<RankingPrompt, EvaluatorError> {
        let words = sample.passages.iter().map(|p| WORD + p.text.len() as i64 % (VOCAB - WORD));
        Ok(prompt(self.0, sample.passages.len(), words.collect()))
    }
}

pub(crate) fn sample(query_id: &str, n: usize) -> RankingSample {
    let passage = |i: usize| Passage {
        doc_id: format!("{query_id}-d{i}"),
        title: String::new(),
        text: "x".repeat(i * 7 % 23),
        first_stage_score: None,
        label: Some(i32::from(i % 4 == 1)),
    };
    RankingSample {
        query_id: query_id.into(),
        query: "q".into(),
        passages: (0..n).map(passage).collect(),
        target: None,
        origin: "test".into(),
    }
}

fn prompt(kind: Identifiers, n: usize, input_ids: Vec<i64>) -> RankingPrompt {
    let identifier = |i: usize| match kind {
        Identifiers::Alphabetic => vec![LETTER_A + i as i64],
        Identifiers::Numeric => (i + 1).to_string().bytes().map(|b| DIGIT_0 + i64::from(b - b'0')).collect(),
    };
    RankingPrompt {
        query_id: "q".into(),
        text: String::new(),
        input_ids,
        opening: vec![OPEN],
        identifiers: (0..n).map(identifier).collect(),
        separator: vec![CLOSE, THEN, OPEN],
        closing: vec![CLOSE, END],
    }
}

/// Logits of the token after `ids`, everything read anew.
pub(crate) fn logits_after(model: &CausalLm, ids: &[i64]) -> Vec<f32> {
    let logits = no_grad(|| {
        let hidden = model.forward(&Tensor::from_slice(ids).unsqueeze(0), &AttentionPattern::Causal, None);
        model.logits(&hidden.select(1, -1), None).view(-1)
    });
    Vec::try_from(logits).unwrap()
}

/// Constrained greedy decoding written the slow and obvious way: at each token, try every unused identifier's next one.
fn forced_slowly(model: &CausalLm, prompt: &RankingPrompt) -> Vec<u16> {
    let mut ids = prompt_with_opening(prompt);
    let mut unused: BTreeSet<u16> = (0..prompt.identifiers.len() as u16).collect();
    let mut order = Vec::new();
    while !unused.is_empty() {
        let mut written: Vec<i64> = Vec::new();
        let chosen = loop {
            let spelled = |c: u16| [prompt.identifiers[usize::from(c)].as_slice(), &prompt.separator[..1]].concat();
            let alive: Vec<u16> = unused.iter().copied().filter(|c| spelled(*c).starts_with(&written)).collect();
            if let Some(done) = alive.iter().find(|c| spelled(**c) == written) {
                break *done;
            }
            let logits = logits_after(model, &[ids.as_slice(), &written].concat());
            let next = alive.iter().map(|c| spelled(*c)[written.len()]);
            let best =
                next.reduce(|best, t| if logits[t as usize] > logits[best as usize] { t } else { best }).unwrap();
            written.push(best);
        };
        ids.extend(&prompt.identifiers[usize::from(chosen)]);
        ids.extend(&prompt.separator);
        unused.remove(&chosen);
        order.push(chosen);
    }
    order
}

#[test]
fn forced_takes_the_best_unused_identifier_with_fewest_passes() {
    for seed in 0..3 {
        let model = tiny(seed);
        let letters = prompt(Identifiers::Alphabetic, 20, (41..58).collect());
        let decoded = AutoregressiveForced.decode(&model, &letters).unwrap();
        assert_eq!(decoded.order, forced_slowly(&model, &letters));
        assert_eq!(decoded.forward_passes, 19, "the last place needs none");
        assert_eq!((decoded.new_tokens, decoded.tokens_computed), (1 + 20 + 19 * 3, 17 + 1 + 18 * 4));
        let numbers = prompt(Identifiers::Numeric, 23, (41..58).collect());
        let decoded = AutoregressiveForced.decode(&model, &numbers).unwrap();
        assert_eq!(decoded.order, forced_slowly(&model, &numbers));
    }
}

#[test]
fn single_token_orders_by_logits() {
    let model = tiny(7);
    let prompt = prompt(Identifiers::Alphabetic, 26, (41..60).collect());
    let decoded = SingleToken.decode(&model, &prompt).unwrap();
    let logits = logits_after(&model, &prompt_with_opening(&prompt));
    let scores = decoded.scores.unwrap();
    for (candidate, score) in decoded.order.iter().zip(&scores) {
        assert!((logits[(LETTER_A + i64::from(*candidate)) as usize] - score).abs() < 1e-5);
    }
    assert!(scores.is_sorted_by(|a, b| a >= b));
    assert_eq!((decoded.forward_passes, decoded.tokens_computed), (1, 20));
    let forced = AutoregressiveForced.decode(&model, &prompt).unwrap();
    assert_eq!(forced.order[0], decoded.order[0], "both read the same row first");
}

#[test]
fn equal_logits_keep_the_input_order() {
    let mut model = tiny(7);
    model.freeze();
    no_grad(|| {
        let _ = model.output_weight().shallow_clone().zero_();
    });
    let prompt = prompt(Identifiers::Alphabetic, 6, vec![41, 42]);
    for decoder in [&SingleToken as &dyn Decoder, &AutoregressiveForced] {
        assert_eq!(decoder.decode(&model, &prompt).unwrap().order, [0, 1, 2, 3, 4, 5], "{}", decoder.name());
    }
}

#[test]
fn plain_text_is_parsed_and_what_is_broken_counted() {
    let model = tiny(3);
    let prompt = prompt(Identifiers::Alphabetic, 5, vec![41, 42, 43]);
    let decoder = Autoregressive::new(tokenizer(), Identifiers::Alphabetic, None);
    let decoded = decoder.decode(&model, &prompt).unwrap();
    assert_eq!(decoded.forward_passes, decoded.new_tokens);
    assert!(decoded.forward_passes <= 1 + 5 + 4 * 3 + 2 + 8);
    assert!(!decoded.repair.all_ok(), "a random model writes no ranking: {:?}", decoded.text);
    assert_eq!(decoded.order.iter().collect::<BTreeSet<_>>().len(), 5);
}

#[test]
fn bad_prompts_say_what_is_wrong() {
    let model = tiny(0);
    let good = || prompt(Identifiers::Numeric, 12, vec![41; 9]);
    let message =
        |decoder: &dyn Decoder, prompt: &RankingPrompt| decoder.decode(&model, prompt).unwrap_err().to_string();
    let forced: &dyn Decoder = &AutoregressiveForced;
    assert!(message(&SingleToken, &good()).contains("candidate 10 takes 2 tokens"));
    let mut same = good();
    same.identifiers[3] = same.identifiers[1].clone();
    assert!(message(forced, &same).contains("candidates 2 and 4"));
    let none = RankingPrompt { identifiers: Vec::new(), ..good() };
    assert!(message(forced, &none).contains("no candidates"));
    let ambiguous = RankingPrompt { separator: vec![DIGIT_0], ..good() };
    assert!(message(forced, &ambiguous).contains("separator"));
    let long = RankingPrompt { input_ids: vec![41; 500], ..good() };
    assert!(message(forced, &long).contains("context is 512"));
}

#[test]
fn weights_that_are_not_numbers_are_an_error() {
    let model = tiny(0);
    no_grad(|| {
        let _ = model.output_weight().shallow_clone().fill_(f64::NAN);
    });
    let prompt = prompt(Identifiers::Alphabetic, 4, vec![41; 5]);
    let plain = Autoregressive::new(tokenizer(), Identifiers::Alphabetic, None);
    for decoder in [&SingleToken as &dyn Decoder, &AutoregressiveForced, &plain] {
        let message = decoder.decode(&model, &prompt).unwrap_err().to_string();
        assert!(message.contains("not finite"), "{message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_list_comes_out_as_a_permutation(n in 1usize..34, seed in 0u64..4, size in 2usize..21, stride in 1usize..21, passes in 1usize..3) {
        let model = tiny(seed);
        let tokenizer = tokenizer();
        let config = WindowConfig { size, stride: stride.min(size), num_passes: passes };
        for identifiers in [Identifiers::Alphabetic, Identifiers::Numeric] {
            let with = BuildDecoder {
                tokenizer: &tokenizer,
                answer: identifiers.into(),
                max_new_tokens: None,
                parts: &NoParts,
                last_read: std::rc::Rc::default(),
                last_prompt: Some(std::rc::Rc::default()),
            };
            for kind in DecoderKind::PLAIN {
                if kind == DecoderKind::SingleToken && identifiers == Identifiers::Numeric {
                    continue;
                }
                let decoder = kind.build(&with).unwrap();
                let ranked = rerank(&model, decoder.as_ref(), &FakePrompts(identifiers), &sample("q", n), &config).unwrap();
                data::schema::check_permutation("q", "order", &ranked.order, n).unwrap();
                prop_assert_eq!(ranked.windows as usize, passes * config.sweep(n).len());
                prop_assert!(ranked.forward_passes >= ranked.windows);
            }
        }
    }
}
