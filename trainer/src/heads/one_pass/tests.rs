use std::ops::ControlFlow;

use model::one_pass::{OnePassSettings, Variant};
use tch::Device;

use super::*;

fn scorer(variant: Variant, target: HeadTarget) -> Scorer {
    let settings = OnePassSettings { variant, target, n_group: 3, ..OnePassSettings::default() };
    Scorer::new(12, settings, Device::Cpu).unwrap()
}

/// Lists whose probabilities belong to a teacher that avoids what is placed and likes the others by a hidden utility, with
/// noise: the order is the utility's.
fn lists(scorer: &Scorer, count: i64, seed: u64) -> (Tensor, Vec<Vec<u16>>) {
    let mut stream = Stream::new("lists of a test", &[seed]);
    let mut normal = |size: &[i64]| {
        let values: Vec<f32> = (0..size.iter().product()).map(|_: i64| stream.normal() as f32).collect();
        Tensor::from_slice(&values).view(size)
    };
    let n = scorer.num_candidates() as i64;
    let utility = normal(&[count, 1, n]) * 2.0;
    let nodes = scorer.tree().nodes();
    let mut placed = vec![0.0f32; nodes.len() * n as usize];
    for (row, node) in nodes.iter().enumerate() {
        node.iter().for_each(|slot| placed[row * n as usize + usize::from(*slot)] = 6.0);
    }
    let placed = Tensor::from_slice(&placed).view([1, -1, n]);
    let noise = normal(&[count, nodes.len() as i64, n]) * 0.8;
    let p = (&utility - placed + noise).softmax(-1, Kind::Float);
    let order = utility.squeeze_dim(1).argsort(-1, true);
    let orders = Vec::<Vec<i64>>::try_from(order).unwrap();
    (p, orders.into_iter().map(|order| order.into_iter().map(|slot| slot as u16).collect()).collect())
}

#[test]
fn a_head_learns_and_a_second_run_gives_the_same_weights() {
    for (variant, target) in [(Variant::OnePass, HeadTarget::TopK), (Variant::WoMobius2, HeadTarget::Listwise)] {
        let scorer = scorer(variant, target);
        let ((p, orders), (vp, vorders)) = (lists(&scorer, 48, 1), lists(&scorer, 24, 2));
        // The published target says little of an order: its loss falls by less than dropout moves it.
        let dropout = if target == HeadTarget::TopK { 0.0 } else { 0.1 };
        let config =
            OnePassHeadConfig { epochs: 6, learning_rate: Some(1e-2), dropout, ..OnePassHeadConfig::default() };
        let run = || {
            let train = OnePassLists { probabilities: &p, orders: &orders };
            let validation = OnePassLists { probabilities: &vp, orders: &vorders };
            train_one_pass(&scorer, &train, &validation, &config, 5, &mut |_| ControlFlow::Continue(())).unwrap()
        };
        let ((head, report), (again, _)) = (run(), run());
        let best = report.validation[report.best_look];
        assert!(report.validation.iter().all(|score| *score <= best), "{report:?}");
        // The listwise loss is over lists that the head itself continues, so it may rise while the order gets better.
        let learned = match target {
            HeadTarget::TopK => report.losses.last() < report.losses.first(),
            HeadTarget::Listwise => best > report.validation[0],
        };
        assert!(learned, "{variant:?}: nothing learned: {report:?}");
        let kept = kendall_score(&scorer, &head, &OnePassLists { probabilities: &vp, orders: &vorders });
        assert!((kept - best).abs() < 1e-12, "the best weights are kept");
        for ((name, a), (_, b)) in head.named_tensors().into_iter().zip(again.named_tensors()) {
            assert_eq!(a, b, "{name}");
        }
    }
}

#[test]
fn whoever_watches_sees_every_step_and_can_break_off() {
    let scorer = scorer(Variant::OnePass, HeadTarget::TopK);
    let ((p, orders), (vp, vorders)) = (lists(&scorer, 12, 1), lists(&scorer, 8, 2));
    let train = OnePassLists { probabilities: &p, orders: &orders };
    let validation = OnePassLists { probabilities: &vp, orders: &vorders };
    let config = OnePassHeadConfig { batch_size: 5, epochs: 2, patience: 99, ..OnePassHeadConfig::default() };
    let mut seen = Vec::new();
    let mut watch = |stop_after: usize| {
        seen.clear();
        let result = train_one_pass(&scorer, &train, &validation, &config, 5, &mut |now| {
            seen.push(now);
            if now.step == stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        (result, seen.clone())
    };
    let (whole, steps) = watch(99);
    let scores = whole.unwrap().1.validation;
    assert_eq!(
        steps.iter().map(|now| (now.step, now.steps)).collect::<Vec<_>>(),
        (1..=6).map(|s| (s, 6)).collect::<Vec<_>>()
    );
    assert_eq!((steps[0].validation, steps[5].validation), (scores[0], scores[1]));
    let (broken, steps) = watch(4);
    assert!(matches!(broken, Err(crate::TrainError::Stopped)) && steps.len() == 4);
}

#[test]
fn the_validation_lists_are_looked_at_as_often_as_told() {
    let scorer = scorer(Variant::OnePass, HeadTarget::TopK);
    let ((p, orders), (vp, vorders)) = (lists(&scorer, 12, 1), lists(&scorer, 8, 2));
    let looks = |config: OnePassHeadConfig| {
        let train = OnePassLists { probabilities: &p, orders: &orders };
        let validation = OnePassLists { probabilities: &vp, orders: &vorders };
        let (_, report) =
            train_one_pass(&scorer, &train, &validation, &config, 5, &mut |_| ControlFlow::Continue(())).unwrap();
        (report.validation.len() - 1, report.best_look)
    };
    let config = OnePassHeadConfig { batch_size: 2, epochs: 2, patience: 99, ..OnePassHeadConfig::default() };
    assert_eq!(looks(config.clone()).0, 2, "after each epoch");
    assert_eq!(looks(OnePassHeadConfig { eval_every: Some(5), ..config.clone() }).0, 2, "after steps 5 and 10 of 12");
    assert_eq!(looks(OnePassHeadConfig { eval_every: Some(1), ..config.clone() }).0, 12);
    assert_eq!(
        looks(OnePassHeadConfig { eval_every: Some(99), ..config.clone() }).0,
        1,
        "at the end, where none came before"
    );
    let (number, best) = looks(OnePassHeadConfig { eval_every: Some(1), patience: 1, ..config });
    assert!(number == best + 1 || number == 12, "{number} {best}");
}

#[test]
fn targets_are_the_next_items_before_the_steps_own_choice() {
    let order: Vec<u16> = vec![3, 1, 0, 2];
    let mut placing = Placing::new(1, 4);
    placing.place(0, 3);
    let like = Tensor::zeros([1, 4], (Kind::Float, Device::Cpu));
    let row = |placing: &Placing| Vec::<f32>::try_from(next_items(placing, &[&order], 2, &like).view(-1)).unwrap();
    assert_eq!(row(&placing), [1.0, 1.0, 0.0, 0.0]);
    placing.place(0, 1);
    assert_eq!(row(&placing), [1.0, 0.0, 1.0, 0.0], "as published, a right choice would be taught as wrong");
    assert_eq!(pairs_in_order(&[3, 1, 0, 2], &order), 1.0);
    assert_eq!(pairs_in_order(&[2, 0, 1, 3], &order), 0.0);
}

/// The loss of one list in float64, item by item.
fn written_out(scorer: &Scorer, head: &HierarchicalAttention, p: &Tensor, order: &[u16]) -> f64 {
    let config = OnePassHeadConfig::default();
    let published = scorer.settings().arithmetic == Arithmetic::AsPublished;
    let listwise = scorer.settings().target == HeadTarget::Listwise;
    let (n, prepared) = (order.len(), scorer.prepare(p, Some(head)));
    let (mut placed, mut losses) = (vec![order[0]], Vec::new());
    while placed.len() + 1 < n {
        let mut placing = Placing::new(1, n);
        placed.iter().for_each(|slot| placing.place(0, *slot));
        let scores = scorer.scores(&prepared, &placing, Some(head), None);
        let scores = Vec::<f64>::try_from(scores.detach().to_kind(Kind::Double).view(-1)).unwrap();
        let open: Vec<u16> = (0..n as u16).filter(|slot| !placed.contains(slot)).collect();
        let score = |slot: &u16| scores[usize::from(*slot)];
        let best = open.iter().copied().reduce(|best, slot| if score(&slot) > score(&best) { slot } else { best });
        let known = if published { [placed.as_slice(), &[best.unwrap()]].concat() } else { placed.clone() };
        let next: Vec<u16> = order.iter().copied().filter(|slot| !known.contains(slot)).collect();
        let cross_entropy = |slot: &u16| {
            let right = next.iter().take(config.loss_top_k).any(|own| own == slot);
            let probability = 1.0 / (1.0 + (-score(slot)).exp());
            -(if right { probability } else { 1.0 - probability }).ln()
        };
        let mean = |slots: &[u16]| slots.iter().map(cross_entropy).sum::<f64>() / slots.len() as f64;
        losses.push(if listwise {
            let sum: f64 = open.iter().map(|slot| (score(slot) / config.temperature).exp()).sum();
            sum.ln() - score(&next[0]) / config.temperature
        } else if published {
            mean(&(0..n as u16).collect::<Vec<_>>())
        } else {
            mean(&open)
        });
        placed.push(best.unwrap());
    }
    losses.iter().sum::<f64>() / losses.len() as f64
}

#[test]
fn losses_are_those_of_the_formulas_written_out() {
    for (arithmetic, target) in [
        (Arithmetic::Corrected, HeadTarget::TopK),
        (Arithmetic::Corrected, HeadTarget::Listwise),
        (Arithmetic::AsPublished, HeadTarget::TopK),
    ] {
        let settings = OnePassSettings { n_group: 2, arithmetic, target, ..OnePassSettings::default() };
        let scorer = Scorer::new(7, settings, Device::Cpu).unwrap();
        let head = HierarchicalAttention::new(7, 3, Device::Cpu);
        let config = OnePassHeadConfig { dropout: 0.0, ..OnePassHeadConfig::default() };
        let (p, orders) = lists(&scorer, 3, 9);
        let each = (0..3).map(|list| written_out(&scorer, &head, &p.narrow(0, list, 1), &orders[list as usize]));
        let wanted = each.sum::<f64>() / 3.0;
        let all: Vec<&[u16]> = orders.iter().map(Vec::as_slice).collect();
        let got = step_loss(&scorer, &head, &p, &all, &config, DropoutSeed(1)).double_value(&[]);
        assert!((got - wanted).abs() < 1e-5 * wanted.abs().max(1.0), "{arithmetic:?} {target:?}: {got}, {wanted}");
    }
}

#[test]
fn bad_settings_are_all_named() {
    let config = OnePassHeadConfig {
        loss_top_k: 0,
        epochs: 0,
        learning_rate: Some(0.0),
        dropout: 1.0,
        ..OnePassHeadConfig::default()
    };
    assert_eq!(config.validate().len(), 4);
    assert!(OnePassHeadConfig::default().validate().is_empty());
}
