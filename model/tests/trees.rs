//! Tokens of a tree get the hidden states they would have in a text of their own.

use model::{Architecture, AttentionPattern, CausalLm, LoadOptions, ModelConfig, TokenTree};
use monopass_model as model;
use proptest::prelude::*;
use tch::{Device, Kind, Tensor, no_grad};

const VOCAB: i64 = 50;

fn tiny(architecture: Architecture, window: Option<i64>) -> CausalLm {
    let mut config = ModelConfig::tiny(architecture, VOCAB);
    config.sliding_windows.iter_mut().for_each(|layer| *layer = window);
    CausalLm::random(config, 5, &LoadOptions { device: Device::Cpu, kind: Kind::Float })
}

fn row(ids: &[i64]) -> Tensor {
    Tensor::from_slice(ids).unsqueeze(0)
}

/// Hidden state of the last of `ids`, everything read anew.
fn alone(model: &CausalLm, ids: &[i64]) -> Tensor {
    model.forward(&row(ids), &AttentionPattern::Causal, None).select(1, -1)
}

/// Largest difference between the tree tokens of a pass and texts of their own.
fn worst(model: &CausalLm, prefixes: &[Vec<i64>], trees: &[TokenTree], hidden: &Tensor, first: usize) -> f64 {
    let mut place = first as i64;
    let mut worst: f64 = 0.0;
    for (prefix, tree) in prefixes.iter().zip(trees) {
        for index in 0..tree.len() as u32 {
            let mut ids: Vec<i64> = tree.path(index).map(|token| tree.ids()[token as usize]).collect();
            ids.extend(prefix.iter().rev());
            ids.reverse();
            let difference = hidden.select(1, place) - alone(model, &ids);
            worst = worst.max(difference.abs().max().double_value(&[]));
            place += 1;
        }
    }
    worst
}

fn trees() -> impl Strategy<Value = (Vec<i64>, TokenTree)> {
    let tokens = prop::collection::vec((0..VOCAB, any::<prop::sample::Index>(), any::<bool>()), 0..14);
    (prop::collection::vec(0..VOCAB, 1..12), tokens).prop_map(|(prefix, tokens)| {
        let mut tree = TokenTree::default();
        for (id, parent, root) in tokens {
            let parent = (!root && !tree.is_empty()).then(|| parent.index(tree.len()) as u32);
            tree.push(id, parent);
        }
        (prefix, tree)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn several_trees_in_one_row(rows in prop::collection::vec(trees(), 1..4), family in 0usize..5, window in prop::option::of(2i64..8)) {
        let model = tiny(Architecture::ALL[family % Architecture::ALL.len()], window);
        let (prefixes, trees): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        let mut cu_seqlens = vec![0];
        cu_seqlens.extend(prefixes.iter().scan(0, |sum, prefix| { *sum += prefix.len() as i64; Some(*sum) }));
        let ids: Vec<i64> = prefixes.iter().flatten().chain(trees.iter().flat_map(|tree| tree.ids())).copied().collect();
        let first = cu_seqlens[prefixes.len()] as usize;
        let pattern = AttentionPattern::Trees { cu_seqlens, trees: trees.clone() };
        no_grad(|| {
            let hidden = model.forward(&row(&ids), &pattern, None);
            prop_assert!(worst(&model, &prefixes, &trees, &hidden, first) < 1e-4);
            Ok(())
        })?;
    }

    #[test]
    fn a_tree_on_a_cache_leaves_only_its_prefix_there((text, tree) in trees(), read in 0usize..12) {
        let model = tiny(Architecture::Llama, None);
        let read = read.min(text.len());
        no_grad(|| {
            let mut cache = model.new_cache(1, 4);
            if read > 0 {
                let _ = model.forward(&row(&text[..read]), &AttentionPattern::Causal, Some(&mut cache));
            }
            let ids: Vec<i64> = text[read..].iter().chain(tree.ids()).copied().collect();
            if !ids.is_empty() {
                let cu_seqlens = vec![0, (text.len() - read) as i64];
                let pattern = AttentionPattern::Trees { cu_seqlens, trees: vec![tree.clone()] };
                let hidden = model.forward(&row(&ids), &pattern, Some(&mut cache));
                prop_assert!(worst(&model, std::slice::from_ref(&text), std::slice::from_ref(&tree), &hidden, text.len() - read) < 1e-4);
            }
            prop_assert_eq!(cache.row_lengths(), &[text.len() as i64]);
            // what comes after the tree is not disturbed by it
            let next = model.forward(&row(&[3]), &AttentionPattern::Causal, Some(&mut cache)).select(1, -1);
            let whole: Vec<i64> = text.iter().copied().chain([3]).collect();
            prop_assert!((next - alone(&model, &whole)).abs().max().double_value(&[]) < 1e-4);
            Ok(())
        })?;
    }
}

/// Begun in one pass with the text, gone on with in another, a token of each in turn.
#[test]
fn continuations_are_read_as_texts_of_their_own() {
    for (text, window) in [(vec![5i64, 9, 2, 7], None), (vec![], None), (vec![5, 9, 2, 7], Some(3))] {
        let model = tiny(Architecture::Llama, window);
        let ways: [&[i64]; 2] = [&[3, 8, 1], &[6, 4, 4]];
        no_grad(|| {
            let mut cache = model.new_cache(1, 4);
            let begun: Vec<i64> = text.iter().copied().chain([3, 8, 6]).collect();
            let pattern = |owners: Vec<u32>| AttentionPattern::Continuations { text: text.len() as i64, owners };
            let first = model.forward(&row(&begun), &pattern(vec![0, 0, 1]), Some(&mut cache));
            let second = model.forward(&row(&[4, 1]), &pattern(vec![0, 0, 1, 1, 0]), Some(&mut cache));
            let third = model.forward(&row(&[4]), &pattern(vec![0, 0, 1, 1, 0, 1]), Some(&mut cache));
            let read = text.len() as i64;
            for (hidden, way, tokens) in [
                (first.select(1, read), 0, 1),
                (first.select(1, read + 1), 0, 2),
                (first.select(1, read + 2), 1, 1),
                (second.select(1, 0), 1, 2),
                (second.select(1, 1), 0, 3),
                (third.select(1, 0), 1, 3),
            ] {
                let whole: Vec<i64> = text.iter().chain(&ways[way][..tokens]).copied().collect();
                let far = (hidden - alone(&model, &whole)).abs().max().double_value(&[]);
                assert!(far < 1e-4, "{far} at token {tokens} of continuation {way} behind {text:?}, window {window:?}");
            }
        });
    }
}
