//! Heads learn an order that the states give away.

use std::ops::ControlFlow;

use model::{BlockwiseHeads, MedusaHeads};
use tch::{Device, Kind, Tensor};

use super::*;
use crate::seeds::uniform;

const N: usize = 6;
const HIDDEN: i64 = 16;

/// Orders at random; every state of a list holds the place of each candidate, and noise in the other features.
fn table(lists: u64, seed: u64, kind: Kind) -> StateTable {
    let (mut states, mut orders) = (Vec::new(), Vec::new());
    for list in 0..lists {
        let keys = uniform(derive_seed(seed, &[list]), N);
        let mut order: Vec<i64> = (0..N as i64).collect();
        order.sort_by(|a, b| keys[*a as usize].total_cmp(&keys[*b as usize]));
        for place in 0..N as u64 {
            let mut state = uniform(derive_seed(seed, &[list, place, 1]), HIDDEN as usize);
            for (rank, candidate) in order.iter().enumerate() {
                state[*candidate as usize] = 1.0 - rank as f32 / 3.0;
            }
            states.extend(state);
        }
        orders.extend(order);
    }
    let size = [lists as i64, N as i64, HIDDEN];
    StateTable {
        states: Tensor::from_slice(&states).view(size).to_kind(kind),
        orders: Tensor::from_slice(&orders).view([lists as i64, N as i64]),
    }
}

fn rows() -> Tensor {
    Tensor::from_slice(&uniform(3, N * HIDDEN as usize)).view([N as i64, HIDDEN])
}

fn config() -> DraftHeadConfig {
    DraftHeadConfig { learning_rate: 1e-2, batch_size: 20, epochs: 30, patience: 30 }
}

#[test]
fn heads_learn_an_order_that_the_states_tell() {
    let (train, validation) = (table(300, 1, Kind::Float), table(60, 2, Kind::Float));
    let blockwise = BlockwiseHeads::new(&rows(), N - 1, 8, 5);
    let medusa = MedusaHeads::new(&rows(), 3);
    for heads in [&blockwise as &dyn DraftHeads, &medusa] {
        let untrained = DraftHeadConfig { learning_rate: 1e-12, epochs: 1, ..config() };
        let before =
            train_draft_heads(heads, &train, &validation, &untrained, 1, &mut |_| ControlFlow::Continue(())).unwrap();
        let after =
            train_draft_heads(heads, &train, &validation, &config(), 1, &mut |_| ControlFlow::Continue(())).unwrap();
        assert!(after.best_validation_loss < 0.3 * before.best_validation_loss, "{before:?} {after:?}");
        assert_eq!(after.top1_accuracy.len(), heads.num_heads());
        assert!(after.top1_accuracy.iter().take(N - 2).all(|share| *share > Some(0.9)), "{after:?}");
        assert!(after.top1_accuracy.iter().skip(N - 2).all(Option::is_none), "the last place is never guessed");
        assert!(heads.named_tensors().iter().all(|(_, tensor)| !tensor.requires_grad()));
    }
}

#[test]
fn the_same_call_gives_the_same_weights_and_bf16_states_do_too() {
    let (train, validation) = (table(40, 1, Kind::BFloat16), table(10, 2, Kind::BFloat16));
    let run = |seed: u64| {
        let heads = BlockwiseHeads::new(&rows(), 3, 4, 5);
        let config = DraftHeadConfig { epochs: 3, ..config() };
        let report =
            train_draft_heads(&heads, &train, &validation, &config, seed, &mut |_| ControlFlow::Continue(())).unwrap();
        (report.best_validation_loss, heads.named_tensors())
    };
    let (first, again, other) = (run(7), run(7), run(8));
    assert_eq!(first, again);
    assert_ne!(first.0.to_bits(), other.0.to_bits(), "another seed draws lists in another order");
}

#[test]
fn the_best_weights_stay_when_training_goes_wrong() {
    let (train, validation) = (table(40, 1, Kind::Float), table(10, 2, Kind::Float));
    let heads = BlockwiseHeads::new(&rows(), 3, 4, 5);
    let before: Vec<Tensor> = heads.named_tensors().iter().map(|(_, tensor)| tensor.copy()).collect();
    // steps so long that the loss can only grow
    let config = DraftHeadConfig { learning_rate: 1e4, epochs: 9, patience: 2, ..config() };
    let report =
        train_draft_heads(&heads, &train, &validation, &config, 1, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((report.epochs, report.best_epoch), (2, 0));
    for (before, (name, after)) in before.iter().zip(heads.named_tensors()) {
        assert_eq!(*before, after, "{name}");
    }
}

#[test]
fn what_does_not_fit_is_said() {
    let heads = MedusaHeads::new(&rows(), 3);
    let message = |train: &StateTable, config: &DraftHeadConfig| {
        train_draft_heads(&heads, train, &table(4, 2, Kind::Float), config, 1, &mut |_| ControlFlow::Continue(()))
            .unwrap_err()
            .to_string()
    };
    let good = || table(4, 1, Kind::Float);
    assert!(message(&good(), &DraftHeadConfig { epochs: 0, ..config() }).contains("`epochs` is 0"));
    let short = StateTable { orders: good().orders.narrow(1, 0, 5), ..good() };
    assert!(message(&short, &config()).contains("wanted [lists, 6] Int64"), "{}", message(&short, &config()));
    let repeated = StateTable { orders: good().orders.zeros_like(), ..good() };
    assert!(message(&repeated, &config()).contains("no permutation"));
    let narrow = StateTable { states: good().states.narrow(2, 0, 8), ..good() };
    assert!(message(&narrow, &config()).contains("wanted [4, 6, 16]"));
    let other = MedusaHeads::new(&Tensor::randn([5, HIDDEN], (Kind::Float, Device::Cpu)), 3);
    let error = train_draft_heads(&other, &good(), &good(), &config(), 1, &mut |_| ControlFlow::Continue(()))
        .unwrap_err()
        .to_string();
    assert!(error.contains("[lists, 5]"), "{error}");
}
