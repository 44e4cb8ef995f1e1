//! Training of blockwise and Medusa heads on the states of the model's own rankings.

use std::ops::ControlFlow;
use std::time::Instant;

use model::DraftHeads;
use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad};

use super::draft_loss::Pairs;
use super::{Adam, DraftHeadConfig, HeadProgress, StateTable, WatchHead};
use crate::TrainError;
use crate::seeds::derive_seed;

/// Adam's decay rates and epsilon, the paper's.
const BETAS: [f64; 2] = [0.9, 0.999];
const EPS: f64 = 1e-8;

/// How training went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DraftHeadReport {
    /// Epochs trained.
    pub epochs: u64,
    /// The one whose weights were kept; 0 when training made nothing better.
    pub best_epoch: u64,
    /// Validation loss of the kept weights, nats.
    pub best_validation_loss: f64,
    /// Share of places that each head guesses right on the validation lists, given the items before them; `None` for a head
    /// that has none to guess.
    pub top1_accuracy: Vec<Option<f64>>,
    /// Wall clock.
    pub seconds: f64,
}

/// Trains `heads` on `train`: cross entropy over the items not placed before the place guessed, mean over lists, places and
/// heads. After each epoch the loss on `validation` is taken; the heads are left with the weights that had the lowest one, the
/// untrained ones included. Lists are drawn in an order by `seed` and epoch, so that the same call gives the same weights.
///
/// # Errors
/// Settings out of range; tables that do not fit the heads; states that are not finite; `watch` that breaks off.
pub fn train_draft_heads(
    heads: &dyn DraftHeads,
    train: &StateTable,
    validation: &StateTable,
    config: &DraftHeadConfig,
    seed: u64,
    watch: &mut WatchHead<'_>,
) -> Result<DraftHeadReport, TrainError> {
    let started = Instant::now();
    let pairs = check(heads, train, validation, config)?;
    let parameters: Vec<Tensor> = heads.named_tensors().into_iter().map(|(_, tensor)| tensor).collect();
    let copies = parameters.iter().map(Tensor::shallow_clone).collect();
    let mut adam = Adam::new(copies, config.learning_rate, BETAS, EPS);
    let mut best = Best::of(evaluate(heads, &pairs, validation, config)?, 0, &parameters);
    if !best.validation.loss.is_finite() {
        let loss = best.validation.loss;
        let problem = format!("the loss on the validation states is {loss} before training, wanted a finite one");
        return Err(TrainError::Config { problems: vec![problem] });
    }
    let (mut epochs, mut last) = (0, best.validation.loss);
    let batches = (train.num_lists() as usize).div_ceil(config.batch_size);
    let steps = batches * config.epochs as usize;
    while epochs < config.epochs && epochs - best.epoch < config.patience {
        epochs += 1;
        let before = (epochs as usize - 1) * batches;
        let mut after_batch = |batch: usize| {
            let step = before + batch;
            let asked = watch(HeadProgress { step, steps, validation: last });
            // What is finished is kept.
            if step == steps { ControlFlow::Continue(()) } else { asked }
        };
        train_epoch(heads, &pairs, train, config, &mut adam, derive_seed(seed, &[epochs]), &mut after_batch)?;
        let validation = evaluate(heads, &pairs, validation, config)?;
        last = validation.loss;
        tracing::debug!("draft heads: epoch {epochs}, validation loss {}", validation.loss);
        if validation.loss < best.validation.loss {
            best = Best::of(validation, epochs, &parameters);
        }
    }
    best.restore(&parameters);
    Ok(DraftHeadReport {
        epochs,
        best_epoch: best.epoch,
        best_validation_loss: best.validation.loss,
        top1_accuracy: best.validation.top1_accuracy,
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn check(
    heads: &dyn DraftHeads,
    train: &StateTable,
    validation: &StateTable,
    config: &DraftHeadConfig,
) -> Result<Pairs, TrainError> {
    let mut problems = config.validate();
    problems.extend(train.problems("training", heads));
    problems.extend(validation.problems("validation", heads));
    if heads.num_candidates() < 3 || heads.num_heads() == 0 {
        let (n, count) = (heads.num_candidates(), heads.num_heads());
        problems.push(format!("{count} heads for lists of {n} have nothing to guess, wanted a head and 3 candidates"));
    }
    if problems.is_empty() { Ok(Pairs::of(heads)) } else { Err(TrainError::Config { problems }) }
}

fn train_epoch(
    heads: &dyn DraftHeads,
    pairs: &Pairs,
    train: &StateTable,
    config: &DraftHeadConfig,
    adam: &mut Adam,
    seed: u64,
    after_batch: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<(), TrainError> {
    let mut order: Vec<i64> = (0..train.num_lists()).collect();
    order.sort_by_cached_key(|list| derive_seed(seed, &[*list as u64]));
    for (index, batch) in order.chunks(config.batch_size).enumerate() {
        let (states, orders) = train.batch(batch, heads.device());
        let (loss, _) = pairs.loss(heads, &states, &orders);
        adam.zero_grad();
        loss.backward();
        adam.step();
        if after_batch(index + 1).is_break() {
            return Err(TrainError::Stopped);
        }
    }
    Ok(())
}

/// Figures of the validation lists.
struct Validation {
    loss: f64,
    top1_accuracy: Vec<Option<f64>>,
}

fn evaluate(
    heads: &dyn DraftHeads,
    pairs: &Pairs,
    table: &StateTable,
    config: &DraftHeadConfig,
) -> Result<Validation, TrainError> {
    let lists: Vec<i64> = (0..table.num_lists()).collect();
    let mut sum = 0.0;
    let (mut right, mut guesses) = (vec![0; heads.num_heads()], vec![0; heads.num_heads()]);
    for batch in lists.chunks(config.batch_size) {
        let (states, orders) = table.batch(batch, heads.device());
        let (loss, of_pairs) = no_grad(|| pairs.loss(heads, &states, &orders));
        sum += loss.double_value(&[]) * batch.len() as f64;
        let of_pairs = Vec::<i64>::try_from(&of_pairs).map_err(TrainError::torch("counting right guesses"))?;
        for (head, count) in pairs.head_of.iter().zip(of_pairs) {
            right[*head] += count;
            guesses[*head] += batch.len() as i64;
        }
    }
    let share = |(right, guesses): (&i64, &i64)| (*guesses > 0).then(|| *right as f64 / *guesses as f64);
    Ok(Validation { loss: sum / lists.len() as f64, top1_accuracy: right.iter().zip(&guesses).map(share).collect() })
}

/// The best weights so far.
struct Best {
    epoch: u64,
    validation: Validation,
    weights: Vec<Tensor>,
}

impl Best {
    fn of(validation: Validation, epoch: u64, parameters: &[Tensor]) -> Self {
        Self { epoch, validation, weights: parameters.iter().map(|tensor| tensor.detach().copy()).collect() }
    }

    /// Puts them back; the heads are no longer trainable.
    fn restore(&self, parameters: &[Tensor]) {
        no_grad(|| {
            for (parameter, weight) in parameters.iter().zip(&self.weights) {
                parameter.shallow_clone().copy_(weight);
            }
        });
        for parameter in parameters {
            let mut parameter = parameter.set_requires_grad(false);
            parameter.zero_grad();
        }
    }
}

#[cfg(test)]
mod tests;
