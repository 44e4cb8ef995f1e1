//! A decoder of one's own, as docs/own-decoder.md walks through it; only what the library shows to everybody is used.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use data::prompt::{RankingPrompt, RepairCounts};
use evaluator::EvaluatorError;
use evaluator::decode::{Decoded, Decoder};
use model::config::Architecture;
use model::{AttentionPattern, CausalLm, LoadOptions, ModelConfig};
use monopass_evaluator as evaluator;
use tch::{Device, Kind, Tensor, no_grad};

// [decoder]
/// Reads the answer's first two places: the first pass gives the best candidate, the second, which has read it, the
/// order of the others.
struct TwoTokens;

impl Decoder for TwoTokens {
    fn name(&self) -> &'static str {
        "two_tokens"
    }

    fn decode(&self, model: &CausalLm, prompt: &RankingPrompt) -> Result<Decoded, EvaluatorError> {
        let started = std::time::Instant::now();
        let bad = |reason| EvaluatorError::BadPrompt { query_id: prompt.query_id.clone(), reason };
        let tokens = prompt.single_token_identifiers().ok_or_else(|| bad("identifiers of several tokens"))?;

        let mut ids = [prompt.input_ids.as_slice(), &prompt.opening].concat();
        let first_read = ids.len();
        let first = best_first(&identifier_logits(model, &ids, &tokens)?)[0];
        ids.push(tokens[usize::from(first)]);
        ids.extend(&prompt.separator);
        let logits = identifier_logits(model, &ids, &tokens)?;

        let mut order = vec![first];
        order.extend(best_first(&logits).into_iter().filter(|candidate| *candidate != first));
        Ok(Decoded {
            order,
            scores: None,
            forward_passes: 2,
            new_tokens: 2,
            tokens_computed: (first_read + ids.len()) as u64,
            seconds: started.elapsed().as_secs_f64(),
            repair: RepairCounts::default(),
            text: None,
            accepted_per_pass: None,
            seconds_after_model: None,
        })
    }
}

/// Logits of the identifiers' tokens behind `ids`: those columns only, of the last row only.
fn identifier_logits(model: &CausalLm, ids: &[i64], tokens: &[i64]) -> Result<Vec<f32>, EvaluatorError> {
    let logits = no_grad(|| {
        let input = Tensor::from_slice(ids).unsqueeze(0).to_device(model.device()); // [1, seq]
        let hidden = model.forward(&input, &AttentionPattern::Causal, None); // [1, seq, hidden]
        let columns = Tensor::from_slice(tokens).to_device(model.device());
        model.logits(&hidden.select(1, -1), Some(&columns)).to_kind(Kind::Float) // [1, candidates]
    });
    Ok(Vec::try_from(logits.view(-1))?)
}

/// Candidates from the highest logit to the lowest; equal ones keep their order.
fn best_first(logits: &[f32]) -> Vec<u16> {
    let mut order: Vec<u16> = (0..logits.len() as u16).collect();
    order.sort_by(|a, b| logits[usize::from(*b)].total_cmp(&logits[usize::from(*a)]));
    order
}
// [/decoder]

fn prompt(candidates: i64) -> RankingPrompt {
    RankingPrompt {
        query_id: "q".to_owned(),
        text: String::new(),
        input_ids: (20..40).collect(),
        opening: vec![2],
        identifiers: (0..candidates).map(|candidate| vec![5 + candidate]).collect(),
        separator: vec![3, 4, 2],
        closing: vec![3, 1],
    }
}

#[test]
fn it_returns_a_permutation_that_begins_with_the_first_choice() {
    let options = LoadOptions { device: Device::Cpu, kind: Kind::Float };
    let model = CausalLm::random(ModelConfig::tiny(Architecture::Llama, 60), 1, &options);
    let decoded = TwoTokens.decode(&model, &prompt(8)).unwrap();
    let first = evaluator::decode::SingleToken.decode(&model, &prompt(8)).unwrap();
    assert_eq!(decoded.order[0], first.order[0]);
    let mut sorted = decoded.order;
    sorted.sort_unstable();
    assert_eq!(sorted, (0..8).collect::<Vec<u16>>());
}

#[test]
fn the_page_shows_this_code() {
    let own = include_str!("own_decoder.rs");
    let code = own.split("// [decoder]\n").nth(1).unwrap().split("// [/decoder]").next().unwrap();
    let page = include_str!("../../docs/own-decoder.md");
    assert!(page.contains(code), "docs/own-decoder.md shows other code than this test compiles");
}
