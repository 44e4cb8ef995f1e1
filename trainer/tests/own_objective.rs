//! An objective of one's own, as docs/own-objective.md walks through it; only what the library shows to everybody is used.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use data::batch::{MicroBatch, RankTarget};
use model::config::Architecture;
use model::{CausalLm, LoadOptions, ModelConfig};
use monopass_trainer as trainer;
use tch::{Device, Kind, Tensor};
use trainer::adamw::AdamW;
use trainer::gradients::{GradientOptions, Gradients};
use trainer::objectives::{Loss, Objective, Totals};
use trainer::train_step::{Learner, StepSettings, train_step};
use trainer::{Precision, Ranks, TrainConfig};

// [objective]
/// Finds the best candidate and nothing else: the row that predicts the first identifier, read as a classifier whose classes are the
/// list's identifiers.
struct BestCandidate;

impl Objective for BestCandidate {
    fn name(&self) -> &'static str {
        "best_candidate"
    }

    fn part_names(&self) -> &'static [&'static str] {
        &["best"]
    }

    fn rows(&self, batch: &MicroBatch) -> Option<Vec<i64>> {
        // The answer's tokens are not learned, so that only these rows leave the last layer.
        Some(batch.rankings.iter().map(|list| list.row).collect())
    }

    fn loss(&self, model: &CausalLm, hidden: &Tensor, batch: &MicroBatch, totals: &Totals) -> Loss {
        let of_list = |list: &RankTarget| {
            let row = hidden.narrow(0, list.row, 1); // [1, hidden]
            let identifiers = Tensor::from_slice(&list.identifier_ids).to_device(hidden.device());
            let logits = model.logits(&row, Some(&identifiers)).to_kind(Kind::Float); // [1, candidates]
            let best = list.ranks.iter().position(|rank| *rank == 1)? as i64;
            Some(-logits.log_softmax(-1, Kind::Float).narrow(1, best, 1).sum(Kind::Float))
        };
        // A sum over this micro-batch by a count of the whole global batch: the cut into micro-batches changes nothing.
        let sum = batch.rankings.iter().filter_map(of_list).reduce(|sum, one| sum + one);
        let best = sum.map(|sum| sum / totals.lists);
        Loss { total: best.as_ref().map(Tensor::shallow_clone), parts: vec![best] }
    }
}
// [/objective]

/// Lists of four numbers; the best candidate is the third where the first number is odd, else the second.
fn batch(lists: std::ops::Range<i64>) -> MicroBatch {
    let (mut ids, mut cu_seqlens, mut rankings) = (Vec::new(), vec![0], Vec::new());
    for list in lists.clone() {
        ids.extend([list + 1, 20, 21, 22, 38]);
        let ranks = if list % 2 == 0 { vec![2, 3, 1, 4] } else { vec![2, 1, 3, 4] };
        rankings.push(RankTarget { row: ids.len() as i64 - 1, identifier_ids: (30..34).collect(), ranks });
        cu_seqlens.push(ids.len() as i64);
    }
    let none: [i64; 0] = [];
    MicroBatch {
        input_ids: Tensor::from_slice(&ids).unsqueeze(0),
        cu_seqlens,
        label_rows: Tensor::from_slice(&none),
        labels: Tensor::from_slice(&none),
        rankings,
        query_ids: lists.map(|list| list.to_string()).collect(),
        layouts: Vec::new(),
    }
}

/// Losses of `steps` steps over eight lists in micro-batches of `size`.
fn train(steps: u64, size: usize) -> Vec<f64> {
    let config = TrainConfig { precision: Precision::Fp32, ..TrainConfig::default() };
    let options = LoadOptions { device: Device::Cpu, kind: Kind::Float };
    let mut model = CausalLm::random(ModelConfig::tiny(Architecture::Llama, 40), 1, &options);
    model.train_all();
    let ranks = Ranks::single();
    let parameters = model.trainable_parameters();
    let tensors = parameters.iter().map(|parameter| parameter.tensor.shallow_clone()).collect();
    let optimizer = AdamW::new(parameters, &config, &ranks);
    let gradients = Gradients::new(tensors, GradientOptions::of(&config), &ranks).unwrap();
    let mut learner = Learner { model: &mut model, gradients, optimizer };
    let settings = StepSettings { seed: 1, learning_rate: 5e-3, max_grad_norm: 1.0, neftune_alpha: 0.0 };
    let micro_batches: Vec<MicroBatch> = (0..8).step_by(size).map(|begin| batch(begin..begin + size as i64)).collect();
    let step = |step| {
        let metrics = train_step(step, &mut learner, &BestCandidate, &ranks, &micro_batches, &settings).unwrap();
        metrics.expect("the samples fit").loss
    };
    (0..steps).map(step).collect()
}

#[test]
fn it_learns_and_does_not_depend_on_the_cut() {
    let whole = train(40, 8);
    assert!(whole[39] < 0.1 * whole[0], "{} {}", whole[0], whole[39]);
    let cut = train(2, 2);
    for (whole, cut) in whole.iter().zip(&cut) {
        assert!((whole - cut).abs() < 1e-4 * whole, "{whole} {cut}");
    }
}

#[test]
fn the_page_shows_this_code() {
    let own = include_str!("own_objective.rs");
    let code = own.split("// [objective]\n").nth(1).unwrap().split("// [/objective]").next().unwrap();
    let page = include_str!("../../docs/own-objective.md");
    assert!(page.contains(code), "docs/own-objective.md shows other code than this test compiles");
}
