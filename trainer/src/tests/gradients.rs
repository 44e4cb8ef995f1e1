//! The gradient of a global batch does not depend on how it is cut.

use tch::{Kind, Tensor};

use super::support::{config, micro_batch, model};
use crate::Ranks;
use crate::adamw::AdamW;
use crate::config::{Precision, TrainConfig};
use crate::gradients::{GradientOptions, Gradients};
use crate::train_step::{Learner, StepMetrics, StepSettings, train_step};

/// One step over samples 0..8 in micro-batches of `size`; with beta1 = 0 the first moment *is* the gradient.
fn gradient(config: &TrainConfig, size: usize) -> (StepMetrics, Vec<Tensor>) {
    let config = TrainConfig { betas: [0.0, 0.999], ..config.clone() };
    let mut model = model(config.precision, 1);
    model.train_all();
    model.set_gradient_checkpointing(config.gradient_checkpointing);
    let ranks = Ranks::single();
    let parameters = model.trainable_parameters();
    let tensors = parameters.iter().map(|parameter| parameter.tensor.shallow_clone()).collect();
    let optimizer = AdamW::new(parameters, &config, &Ranks::single());
    let gradients = Gradients::new(tensors, GradientOptions::of(&config), &ranks).unwrap();
    let mut learner = Learner { model: &mut model, gradients, optimizer };
    let indices: Vec<u64> = (0..8).collect();
    let micro_batches: Vec<_> = indices.chunks(size).map(micro_batch).collect();
    let settings =
        StepSettings { seed: 1, learning_rate: 0.0, max_grad_norm: 0.0, neftune_alpha: config.neftune_alpha };
    let objective = config.objective.build();
    let metrics = train_step(0, &mut learner, objective.as_ref(), &ranks, &micro_batches, &settings).unwrap().unwrap();
    let moments = learner.optimizer.state().into_iter().filter(|(name, _)| name.starts_with("exp_avg."));
    (metrics, moments.map(|(_, tensor)| tensor).collect())
}

fn largest_difference(one: &[Tensor], other: &[Tensor]) -> f64 {
    let scale = one.iter().map(|tensor| tensor.abs().max().double_value(&[])).fold(0.0, f64::max);
    let difference = |(a, b): (&Tensor, &Tensor)| (a - b).abs().max().double_value(&[]);
    one.iter().zip(other).map(difference).fold(0.0, f64::max) / scale
}

#[test]
fn micro_batches_do_not_change_the_gradient() {
    let (metrics, whole) = gradient(&config(), 8);
    assert!(metrics.updated && metrics.grad_norm > 0.0);
    for size in [4, 2, 1] {
        let (cut_metrics, cut) = gradient(&config(), size);
        let difference = largest_difference(&whole, &cut);
        assert!(difference < 1e-5, "micro-batches of {size}: {difference}");
        assert!((metrics.loss - cut_metrics.loss).abs() < 1e-5 * metrics.loss, "{metrics:?} {cut_metrics:?}");
        assert_eq!(metrics.totals, cut_metrics.totals);
    }
}

#[test]
fn checkpointed_activations_do_not_change_the_gradient() {
    let (_, kept) = gradient(&config(), 4);
    let (_, recomputed) = gradient(&TrainConfig { gradient_checkpointing: true, ..config() }, 4);
    let difference = largest_difference(&kept, &recomputed);
    assert!(difference < 1e-5, "{difference}");
}

#[test]
fn bf16_gradients_of_many_micro_batches_are_added_in_float32() {
    let (_, exact) = gradient(&config(), 8);
    let bf16 = TrainConfig { precision: Precision::Bf16Master, ..config() };
    let (_, whole) = gradient(&bf16, 8);
    let (_, cut) = gradient(&bf16, 1);
    // A sum of bf16 numbers that was itself rounded to bf16 would be equal to its rounding.
    let rounded = |gradient: &[Tensor]| -> Vec<Tensor> {
        gradient.iter().map(|tensor| tensor.to_kind(Kind::BFloat16).to_kind(Kind::Float)).collect()
    };
    assert_eq!(largest_difference(&whole, &rounded(&whole)), 0.0);
    assert!(largest_difference(&cut, &rounded(&cut)) > 1e-4);
    let (whole, cut) = (largest_difference(&exact, &whole), largest_difference(&exact, &cut));
    assert!(cut < 0.05 && whole < 0.05, "{whole} {cut}");
}

#[test]
fn noise_is_drawn_in_training_and_only_when_asked_for() {
    let noisy = TrainConfig { neftune_alpha: 5.0, ..config() };
    let (plain, _) = gradient(&config(), 4);
    let (first, _) = gradient(&noisy, 4);
    let (second, _) = gradient(&noisy, 4);
    assert_ne!(plain.loss, first.loss);
    assert_eq!((first.loss, first.grad_norm, first.parts), (second.loss, second.grad_norm, second.parts));
}
