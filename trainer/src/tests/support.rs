//! A model of two layers, lists to rank, and the shortest way to a training run.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data::DataError;
use data::batch::{LoaderConfig, MicroBatch, RankTarget, StepBatch};
use model::{Architecture, CausalLm, LoadOptions, ModelConfig};
use tch::{Device, Tensor};

use crate::config::{CheckpointConfig, Precision, TrainConfig};
use crate::objectives::{FirstConfig, ObjectiveConfig};
use crate::{Ranks, Run, Schedule, StepBatches, TrainError, TrainReport};

pub const VOCAB: i64 = 40;
/// Token that makes any loss it is part of not a number, see [`poisoned_model`].
pub const POISON: i64 = 39;
const OPENING: i64 = 38;
const FIRST_IDENTIFIER: i64 = 30;
const CANDIDATES: usize = 4;

pub fn model(precision: Precision, seed: u64) -> CausalLm {
    let options = LoadOptions { device: Device::Cpu, kind: precision.weights() };
    CausalLm::random(ModelConfig::tiny(Architecture::Llama, VOCAB), seed, &options)
}

/// A model whose input embedding of [`POISON`] is NaN, and nothing else.
pub fn poisoned_model() -> CausalLm {
    let mut config = ModelConfig::tiny(Architecture::Llama, VOCAB);
    config.tie_word_embeddings = false;
    let options = LoadOptions { device: Device::Cpu, kind: tch::Kind::Float };
    let mut model = CausalLm::random(config, 1, &options);
    model.train_all();
    let embedding = model
        .trainable_parameters()
        .into_iter()
        .find(|parameter| parameter.name.contains("embed_tokens"))
        .expect("the model has embeddings");
    let _ = tch::no_grad(|| embedding.tensor.detach().get(POISON).fill_(f64::NAN));
    model
}

pub fn config() -> TrainConfig {
    TrainConfig {
        objective: ObjectiveConfig::First(FirstConfig::default()),
        learning_rate: 5e-3,
        schedule: Schedule::Linear,
        warmup_steps: Some(2),
        precision: Precision::Fp32,
        global_batch_size: 8,
        micro_batch_size: 4,
        max_steps: Some(6),
        epochs: 100,
        checkpoint: CheckpointConfig { every_steps: 2, keep: 3, background: None },
        ..TrainConfig::default()
    }
}

/// Sample `index`: four numbers; the answer names them from the largest to the smallest.
pub fn sample(index: u64) -> (Vec<i64>, Vec<i64>) {
    let mut numbers: Vec<i64> = (1..20).collect();
    let mut state = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for place in 0..CANDIDATES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let left = numbers.len() - place;
        numbers.swap(place, place + (state >> 33) as usize % left);
    }
    numbers.truncate(CANDIDATES);
    let mut order: Vec<usize> = (0..CANDIDATES).collect();
    order.sort_by_key(|candidate| std::cmp::Reverse(numbers[*candidate]));
    let mut ranks = vec![0; CANDIDATES];
    for (rank, candidate) in order.iter().enumerate() {
        ranks[*candidate] = rank as i64 + 1;
    }
    // Samples differ in length, as real ones do.
    numbers.extend(std::iter::repeat_n(20, index as usize % 3));
    (numbers, ranks)
}

pub fn micro_batch(indices: &[u64]) -> MicroBatch {
    let (mut ids, mut rows, mut labels) = (Vec::<i64>::new(), Vec::<i64>::new(), Vec::<i64>::new());
    let (mut cu_seqlens, mut rankings) = (vec![0], Vec::new());
    for index in indices {
        let (prompt, ranks) = sample(*index);
        ids.extend(&prompt);
        ids.push(OPENING);
        let row = ids.len() as i64 - 1;
        let mut answer = vec![0; CANDIDATES];
        for (candidate, rank) in ranks.iter().enumerate() {
            answer[*rank as usize - 1] = FIRST_IDENTIFIER + candidate as i64;
        }
        rows.extend(row..row + answer.len() as i64);
        labels.extend(&answer);
        ids.extend(&answer[..answer.len() - 1]);
        cu_seqlens.push(ids.len() as i64);
        let identifier_ids = (0..CANDIDATES as i64).map(|candidate| FIRST_IDENTIFIER + candidate).collect();
        rankings.push(RankTarget { row, identifier_ids, ranks });
    }
    MicroBatch {
        input_ids: Tensor::from_slice(&ids).unsqueeze(0),
        cu_seqlens,
        label_rows: Tensor::from_slice(&rows),
        labels: Tensor::from_slice(&labels),
        rankings,
        query_ids: indices.iter().map(u64::to_string).collect(),
        layouts: Vec::new(),
    }
}

/// One rank's share of a step: a contiguous part of the global batch, cut into micro-batches.
pub fn step_batch(config: &LoaderConfig, step: u64) -> StepBatch {
    let per_rank = config.global_batch_size / config.world_size;
    let start = step * config.global_batch_size as u64 + (config.rank * per_rank) as u64;
    let indices: Vec<u64> = (start..start + per_rank as u64).collect();
    let micro_batches = indices.chunks(config.micro_batch_size).map(micro_batch).collect();
    StepBatch { step, epoch: 0, micro_batches }
}

/// The loader every test starts from; `change` may alter a step's batch or fail.
pub fn loader(
    change: impl Fn(&mut StepBatch) -> Result<(), DataError> + Clone + 'static,
) -> impl FnMut(&LoaderConfig, u64) -> Result<StepBatches, DataError> {
    move |config, first| {
        let (config, change) = (config.clone(), change.clone());
        let steps = (first..config.num_steps).map(move |step| {
            let mut batch = step_batch(&config, step);
            change(&mut batch).map(|()| batch)
        });
        Ok(Box::new(steps))
    }
}

/// Trains on one process in `folder`; `stop_after` interrupts after so many steps.
pub fn train_until(
    model: &mut CausalLm,
    config: &TrainConfig,
    folder: &Path,
    stop_after: Option<u64>,
) -> Result<TrainReport, TrainError> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&stop);
    let mut loader = loader(move |batch| {
        raised.store(stop_after == Some(batch.step + 1), Ordering::Relaxed);
        Ok(())
    });
    crate::train(model, &mut loader, config, run(folder, &Ranks::single(), &stop))
}

pub fn run<'a>(folder: &'a Path, ranks: &'a Ranks, stop: &'a AtomicBool) -> Run<'a> {
    Run {
        folder,
        seed: 5,
        num_samples: 1000,
        context_length: usize::MAX,
        data_fingerprint: "memory",
        ranks,
        stop,
        evaluate: None,
        quiet: true,
    }
}

/// libtorch's generator is one for the whole process: tests that need its numbers to repeat, or draw from it, take turns.
pub fn generator_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Values of a key in the lines of one kind of `metrics.jsonl`.
pub fn logged(folder: &Path, key: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["kind"] == "train")
        .map(|line| line[key].as_f64().unwrap_or(f64::NAN))
        .collect()
}

/// Copies of all trainable weights.
pub fn weights(model: &CausalLm) -> Vec<(String, Tensor)> {
    let parameters = model.trainable_parameters();
    parameters.into_iter().map(|parameter| (parameter.name, parameter.tensor.detach().copy())).collect()
}

/// True when names and bits are equal.
pub fn same_bits(one: &[(String, Tensor)], other: &[(String, Tensor)]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|((name, a), (other_name, b))| name == other_name && a.equal(b))
}
