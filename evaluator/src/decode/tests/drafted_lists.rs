//! Drafting decoders: the autoregressive order when they may finish, a permutation whenever they are stopped.

use std::rc::Rc;

use model::draft_heads::identifier_rows;
use model::{BlockwiseHeads, DraftHeads, MedusaHeads};
use native::optim::{AdamWStep, adamw_step};
use tch::Reduction;

use super::*;

/// Answers with brackets and without.
fn formats(n: usize, input_ids: &[i64]) -> [RankingPrompt; 2] {
    let bracketed = prompt(Identifiers::Alphabetic, n, input_ids.to_vec());
    let compact = RankingPrompt { opening: Vec::new(), separator: Vec::new(), closing: vec![END], ..bracketed.clone() };
    [bracketed, compact]
}

/// Rows of the output layer for the letters.
fn rows(model: &CausalLm, n: usize) -> Tensor {
    identifier_rows(model, &(LETTER_A..LETTER_A + n as i64).collect::<Vec<_>>())
}

/// Random weights, so that heads guess something else than the model's own row.
fn shaken(heads: &dyn DraftHeads, seed: i64) {
    tch::manual_seed(seed);
    no_grad(|| heads.named_tensors().iter_mut().for_each(|(_, tensor)| *tensor += tensor.randn_like() * 0.3));
}

fn blockwise_heads(model: &CausalLm, n: usize, num_heads: usize) -> Rc<BlockwiseHeads> {
    let heads = BlockwiseHeads::new(&rows(model, n), num_heads, 16, 1);
    shaken(&heads, 2);
    Rc::new(heads)
}

fn medusa_heads(model: &CausalLm, n: usize, num_heads: usize) -> Rc<MedusaHeads> {
    let heads = MedusaHeads::new(&rows(model, n), num_heads);
    shaken(&heads, 3);
    Rc::new(heads)
}

/// All of them, for lists of `n`.
fn decoders(model: &CausalLm, n: usize, n_step: Option<u32>) -> Vec<Box<dyn Decoder>> {
    let draft = Drafter::Model(Rc::new(tiny(99)));
    vec![
        Box::new(Jacobi::new(n_step)),
        Box::new(Speculative::new(Drafter::SelfDraft, 5, n_step)),
        Box::new(Speculative::new(Drafter::SelfDraft, 0, n_step)),
        Box::new(Speculative::new(draft.clone(), 5, n_step)),
        Box::new(Speculative::new(draft, 1, n_step)),
        Box::new(Blockwise::new(blockwise_heads(model, n, BlockwiseHeads::default_num_heads(n)), 1, n_step)),
        Box::new(Blockwise::new(blockwise_heads(model, n, 2), 1, n_step)),
        Box::new(Medusa::new(medusa_heads(model, n, 3), Medusa::LEVELS, Medusa::BRANCHING, n_step)),
        Box::new(Medusa::new(medusa_heads(model, n, 5), 3, 2, n_step)),
    ]
}

#[test]
fn without_a_limit_the_order_is_the_autoregressive_one() {
    let mut drafts_refused = false;
    for seed in 0..4 {
        let model = tiny(seed);
        for n in [1, 2, 3, 4, 11, 20] {
            for prompt in formats(n, &[41, 47, 52, 43 + seed as i64, 58]) {
                let forced = AutoregressiveForced.decode(&model, &prompt).unwrap();
                for (index, decoder) in decoders(&model, n, None).iter().enumerate() {
                    let decoded = decoder.decode(&model, &prompt).unwrap();
                    let case = format!("{} ({index}), seed {seed}, {n} candidates", decoder.name());
                    assert_eq!(decoded.order, forced.order, "{case}");
                    assert!(decoded.forward_passes <= forced.forward_passes.max(1), "{case}");
                    assert_eq!(decoded.new_tokens, forced.new_tokens, "{case}");
                    let per_pass = (n as f32 - 2.0) / (decoded.forward_passes as f32 - 1.0);
                    assert_eq!(decoded.accepted_per_pass, (decoded.forward_passes > 1).then_some(per_pass), "{case}");
                    drafts_refused |= decoded.forward_passes > 4 && index == 0;
                }
            }
        }
    }
    assert!(drafts_refused, "random models that never refuse a draft test little");
}

#[test]
fn the_first_pass_alone_is_the_single_token_ranking() {
    let model = tiny(2);
    for prompt in formats(12, &[44, 51, 42]) {
        let single = SingleToken.decode(&model, &prompt).unwrap();
        for n_step in [0, 1] {
            for decoder in decoders(&model, 12, Some(n_step)) {
                let decoded = decoder.decode(&model, &prompt).unwrap();
                assert_eq!(decoded.order, single.order, "{}", decoder.name());
                assert_eq!(decoded.tokens_computed, single.tokens_computed);
                assert_eq!((decoded.forward_passes, decoded.accepted_per_pass), (1, None));
            }
        }
    }
}

#[test]
fn k_passes_fix_k_places() {
    for seed in 0..4 {
        let model = tiny(seed);
        for prompt in formats(12, &[50, 51, 42, 57]) {
            let forced = AutoregressiveForced.decode(&model, &prompt).unwrap().order;
            for k in 1..12 {
                for decoder in decoders(&model, 12, Some(k)) {
                    let order = decoder.decode(&model, &prompt).unwrap().order;
                    assert_eq!(order[..k as usize], forced[..k as usize], "{} after {k} passes", decoder.name());
                }
            }
        }
    }
}

#[test]
fn only_new_tokens_are_read() {
    let model = tiny(1);
    let prompt = prompt(Identifiers::Alphabetic, 10, vec![41; 30]);
    let forced = AutoregressiveForced.decode(&model, &prompt).unwrap();
    // without drafts the passes are those of the plain decoder
    let plain = Speculative::new(Drafter::SelfDraft, 0, None).decode(&model, &prompt).unwrap();
    assert_eq!((plain.forward_passes, plain.tokens_computed), (forced.forward_passes, forced.tokens_computed));
    // a whole list behind its first item, but for the last two items, which lead nowhere
    let two = Jacobi::new(Some(2)).decode(&model, &prompt).unwrap();
    assert_eq!(two.tokens_computed, 31 + 8 * 4);
}

#[test]
fn a_draft_model_like_the_model_is_never_refused() {
    for prompt in formats(14, &[41, 57, 44]) {
        let drafter = Drafter::Model(Rc::new(tiny(5)));
        let decoded = Speculative::new(drafter, 5, None).decode(&tiny(5), &prompt).unwrap();
        // 1, then 5 drafted and 1 free twice over; the last place is left over
        assert_eq!((decoded.forward_passes, decoded.accepted_per_pass), (3, Some(6.0)));
    }
}

#[test]
fn laxer_acceptance_takes_more_and_still_ranks_all() {
    let model = tiny(3);
    let prompt = prompt(Identifiers::Alphabetic, 12, vec![45, 46, 47]);
    let heads = blockwise_heads(&model, 12, 10);
    let passes = |top_k: usize| {
        let decoded = Blockwise::new(heads.clone(), top_k, None).decode(&model, &prompt).unwrap();
        data::schema::check_permutation("q", "order", &decoded.order, 12).unwrap();
        decoded.forward_passes
    };
    assert_eq!(passes(0), passes(1));
    assert_eq!(passes(12), 2, "whatever is drafted is among the best 12");
    assert!(passes(12) < passes(1), "{:?}", [1, 12].map(passes));
}

/// Trains on one list: head `i` at place `j` guesses the item at place `j + i`.
fn fit(heads: &dyn DraftHeads, states: &Tensor, order: &[u16]) {
    let mut weights: Vec<Tensor> =
        heads.named_tensors().into_iter().map(|(_, tensor)| tensor.set_requires_grad(true)).collect();
    let mut moments: Vec<[Tensor; 2]> =
        weights.iter().map(|weight| [0, 1].map(|_| weight.detach().zeros_like())).collect();
    for step in 1..=300 {
        let logits = heads.logits(states); // [places, heads, N]
        let mut loss = Tensor::from(0.0f32);
        for (head, place) in (0..heads.num_heads()).flat_map(|head| (0..order.len()).map(move |place| (head, place))) {
            let Some(item) = order.get(place + head + 1) else { continue };
            let row = logits.get(place as i64).narrow(0, head as i64, 1);
            let target = Tensor::from_slice(&[i64::from(*item)]);
            loss += row.cross_entropy_loss::<&Tensor>(&target, None, Reduction::Sum, -100, 0.0);
        }
        weights.iter_mut().for_each(Tensor::zero_grad);
        loss.backward();
        let (lr, beta1, beta2, eps, weight_decay, grad_scale) = (0.02, 0.9, 0.999, 1e-8, 0.0, 1.0);
        let settings = AdamWStep { step, lr, beta1, beta2, eps, weight_decay, grad_scale };
        no_grad(|| {
            for (weight, [mean, square]) in weights.iter_mut().zip(&mut moments) {
                let gradient = weight.grad();
                adamw_step(weight, None, &gradient, mean, square, &settings);
            }
        });
    }
    for weight in weights {
        let _ = weight.set_requires_grad(false);
    }
}

#[test]
fn trained_heads_are_refused_less() {
    let n = 10;
    let model = tiny(6);
    for prompt in formats(n, &[41, 57, 44, 50]) {
        let mut text = Continuation::new(&model, 60);
        let mut states = Vec::new();
        let keep = &mut |state: &Tensor| states.push(state.shallow_clone());
        let (order, _) = write_ranking(&mut text, &prompt, prompt_with_opening(&prompt), keep).unwrap();
        let states = Tensor::cat(&states, 0);
        let accepted = |decoder: &dyn Decoder| {
            let decoded = decoder.decode(&model, &prompt).unwrap();
            assert_eq!(decoded.order, order);
            decoded.accepted_per_pass.unwrap()
        };
        let heads = blockwise_heads(&model, n, n - 2);
        let untrained = accepted(&Blockwise::new(heads.clone(), 1, None));
        fit(heads.as_ref(), &states, &order);
        let trained = accepted(&Blockwise::new(heads, 1, None));
        assert!(trained > untrained && (trained - 8.0).abs() < 1e-6, "blockwise: {untrained}, then {trained}");
        let heads = medusa_heads(&model, n, 3);
        let untrained = accepted(&Medusa::new(heads.clone(), 4, 1, None));
        fit(heads.as_ref(), &states, &order);
        let trained = accepted(&Medusa::new(heads, 4, 1, None));
        assert!(trained > untrained && (trained - 4.0).abs() < 1e-6, "medusa: {untrained}, then {trained}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let model = tiny(0);
    let numbers = prompt(Identifiers::Numeric, 12, vec![41; 9]);
    for decoder in decoders(&model, 12, None) {
        let message = decoder.decode(&model, &numbers).unwrap_err().to_string();
        assert!(message.contains("candidate 10 takes 2 tokens"), "{message}");
    }
    let letters = prompt(Identifiers::Alphabetic, 12, vec![41; 9]);
    let other: [&dyn Decoder; 2] = [
        &Blockwise::new(blockwise_heads(&model, 11, 3), 1, None),
        &Medusa::new(medusa_heads(&model, 11, 3), 4, 3, None),
    ];
    for decoder in other {
        let message = decoder.decode(&model, &letters).unwrap_err().to_string();
        assert!(message.contains("12 candidates") && message.contains("made for 11"), "{message}");
    }
    let options = LoadOptions { device: Device::Cpu, kind: Kind::Float };
    let small = CausalLm::random(ModelConfig::tiny(Architecture::Llama, 20), 1, &options);
    let speculative = Speculative::new(Drafter::Model(Rc::new(small)), 5, None);
    let message = speculative.decode(&model, &letters).unwrap_err().to_string();
    assert!(message.contains("token 41 is beyond the draft model's vocabulary of 20"), "{message}");
    let long = prompt(Identifiers::Alphabetic, 12, vec![41; 500]);
    let message = Jacobi::new(None).decode(&model, &long).unwrap_err().to_string();
    assert!(message.contains("context is 512"), "{message}");
}

#[test]
fn equal_logits_and_bad_heads_still_give_a_ranking() {
    let model = tiny(7);
    let prompt = prompt(Identifiers::Alphabetic, 6, vec![41, 42]);
    let forced = AutoregressiveForced.decode(&model, &prompt).unwrap().order;
    let heads = blockwise_heads(&model, 6, 4);
    no_grad(|| {
        let _ = heads.named_tensors()[0].1.shallow_clone().fill_(f64::NAN);
    });
    assert_eq!(Blockwise::new(heads, 1, None).decode(&model, &prompt).unwrap().order, forced);
    no_grad(|| {
        let _ = model.output_weight().shallow_clone().zero_();
    });
    for decoder in decoders(&model, 6, None) {
        assert_eq!(decoder.decode(&model, &prompt).unwrap().order, [0, 1, 2, 3, 4, 5], "{}", decoder.name());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn a_limit_is_kept_and_the_order_whole(n in 1usize..24, seed in 0u64..6, n_step in 1u32..4, words in prop::collection::vec(WORD..VOCAB, 1..9)) {
        let model = tiny(seed);
        for prompt in formats(n, &words) {
            let mut all = decoders(&model, n, Some(n_step));
            all.push(Box::new(Blockwise::new(blockwise_heads(&model, n, 4), 5, Some(n_step))));
            for decoder in all {
                let decoded = decoder.decode(&model, &prompt).unwrap();
                data::schema::check_permutation("q", "order", &decoded.order, n).unwrap();
                prop_assert!(decoded.forward_passes <= n_step, "{}", decoder.name());
            }
        }
    }
}
