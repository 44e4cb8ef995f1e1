//! One optimiser step.

use std::time::{Duration, Instant};

use data::batch::MicroBatch;
use model::CausalLm;
use model::gradient_checkpointing::TrainingPass;
use tch::{Kind, Tensor};

use crate::TrainError;
use crate::adamw::AdamW;
use crate::distribution::Ranks;
use crate::gradients::{Gradients, StepShape};
use crate::neftune;
use crate::objectives::{Loss, Objective, Totals};
use crate::seeds::derive_seed;

/// What learns, and how.
#[derive(Debug)]
pub struct Learner<'a> {
    /// The model.
    pub model: &'a mut CausalLm,
    /// Gradients of its trainable parameters.
    pub gradients: Gradients<'a>,
    /// Updates the same parameters.
    pub optimizer: AdamW,
}

/// Numbers of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepSettings {
    /// Of the run; dropout and noise are drawn from (seed, step, rank, micro-batch).
    pub seed: u64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Longer gradients are scaled down to it; 0 never.
    pub max_grad_norm: f64,
    /// See [`crate::config::TrainConfig::neftune_alpha`].
    pub neftune_alpha: f64,
}

/// What a step found; but for the seconds, the same numbers on every rank.
#[derive(Debug, Clone, PartialEq)]
pub struct StepMetrics {
    /// What was minimised.
    pub loss: f64,
    /// Parts of the loss without their weights, named by the objective.
    pub parts: Vec<(&'static str, f64)>,
    /// Length of the gradient before clipping.
    pub grad_norm: f64,
    /// Counts over the global batch.
    pub totals: Totals,
    /// Seconds of communication, and of waiting for other ranks, that nothing hid: on this rank, so not the same on every one. Host time:
    /// what a GPU waits for is not in it.
    pub communication_seconds: f64,
    /// False when loss or gradient was not finite; the weights are then as before.
    pub updated: bool,
}

/// Runs one optimiser step over the micro-batches of one rank.
///
/// Each part of the loss is a *sum* divided by a count of the whole global batch, so the gradient depends neither on how that
/// batch is cut into micro-batches nor on the number of ranks.
///
/// None where no rank has a sample: nothing was done then.
///
/// # Errors
/// libtorch refuses an operation, or another rank failed.
pub fn train_step(
    step: u64,
    learner: &mut Learner<'_>,
    objective: &dyn Objective,
    ranks: &Ranks,
    micro_batches: &[MicroBatch],
    settings: &StepSettings,
) -> Result<Option<StepMetrics>, TrainError> {
    let mut communication = Duration::ZERO;
    let (totals, shape) = timed(&mut communication, || agree(ranks, micro_batches))?;
    if totals.samples == 0.0 {
        return Ok(None);
    }
    let mut losses = LossSums::new(objective, learner.model);

    learner.gradients.begin(shape);
    for (index, micro_batch) in micro_batches.iter().enumerate() {
        let seed = derive_seed(settings.seed, &[step, ranks.rank() as u64, index as u64]);
        learner.model.set_dropout_seed(Some(seed));
        let pass = forward(learner.model, objective, micro_batch, seed, settings.neftune_alpha);
        let hidden = pass.hidden.squeeze_dim(0); // [tokens, hidden]
        let loss = objective.loss(learner.model, &hidden, micro_batch, &totals);
        learner.gradients.backward(pass, loss.total.as_ref(), index + 1 == micro_batches.len())?;
        losses.add(&loss);
    }
    learner.gradients.reduce()?;

    // Host syncs, once per step. All numbers are the same on every rank, so all ranks decide alike.
    let losses = losses.to_host()?;
    let sums = timed(&mut communication, || ranks.sum(&losses))?;
    let (loss, parts) = (sums[0], &sums[1..]);
    let grad_norm = learner.gradients.norm();
    let updated = loss.is_finite() && grad_norm.is_finite();
    if updated {
        learner.optimizer.step(
            &learner.gradients,
            settings.learning_rate,
            clip_scale(grad_norm, settings.max_grad_norm),
        );
        timed(&mut communication, || learner.optimizer.share(ranks))?;
    }
    communication += learner.gradients.communication();
    learner.gradients.clear();
    learner.model.set_dropout_seed(None);
    let parts = objective.part_names().iter().copied().zip(parts.iter().copied()).collect();
    let communication_seconds = communication.as_secs_f64();
    Ok(Some(StepMetrics { loss, parts, grad_norm, totals, communication_seconds, updated }))
}

/// Does `work` and adds its time.
fn timed<T>(sum: &mut Duration, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = work();
    *sum += started.elapsed();
    result
}

/// Hidden states of one micro-batch; noise is drawn from `seed`.
fn forward<'m>(
    model: &'m CausalLm,
    objective: &dyn Objective,
    batch: &MicroBatch,
    seed: u64,
    neftune_alpha: f64,
) -> TrainingPass<'m> {
    let embeddings = model.embed(&batch.input_ids.to_device(model.device())); // [1, tokens, hidden]
    let embeddings = if neftune_alpha > 0.0 {
        let noise = neftune::noise(&embeddings, &batch.cu_seqlens, neftune_alpha, seed);
        embeddings + noise
    } else {
        embeddings
    };
    let rows = objective.rows(batch);
    model.forward_training(&embeddings, &objective.pattern(batch), rows.as_deref())
}

/// Factor that brings a gradient of length `grad_norm` down to `max_grad_norm`; 1 when it is short enough or nothing clips.
fn clip_scale(grad_norm: f64, max_grad_norm: f64) -> f64 {
    if max_grad_norm > 0.0 && grad_norm > max_grad_norm { max_grad_norm / grad_norm } else { 1.0 }
}

/// Counts and shape of the global batch.
fn agree(ranks: &Ranks, micro_batches: &[MicroBatch]) -> Result<(Totals, StepShape), TrainError> {
    let totals = Totals::of(micro_batches);
    let shape = StepShape::of(micro_batches);
    let sums = ranks.sum(&[
        totals.label_tokens,
        totals.lists,
        totals.tokens,
        totals.samples,
        f64::from(u8::from(shape.several)),
        f64::from(u8::from(shape.silent)),
    ])?;
    let totals = Totals { label_tokens: sums[0], lists: sums[1], tokens: sums[2], samples: sums[3] };
    Ok((totals, StepShape { several: sums[4] > 0.0, silent: sums[5] > 0.0 }))
}

/// Loss and parts added up on the device.
#[derive(Debug)]
struct LossSums {
    sums: Vec<Tensor>,
}

impl LossSums {
    fn new(objective: &dyn Objective, model: &CausalLm) -> Self {
        let zero = || Tensor::zeros(1, (Kind::Double, model.device()));
        Self { sums: (0..=objective.part_names().len()).map(|_| zero()).collect() }
    }

    fn add(&mut self, loss: &Loss) {
        let values = std::iter::once(&loss.total).chain(&loss.parts);
        for (sum, value) in self.sums.iter_mut().zip(values) {
            if let Some(value) = value {
                *sum += value.detach();
            }
        }
    }

    /// Waits for the device.
    fn to_host(&self) -> Result<Vec<f64>, TrainError> {
        Vec::try_from(Tensor::cat(&self.sums, 0)).map_err(TrainError::torch("reading the loss"))
    }
}

#[cfg(test)]
mod tests {
    use super::clip_scale;

    #[test]
    fn long_gradients_are_brought_down() {
        assert_eq!(clip_scale(4.0, 1.0), 0.25);
        assert_eq!(clip_scale(0.5, 1.0), 1.0);
        assert_eq!(clip_scale(4.0, 0.0), 1.0);
    }
}
