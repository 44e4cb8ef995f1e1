//! Branches side by side: the fast path against a dense mask, all at once against column by column.

use model::{
    Architecture, AttentionPattern, BranchAlignment, BranchLength, CausalLm, ColumnLayout, ColumnTokens,
    ColumnarPositions, ColumnarRope, LoadOptions, ModelConfig,
};
use monopass_model as model;
use proptest::prelude::*;
use tch::{Device, Kind, Tensor, no_grad};

const VOCAB: i64 = 50;

fn tiny(architecture: Architecture, rope: Option<ColumnarRope>) -> CausalLm {
    let config = ModelConfig { columnar_rope: rope, ..ModelConfig::tiny(architecture, VOCAB) };
    CausalLm::random(config, 5, &LoadOptions { device: Device::Cpu, kind: Kind::Float })
}

const POSITIONS: [ColumnarPositions; 3] =
    [ColumnarPositions::Linear, ColumnarPositions::Column, ColumnarPositions::BranchOffset];

fn row(ids: &[i64]) -> Tensor {
    Tensor::from_slice(ids).unsqueeze(0)
}

fn ids(len: usize) -> Vec<i64> {
    (0..len as i64).map(|i| (i * 7 + i * i) % VOCAB).collect()
}

fn layouts() -> impl Strategy<Value = ColumnLayout> {
    let branch = (1usize..6, 0usize..6).prop_map(|(prompt, answer)| BranchLength { prompt, answer });
    (0usize..9, prop::collection::vec(branch, 1..6), any::<bool>()).prop_map(|(background, branches, ends)| {
        ColumnLayout::new(background, &branches, if ends { BranchAlignment::Ends } else { BranchAlignment::Prompts })
    })
}

fn pattern(tokens: Vec<ColumnTokens>) -> AttentionPattern {
    AttentionPattern::Columnar { layouts: tokens }
}

fn close(a: &Tensor, b: &Tensor) -> bool {
    a.size() == b.size() && (a - b).abs().max().double_value(&[]) < 1e-4
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn column_by_column_gives_the_states_of_all_at_once(layout in layouts(), family in 0usize..4, stride in 1u8..40, cut in 0usize..12) {
        let positions = POSITIONS[stride as usize % 3];
        let rope = ColumnarRope { pairs: vec![1, 3, 2], branch_stride: f64::from(stride), positions };
        let model = tiny(Architecture::ALL[family], Some(rope));
        let ids = ids(layout.len());
        no_grad(|| {
            let whole = model.forward(&row(&ids), &pattern(vec![layout.tokens(0..layout.len())]), None);
            let mut cache = model.new_cache(1, 4);
            let mut parts = Vec::new();
            let mut begin = 0;
            // The first columns in one pass, the others one by one, as a decoder goes.
            while begin < layout.len() {
                let wanted = if begin == 0 { cut as u32 } else { layout.places()[begin].column };
                let column = wanted.max(layout.places()[begin].column);
                let end = begin + layout.places()[begin..].iter().take_while(|place| place.column <= column).count();
                let tokens = pattern(vec![layout.tokens(begin..end)]);
                parts.push(model.forward(&row(&ids[begin..end]), &tokens, Some(&mut cache)));
                begin = end;
            }
            prop_assert!(close(&Tensor::cat(&parts, 1), &whole));
            Ok(())
        })?;
    }

    #[test]
    fn packed_and_padded_layouts_do_not_see_each_other(pair in prop::collection::vec(layouts(), 2..4)) {
        let model = tiny(Architecture::Llama, Some(ColumnarRope { pairs: vec![0, 2], branch_stride: 4.0, positions: ColumnarPositions::Linear }));
        no_grad(|| {
            let alone = |layout: &ColumnLayout| {
                model.forward(&row(&ids(layout.len())), &pattern(vec![layout.tokens(0..layout.len())]), None)
            };
            let wanted: Vec<Tensor> = pair.iter().map(alone).collect();
            let tokens: Vec<ColumnTokens> = pair.iter().map(|layout| layout.tokens(0..layout.len())).collect();
            let together: Vec<i64> = pair.iter().flat_map(|layout| ids(layout.len())).collect();
            let packed = model.forward(&row(&together), &pattern(tokens.clone()), None);
            prop_assert!(close(&packed, &Tensor::cat(&wanted, 1)));
            let longest = pair.iter().map(ColumnLayout::len).max().unwrap();
            let rows: Vec<Tensor> = pair.iter().map(|layout| {
                let mut ids = ids(layout.len());
                ids.resize(longest, 0);
                row(&ids)
            }).collect();
            let mut cache = model.new_cache(pair.len() as i64, 4);
            let padded = model.forward(&Tensor::cat(&rows, 0), &pattern(tokens), Some(&mut cache));
            for (index, (layout, wanted)) in pair.iter().zip(&wanted).enumerate() {
                let own = padded.narrow(0, index as i64, 1).narrow(1, 0, layout.len() as i64);
                prop_assert!(close(&own, wanted));
                prop_assert_eq!(cache.row_lengths()[index], layout.len() as i64);
            }
            Ok(())
        })?;
    }
}

/// One branch behind its background is an ordinary text, also where later branches would stand elsewhere.
#[test]
fn one_branch_is_the_ordinary_model() {
    let offset = ColumnarRope { pairs: vec![], branch_stride: 32.0, positions: ColumnarPositions::BranchOffset };
    let ropes = [None, Some(offset)];
    for (architecture, rope) in Architecture::ALL.into_iter().flat_map(|a| ropes.clone().map(|rope| (a, rope))) {
        let model = tiny(architecture, rope);
        let layout = ColumnLayout::new(5, &[BranchLength { prompt: 3, answer: 4 }], BranchAlignment::Prompts);
        let ids = ids(layout.len());
        no_grad(|| {
            let columnar = model.forward(&row(&ids), &pattern(vec![layout.tokens(0..layout.len())]), None);
            let ordinary = model.forward(&row(&ids), &AttentionPattern::Causal, None);
            assert!((columnar - ordinary).abs().max().double_value(&[]) < 1e-6);
        });
    }
}

/// A branch is another text without the other branch's earlier columns: they are read.
#[test]
fn branches_read_each_others_past_and_not_their_present() {
    let model = tiny(Architecture::Llama, None);
    let branch = BranchLength { prompt: 2, answer: 1 };
    let layout = ColumnLayout::new(2, &[branch, branch], BranchAlignment::Prompts);
    let state = |changed: usize| {
        let mut ids = ids(layout.len());
        ids[changed] = (ids[changed] + 1) % VOCAB;
        no_grad(|| model.forward(&row(&ids), &pattern(vec![layout.tokens(0..layout.len())]), None))
    };
    // Order: b0 b1 | P0 Q0 | P1 Q1 | A0 A1
    let unchanged = no_grad(|| model.forward(&row(&ids(8)), &pattern(vec![layout.tokens(0..8)]), None));
    let differs =
        |changed: usize, seen: i64| (state(changed) - &unchanged).select(1, seen).abs().max().double_value(&[]) > 1e-6;
    assert!(differs(3, 4), "P1 reads Q0, a column earlier");
    assert!(!differs(3, 2), "P0 does not read Q0 beside it");
    assert!(!differs(5, 4) && differs(5, 6), "Q1 is read in the next column");
}
