//! Steps tokenised ahead of the device, in an order that threads cannot change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, bounded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    LoaderConfig, RankingTokens, SampleOrder, SamplePlace, SampleSource, StepBatch, TokenSource, TokenizedSample, pack,
};
use crate::DataError;
use crate::prompt::PromptBuilder;

/// What happens to a sample longer than a micro-batch (or than the context).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TooLong {
    /// Its place in the step stays empty; counted.
    #[default]
    Skip,
    /// Stop with its id and both lengths.
    Error,
}

/// Options beyond the order of samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Shuffle every candidate list anew each epoch, the target with it (position then says nothing). Of lists only.
    pub shuffle_candidates: bool,
    /// Samples that do not fit.
    pub too_long: TooLong,
    /// Tokens of a sample at most, beside the micro-batch's limit: the model's context. Default: none.
    pub max_sample_tokens: Option<usize>,
    /// Tokenising threads. Default: 1 (a step's tokenising takes milliseconds, the step itself seconds).
    pub threads: usize,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        Self { shuffle_candidates: false, too_long: TooLong::default(), max_sample_tokens: None, threads: 1 }
    }
}

/// Samples left out of this rank's steps so far. Steps tokenised ahead are counted when they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkipCounts {
    /// Longer than a micro-batch or the context.
    pub too_long: u64,
}

/// Iterator over this rank's steps. Dropping it stops its threads.
#[derive(Debug)]
pub struct Loader {
    receivers: Vec<Receiver<Result<StepBatch, DataError>>>,
    workers: Vec<JoinHandle<()>>,
    too_long: Arc<AtomicU64>,
    start_step: u64,
    next_step: u64,
    num_steps: u64,
}

/// What every thread needs.
struct Job {
    source: Arc<dyn TokenSource>,
    config: LoaderConfig,
    options: LoaderOptions,
    too_long: Arc<AtomicU64>,
}

impl Loader {
    /// Steps `start_step..config.num_steps` of lists; the same steps whether or not those before were produced here.
    ///
    /// # Errors
    /// Settings that cannot work, or an empty set.
    pub fn new(
        source: Arc<dyn SampleSource>,
        builder: PromptBuilder,
        config: LoaderConfig,
        start_step: u64,
    ) -> Result<Self, DataError> {
        Self::with_options(source, builder, config, LoaderOptions::default(), start_step)
    }

    /// As [`Self::new`], with options.
    pub fn with_options(
        source: Arc<dyn SampleSource>,
        builder: PromptBuilder,
        config: LoaderConfig,
        options: LoaderOptions,
        start_step: u64,
    ) -> Result<Self, DataError> {
        let tokens = RankingTokens { source, builder, shuffle_candidates: options.shuffle_candidates };
        Self::of_tokens(Arc::new(tokens), config, options, start_step)
    }

    /// Steps of any samples.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_tokens(
        source: Arc<dyn TokenSource>,
        config: LoaderConfig,
        options: LoaderOptions,
        start_step: u64,
    ) -> Result<Self, DataError> {
        let mut problems = config.validate();
        if source.is_empty() {
            problems.push("the training set is empty".to_owned());
        }
        if !problems.is_empty() {
            return Err(DataError::Config { problems });
        }
        let threads = options.threads.max(1);
        let ahead = config.prefetch_steps.max(1).div_ceil(threads);
        let num_steps = config.num_steps;
        let too_long = Arc::new(AtomicU64::new(0));
        let job = Arc::new(Job { source, config, options, too_long: Arc::clone(&too_long) });
        let mut receivers = Vec::new();
        let mut workers = Vec::new();
        for thread in 0..threads as u64 {
            let (sender, receiver) = bounded(ahead);
            let job = Arc::clone(&job);
            let work = move || {
                let mut order = SampleOrder::new(job.config.seed, job.source.len(), job.config.shuffle);
                for step in (start_step + thread..job.config.num_steps).step_by(threads) {
                    let batch = job.step(step, &mut order);
                    let failed = batch.is_err();
                    // A closed channel means the loader was dropped: nobody wants more.
                    if sender.send(batch).is_err() || failed {
                        return;
                    }
                }
            };
            let name = format!("tokenise-{thread}");
            let worker = std::thread::Builder::new()
                .name(name)
                .spawn(work)
                .map_err(|source| DataError::Io { path: "a tokenising thread".into(), source })?;
            receivers.push(receiver);
            workers.push(worker);
        }
        Ok(Self { receivers, workers, too_long, start_step, next_step: start_step, num_steps })
    }

    /// Samples left out so far.
    #[must_use]
    pub fn skipped(&self) -> SkipCounts {
        SkipCounts { too_long: self.too_long.load(Ordering::Relaxed) }
    }

    /// True when the next step is ready, so that taking it does not wait.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.next_step >= self.num_steps || !self.receiver().is_empty()
    }

    /// Steps are dealt to the threads in turn, so the next one always comes from a known thread.
    fn receiver(&self) -> &Receiver<Result<StepBatch, DataError>> {
        &self.receivers[((self.next_step - self.start_step) % self.receivers.len() as u64) as usize]
    }
}

impl Iterator for Loader {
    type Item = Result<StepBatch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next_step >= self.num_steps {
            return None;
        }
        let batch = self.receiver().recv().unwrap_or(Err(DataError::WorkerStopped { step: self.next_step }));
        // After an error nothing more comes: the order would have a hole.
        self.next_step = if batch.is_ok() { self.next_step + 1 } else { self.num_steps };
        Some(batch)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.receivers.clear();
        for worker in self.workers.drain(..) {
            // A worker that panicked has already been reported by the missing step.
            let _ = worker.join();
        }
    }
}

impl Job {
    fn step(&self, step: u64, order: &mut SampleOrder) -> Result<StepBatch, DataError> {
        let places = order.step(step, &self.config);
        let mut samples = Vec::with_capacity(places.len());
        for place in &places {
            samples.extend(self.tokenized(*place)?);
        }
        // Where none fits the step is empty: the trainer looks at all ranks.
        let micro_batches = pack(&samples, self.config.micro_batch_size, self.config.max_micro_batch_tokens);
        let epoch = places.first().map_or(0, |place| place.epoch);
        Ok(StepBatch { step, epoch, micro_batches })
    }

    /// Tokens of one sample; None when it is too long and may be skipped.
    fn tokenized(&self, place: SamplePlace) -> Result<Option<TokenizedSample>, DataError> {
        let limit = self.config.max_micro_batch_tokens.min(self.options.max_sample_tokens.unwrap_or(usize::MAX));
        let tokenized = match self.source.tokens(place, self.config.seed) {
            Ok(tokenized) if tokenized.input_ids.len() <= limit => return Ok(Some(tokenized)),
            Ok(tokenized) => self.source.too_long(&tokenized, limit),
            Err(error) => error,
        };
        match tokenized {
            DataError::PromptTooLong { .. } | DataError::TextTooLong { .. }
                if self.options.too_long == TooLong::Skip =>
            {
                self.too_long.fetch_add(1, Ordering::Relaxed);
                Ok(None)
            }
            error => Err(error),
        }
    }
}
