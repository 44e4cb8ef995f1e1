//! Gradients of one optimiser step: accumulated over micro-batches, reduced over ranks, measured, dropped.
//!
//! Over ranks, gradients travel in one of two ways, and both sum:
//! - *overlapped*: c10d's reducer sends each bucket while the backward pass of the last micro-batch goes on; earlier
//!   micro-batches accumulate locally;
//! - *afterwards*: buckets are sent through the same process group when the last backward pass is over. Taken for float32
//!   accumulation of bf16 gradients (what travels is then the float32 sum, which autograd's hooks never see), for gradient
//!   checkpointing (hooks would fire inside nested backward passes), and for any step in which some rank's last
//!   micro-batch has nothing to learn from.

use std::time::{Duration, Instant};

use data::batch::MicroBatch;
use model::gradient_checkpointing::TrainingPass;
use native::c10d::{Reducer, clear_gradient};
use tch::{Kind, Tensor};

use crate::TrainError;
use crate::config::TrainConfig;
use crate::distribution::Ranks;

/// Bytes of one message: c10d's own default for DistributedDataParallel.
const BUCKET_BYTES: i64 = 25 << 20;

/// How gradients are held and sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct GradientOptions {
    /// Add the gradients of several micro-batches in float32 whatever their kind.
    pub accumulate_in_float32: bool,
    /// Send float32 gradients as bf16.
    pub reduce_in_bf16: bool,
    /// The model checkpoints its activations, so nothing can be sent during the backward pass.
    pub recomputes: bool,
}

impl GradientOptions {
    /// As a stage's settings ask for.
    pub fn of(config: &TrainConfig) -> Self {
        Self {
            accumulate_in_float32: config.precision.keeps_masters(),
            reduce_in_bf16: config.grad_reduce_in_bf16,
            recomputes: config.gradient_checkpointing,
        }
    }
}

/// The gradients of the trainable parameters, in their order.
#[derive(Debug)]
pub struct Gradients<'a> {
    parameters: Vec<Tensor>,
    options: GradientOptions,
    /// Float32 sums, made at the first step of several micro-batches and kept.
    sums: Option<Vec<Tensor>>,
    ranks: &'a Ranks,
    reducer: Option<Reducer<'a>>,
    step: StepShape,
    communication: Duration,
}

/// What a step's micro-batches look like over all ranks; decides how its gradients are held and sent, so it must be the
/// same on every rank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepShape {
    /// Some rank has more than one micro-batch.
    pub several: bool,
    /// Some rank's last micro-batch is missing or has no labels.
    pub silent: bool,
}

impl StepShape {
    /// Of one rank's share.
    pub fn of(micro_batches: &[MicroBatch]) -> Self {
        Self {
            several: micro_batches.len() > 1,
            silent: micro_batches.last().is_none_or(|last| last.labels.numel() == 0),
        }
    }
}

impl<'a> Gradients<'a> {
    /// Of `parameters`, over `ranks`.
    ///
    /// # Errors
    /// The ranks' parameters differ.
    pub fn new(parameters: Vec<Tensor>, options: GradientOptions, ranks: &'a Ranks) -> Result<Self, TrainError> {
        let reducer = match ranks.group() {
            Some(group) if !options.recomputes => Some(
                group
                    .reducer(&parameters, BUCKET_BYTES, options.reduce_in_bf16)
                    .map_err(|source| ranks.explain("setting up the gradient reducer", source))?,
            ),
            _ => None,
        };
        Ok(Self {
            parameters,
            options,
            sums: None,
            ranks,
            reducer,
            step: StepShape::default(),
            communication: Duration::ZERO,
        })
    }

    /// Starts a step; gradients of the one before are gone.
    pub fn begin(&mut self, step: StepShape) {
        self.clear();
        self.step = step;
        self.communication = Duration::ZERO;
        if self.in_sums() {
            let zeros = |parameter: &Tensor| parameter.detach().to_kind(Kind::Float).zeros_like();
            let sums = self.sums.get_or_insert_with(|| self.parameters.iter().map(zeros).collect());
            // Zeroed in place: fresh memory would be page-faulted in anew every step.
            for sum in sums {
                let _ = sum.zero_();
            }
        }
    }

    /// Backward pass of one micro-batch, added to the step's gradients. `is_last` lets the reducer send them.
    ///
    /// # Errors
    /// libtorch refuses, or another rank failed while gradients were sent.
    pub fn backward(&mut self, pass: TrainingPass<'_>, loss: Option<&Tensor>, is_last: bool) -> Result<(), TrainError> {
        let Some(loss) = loss else { return Ok(()) };
        let sends = is_last && self.overlapped();
        if let (true, Some(reducer)) = (sends, &self.reducer) {
            reducer.prepare().map_err(|source| self.ranks.explain("preparing the gradient reducer", source))?;
        }
        if self.options.recomputes {
            pass.backward(loss);
        } else {
            loss.f_backward().map_err(|source| self.explain_backward(sends, source))?;
        }
        if let (true, Some(reducer)) = (sends, &self.reducer) {
            self.communication += reducer.since_last_sent();
        }
        if self.in_sums() {
            self.move_into_sums();
        }
        Ok(())
    }

    /// Adds the step's gradients up over ranks, unless the reducer did.
    ///
    /// # Errors
    /// Another rank failed.
    pub fn reduce(&mut self) -> Result<(), TrainError> {
        let Some(group) = self.ranks.group() else { return Ok(()) };
        if self.overlapped() {
            return Ok(());
        }
        let started = Instant::now();
        self.fill_missing();
        let gradients: Vec<Tensor> = self.all().into_iter().flatten().collect();
        for bucket in buckets(&gradients) {
            let flat: Vec<Tensor> = bucket.iter().map(|gradient| gradient.flatten(0, -1)).collect();
            let mut flat = Tensor::cat(&flat, 0); // [elements of the bucket]
            if self.options.reduce_in_bf16 {
                flat = flat.to_kind(Kind::BFloat16);
            }
            group
                .all_reduce_sum(&mut flat)
                .map_err(|source| self.ranks.explain("adding gradients up over ranks", source))?;
            let mut start = 0;
            for gradient in bucket {
                let length = gradient.numel() as i64;
                gradient.shallow_clone().copy_(&flat.narrow(0, start, length).view_as(gradient));
                start += length;
            }
        }
        self.communication += started.elapsed();
        Ok(())
    }

    /// Time of this step in which gradients travelled, or other ranks were waited for, and nothing was computed meanwhile.
    pub fn communication(&self) -> Duration {
        self.communication
    }

    /// Length of the gradient over all parameters. Waits for the device.
    pub fn norm(&self) -> f64 {
        let gradients: Vec<Tensor> = self.all().into_iter().flatten().collect();
        native::optim::sum_of_squares(&gradients).sqrt()
    }

    /// The gradient of each parameter; None where the loss did not reach it.
    pub fn all(&self) -> Vec<Option<Tensor>> {
        match (&self.sums, self.in_sums()) {
            (Some(sums), true) => sums.iter().map(|sum| Some(sum.shallow_clone())).collect(),
            _ => self.parameters.iter().map(|parameter| Some(parameter.grad()).filter(Tensor::defined)).collect(),
        }
    }

    /// Drops the gradients; their memory serves the next forward pass.
    pub fn clear(&mut self) {
        self.parameters.iter_mut().for_each(clear_gradient);
    }

    fn in_sums(&self) -> bool {
        self.options.accumulate_in_float32 && self.step.several
    }

    fn overlapped(&self) -> bool {
        self.reducer.is_some() && !self.step.silent && !self.in_sums()
    }

    fn move_into_sums(&mut self) {
        let Some(sums) = &mut self.sums else { return };
        tch::no_grad(|| {
            for (parameter, sum) in self.parameters.iter_mut().zip(sums) {
                let gradient = parameter.grad();
                if gradient.defined() {
                    let _ = sum.g_add_(&gradient);
                    clear_gradient(parameter);
                }
            }
        });
    }

    /// Zeros where this rank's loss did not reach a parameter: another rank's may have.
    fn fill_missing(&mut self) {
        if self.in_sums() {
            return;
        }
        for parameter in &mut self.parameters {
            if !parameter.grad().defined() {
                // A sum over nothing: its gradient is a defined zero.
                (parameter.flatten(0, -1).narrow(0, 0, 1).sum(parameter.kind()) * 0.0).backward();
            }
        }
    }

    fn explain_backward(&self, sends: bool, source: tch::TchError) -> TrainError {
        if sends {
            let message = source.to_string().lines().next().unwrap_or_default().to_owned();
            return self.ranks.explain("the backward pass", native::c10d::C10dError::Failed { message });
        }
        TrainError::Torch { doing: "the backward pass".to_owned(), source }
    }
}

/// Neighbours of one kind, at most [`BUCKET_BYTES`] together unless a single one is larger.
pub(crate) fn buckets(gradients: &[Tensor]) -> Vec<&[Tensor]> {
    let bytes = |gradient: &Tensor| gradient.numel() as i64 * gradient.kind().elt_size_in_bytes() as i64;
    let mut buckets = Vec::new();
    let (mut start, mut held) = (0, 0);
    for (index, gradient) in gradients.iter().enumerate() {
        let joins =
            index > start && held + bytes(gradient) <= BUCKET_BYTES && gradient.kind() == gradients[start].kind();
        if !joins && index > start {
            buckets.push(&gradients[start..index]);
            (start, held) = (index, 0);
        }
        held += bytes(gradient);
    }
    if start < gradients.len() {
        buckets.push(&gradients[start..]);
    }
    buckets
}
