//! `bench train-step`: how fast one machine trains, by a protocol that any framework can repeat.
//!
//! One sequence of `prompt_tokens` + `label_tokens` random ids, labels on the last `label_tokens`; AdamW (learning rate 2e-5,
//! no decay) with masters and moments as the precision has them; one warm-up step, then `steps` measured ones; tokens per second from
//! the median step. Peak memory is the process's largest resident set.

use std::time::Instant;

use data::batch::MicroBatch;
use model::CausalLm;
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::TrainError;
use crate::adamw::AdamW;
use crate::config::{Precision, TrainConfig};
use crate::distribution::Ranks;
use crate::gradients::{GradientOptions, Gradients, StepShape};
use crate::objectives::{Objective, RankZephyr, Totals};

/// Figures of [`train_step`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainStepFigures {
    /// Tokens (prompt and label) per second, from the median step.
    pub tokens_per_second: f64,
    /// Median step.
    pub seconds: f64,
    /// Median forward pass and loss.
    pub forward_seconds: f64,
    /// Median backward pass.
    pub backward_seconds: f64,
    /// Median update.
    pub optimizer_seconds: f64,
    /// Largest resident set of the process so far; on a GPU the fullest moment of its tensors.
    pub peak_rss_mib: f64,
    /// Loss of the last step.
    pub loss: f64,
    /// What was measured, in words.
    pub protocol: String,
}

/// Measures training steps; all weights of `model` become trainable and change.
///
/// # Errors
/// libtorch refuses an operation.
pub fn train_step(
    model: &mut CausalLm,
    prompt_tokens: i64,
    label_tokens: i64,
    steps: usize,
    precision: Precision,
    gradient_checkpointing: bool,
) -> Result<TrainStepFigures, TrainError> {
    let config = TrainConfig { learning_rate: 2e-5, precision, ..TrainConfig::default() };
    model.train_all();
    model.set_gradient_checkpointing(gradient_checkpointing);
    let ranks = Ranks::single();
    let parameters = model.trainable_parameters();
    let tensors = parameters.iter().map(|parameter| parameter.tensor.shallow_clone()).collect();
    let mut optimizer = AdamW::new(parameters, &config, &ranks);
    let options = GradientOptions { recomputes: gradient_checkpointing, ..GradientOptions::default() };
    let mut gradients = Gradients::new(tensors, options, &ranks)?;
    let batch = random_batch(model.config.vocab_size, prompt_tokens, label_tokens);

    let mut seconds = Vec::new();
    let mut loss = f64::NAN;
    for step in 0..=steps {
        let (times, value) = measure(model, &batch, &mut gradients, &mut optimizer, config.learning_rate)?;
        loss = value;
        if step > 0 || steps == 0 {
            seconds.push(times);
        }
    }
    let median = |part: fn(&[f64; 3]) -> f64| median(seconds.iter().map(part).collect());
    let step_seconds = median(|times| times.iter().sum());
    Ok(TrainStepFigures {
        tokens_per_second: (prompt_tokens + label_tokens) as f64 / step_seconds,
        seconds: step_seconds,
        forward_seconds: median(|times| times[0]),
        backward_seconds: median(|times| times[1]),
        optimizer_seconds: median(|times| times[2]),
        peak_rss_mib: native::memory::peak_mib(model.device()),
        loss,
        protocol: format!(
            "one sequence of {prompt_tokens} prompt and {label_tokens} label tokens, {:?} weights, gradients and moments, AdamW, \
             1 warm-up and {steps} measured steps, median; {} threads",
            model.kind(),
            tch::get_num_threads()
        ),
    })
}

/// One step: seconds of forward, backward, update; and the loss.
fn measure(
    model: &CausalLm,
    batch: &MicroBatch,
    gradients: &mut Gradients<'_>,
    optimizer: &mut AdamW,
    learning_rate: f64,
) -> Result<([f64; 3], f64), TrainError> {
    let micro_batches = std::slice::from_ref(batch);
    let totals = Totals::of(micro_batches);
    let started = Instant::now();
    gradients.begin(StepShape::of(micro_batches));
    let embeddings = model.embed(&batch.input_ids.to_device(model.device())); // [1, tokens, hidden]
    let rows = RankZephyr.rows(batch);
    let pass = model.forward_training(&embeddings, &RankZephyr.pattern(batch), rows.as_deref());
    let hidden = pass.hidden.squeeze_dim(0); // [tokens, hidden]
    let loss = RankZephyr.loss(model, &hidden, batch, &totals).total;
    synchronise(model.device());
    let forward = started.elapsed();
    gradients.backward(pass, loss.as_ref(), true)?;
    synchronise(model.device());
    let backward = started.elapsed();
    optimizer.step(gradients, learning_rate, 1.0);
    gradients.clear();
    synchronise(model.device());
    let whole = started.elapsed();
    let times = [forward, backward - forward, whole - backward].map(|time| time.as_secs_f64());
    let loss = loss.map_or(Ok(f64::NAN), |loss| loss.f_double_value(&[]));
    Ok((times, loss.map_err(TrainError::torch("reading the loss"))?))
}

/// Random ids, the same in every run.
fn random_batch(vocab_size: i64, prompt_tokens: i64, label_tokens: i64) -> MicroBatch {
    tch::manual_seed(0);
    let tokens = prompt_tokens + label_tokens;
    let input_ids = Tensor::randint(vocab_size, [1, tokens], (Kind::Int64, Device::Cpu));
    MicroBatch {
        labels: input_ids.narrow(1, prompt_tokens, label_tokens).flatten(0, -1),
        label_rows: Tensor::arange_start(prompt_tokens - 1, tokens - 1, (Kind::Int64, Device::Cpu)),
        input_ids,
        cu_seqlens: vec![0, tokens],
        rankings: Vec::new(),
        query_ids: vec!["random".to_owned()],
        layouts: Vec::new(),
    }
}

fn synchronise(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
