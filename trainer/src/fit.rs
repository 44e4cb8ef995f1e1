//! The training loop of one stage.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use data::DataError;
use data::batch::{LoaderConfig, StepBatch};
use model::CausalLm;

use crate::TrainError;
use crate::checkpoint::{Found, TrainerState};
use crate::config::TrainConfig;
use crate::distribution::Ranks;
use crate::metrics::MetricsLog;
use crate::objectives::Objective;
use crate::progress::{Line, Progress};
use crate::saving::{Saver, Source};
use crate::studied_batch;
use crate::train_step::{Learner, StepMetrics, StepSettings, train_step};

/// The steps of one rank, in order.
pub type StepBatches = Box<dyn Iterator<Item = Result<StepBatch, DataError>>>;

/// Opens the loader at an optimiser step: `(settings, first step wanted)`.
pub type OpenLoader<'a> = dyn FnMut(&LoaderConfig, u64) -> Result<StepBatches, DataError> + 'a;

/// What an evaluation between steps returns: named numbers for the log.
pub type Evaluation = Result<Vec<(String, f64)>, Box<dyn std::error::Error + Send + Sync>>;

/// Evaluates the model after so many steps. Called on every rank at the same step.
pub type Evaluate<'a> = dyn FnMut(&CausalLm, u64) -> Evaluation + 'a;

/// What a stage runs with, beside its settings.
pub struct Run<'a> {
    /// Where `metrics.jsonl`, TensorBoard events and `checkpoints/` go.
    pub folder: &'a Path,
    /// Seed of the run.
    pub seed: u64,
    /// Samples of the training set.
    pub num_samples: u64,
    /// Tokens of a sample at most, `max_micro_batch_tokens` aside: the model's context.
    pub context_length: usize,
    /// Content hash of the training set: a checkpoint made on other data is not continued.
    pub data_fingerprint: &'a str,
    /// The processes of the run.
    pub ranks: &'a Ranks,
    /// Set (by a signal handler, say) to stop after the current step.
    pub stop: &'a AtomicBool,
    /// Called every `eval_every_steps`.
    pub evaluate: Option<&'a mut Evaluate<'a>>,
    /// Draw no bar; lines still go to the log, whose filter decides who sees them.
    pub quiet: bool,
}

impl std::fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("folder", &self.folder).field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All planned steps are done.
    Finished,
    /// Stopped by [`Run::stop`]; a checkpoint was written, and running again continues from it.
    Interrupted,
}

/// What a stage did.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainReport {
    /// Finished or interrupted.
    pub outcome: Outcome,
    /// Where the run stands, sums over all sessions included.
    pub state: TrainerState,
    /// Step of the checkpoint this session continued from.
    pub resumed_from: Option<u64>,
    /// Damaged checkpoints that were passed over.
    pub damaged_checkpoints: Vec<String>,
    /// Numbers of this session's last step.
    pub last: Option<StepMetrics>,
    /// Tokens read per second of training, over all ranks and sessions.
    pub tokens_per_second: f64,
}

/// The state of a stage in progress.
pub(crate) struct Fit<'a, 'r> {
    pub learner: Learner<'a>,
    pub objective: Box<dyn Objective>,
    pub config: &'a TrainConfig,
    pub run: Run<'r>,
    pub state: TrainerState,
    pub resumed: Option<Found>,
    pub saver: Saver,
    /// Steps without a sample that fits, in a row up to now.
    pub empty_steps: u64,
}

impl Fit<'_, '_> {
    /// Trains from `self.state.step` to the planned number of steps.
    pub fn fit(&mut self, open_loader: &mut OpenLoader<'_>) -> Result<TrainReport, TrainError> {
        let first = self.state.step;
        let mut batches = self.open(open_loader)?;
        let mut log = self.open_log()?;
        let mut progress = Progress::new(self.state.num_steps, first, self.run.quiet, !self.run.ranks.is_main());
        let mut last = None;
        native::memory::reset_peak(self.learner.model.device());

        for step in first..self.state.num_steps {
            let started = Instant::now();
            let batch = next_batch(&mut batches, step, self.state.num_steps)?;
            let waited = started.elapsed();

            let settings = self.step_settings(step);
            let metrics = train_step(
                step,
                &mut self.learner,
                self.objective.as_ref(),
                self.run.ranks,
                &batch.micro_batches,
                &settings,
            )?;
            self.count(&batch, metrics.as_ref(), started.elapsed());
            progress.step_done(step + 1);
            match &metrics {
                None => self.nothing_fitted(step)?,
                Some(metrics) => {
                    self.empty_steps = 0;
                    if !metrics.updated {
                        self.skipped(&batch, metrics)?;
                    }
                    if (step + 1).is_multiple_of(self.config.log_every) || step + 1 == self.state.num_steps {
                        let numbers = self.numbers(metrics, &settings, started.elapsed(), waited);
                        progress.line(&Line { step: step + 1, numbers: &numbers, left: self.time_left() });
                        write_log(&mut log, "train", step + 1, &numbers)?;
                    }
                }
            }
            if self.config.eval_every_steps.is_some_and(|every| (step + 1).is_multiple_of(every)) {
                self.evaluate(&progress, &mut log)?;
            }

            last = metrics.or(last);
            let flags = [self.run.stop.load(Ordering::Relaxed), self.saver.has_failed()];
            let flags = self.run.ranks.sum(&flags.map(|flag| f64::from(u8::from(flag))))?;
            let (stop, failed) = (flags[0] > 0.0, flags[1] > 0.0);
            if failed {
                self.saver.wait(self.run.ranks)?;
            }
            if stop || self.checkpoint_is_due() {
                self.save_checkpoint(stop || self.state.step == self.state.num_steps, &progress)?;
            }
            if stop && self.state.step < self.state.num_steps {
                return Ok(self.report(Outcome::Interrupted, last));
            }
        }
        Ok(self.report(Outcome::Finished, last))
    }

    fn open(&self, open_loader: &mut OpenLoader<'_>) -> Result<StepBatches, TrainError> {
        let (rank, world_size) = (self.run.ranks.rank(), self.run.ranks.world_size());
        let config = self.config.loader_config(self.run.seed, rank, world_size, self.state.num_steps);
        open_loader(&config, self.state.step).map_err(|source| TrainError::Data { step: self.state.step, source })
    }

    fn open_log(&self) -> Result<Option<MetricsLog>, TrainError> {
        let resumed_at = self.resumed.as_ref().map(|_| self.state.step);
        self.run.ranks.is_main().then(|| MetricsLog::open(self.run.folder, resumed_at)).transpose()
    }

    fn step_settings(&self, step: u64) -> StepSettings {
        StepSettings {
            seed: self.run.seed,
            learning_rate: self.config.learning_rate(self.state.num_steps).at(step),
            max_grad_norm: self.config.max_grad_norm,
            neftune_alpha: self.config.neftune_alpha,
        }
    }

    /// Counts a step; one without metrics had no sample that fits.
    fn count(&mut self, batch: &StepBatch, metrics: Option<&StepMetrics>, took: Duration) {
        let state = &mut self.state;
        state.step += 1;
        state.epoch = batch.epoch;
        state.updates = self.learner.optimizer.updates();
        state.seconds += took.as_secs_f64();
        let Some(metrics) = metrics else { return };
        state.samples += metrics.totals.samples as u64;
        state.tokens += metrics.totals.tokens as u64;
        state.last_loss = Some(metrics.loss).filter(|loss| loss.is_finite());
    }

    /// A step whose samples were all too long, on every rank, changes nothing; many in a row, or a run of nothing else, are a mistake in the settings.
    fn nothing_fitted(&mut self, step: u64) -> Result<(), TrainError> {
        self.empty_steps += 1;
        let none_at_all = self.state.step == self.state.num_steps && self.state.samples == 0;
        if self.empty_steps > self.config.max_skipped_steps || none_at_all {
            let limit = self.config.max_micro_batch_tokens.min(self.run.context_length);
            let steps = self.empty_steps;
            return Err(TrainError::EmptySteps { step, steps, limit });
        }
        tracing::warn!("step {step}: none of its samples fits, so it changes nothing");
        Ok(())
    }

    /// Counts a skipped step, keeps its batch, and gives up after too many. All ranks see the same numbers.
    fn skipped(&mut self, batch: &StepBatch, metrics: &StepMetrics) -> Result<(), TrainError> {
        self.state.skipped_steps += 1;
        let folder = self.run.folder.join("not_finite");
        let rank = self.run.ranks.rank();
        let path = studied_batch::save(&folder, batch.step, rank, &batch.micro_batches, metrics)?;
        let (loss, grad_norm) = (metrics.loss, metrics.grad_norm);
        let (skipped, limit) = (self.state.skipped_steps, self.config.max_skipped_steps);
        if skipped > limit {
            return Err(TrainError::NotFinite { step: batch.step, loss, grad_norm, skipped, limit, batch: path });
        }
        tracing::warn!(
            "step {} skipped: loss {loss}, gradient norm {grad_norm} ({skipped} of at most {limit}); batch kept in `{}`",
            batch.step,
            path.display()
        );
        Ok(())
    }

    fn numbers(
        &self,
        metrics: &StepMetrics,
        settings: &StepSettings,
        took: Duration,
        waited: Duration,
    ) -> Vec<(String, f64)> {
        let mut numbers = vec![("loss".to_owned(), metrics.loss)];
        numbers.extend(metrics.parts.iter().map(|(name, value)| ((*name).to_owned(), *value)));
        for (name, value) in [
            ("learning_rate", settings.learning_rate),
            ("grad_norm", metrics.grad_norm),
            ("tokens_per_second", metrics.totals.tokens / took.as_secs_f64().max(1e-9)),
            ("data_wait_seconds", waited.as_secs_f64()),
            ("step_seconds", took.as_secs_f64()),
            ("label_tokens", metrics.totals.label_tokens),
            ("epoch", self.state.epoch as f64),
            ("skipped_steps", self.state.skipped_steps as f64),
            ("peak_memory_mib", native::memory::peak_mib(self.learner.model.device())),
        ] {
            numbers.push((name.to_owned(), value));
        }
        if self.run.ranks.world_size() > 1 {
            numbers.push(("communication_seconds".to_owned(), metrics.communication_seconds));
        }
        numbers
    }

    fn time_left(&self) -> Duration {
        let per_step = self.state.seconds / self.state.step.max(1) as f64;
        Duration::from_secs_f64(per_step * (self.state.num_steps - self.state.step) as f64)
    }

    fn evaluate(&mut self, progress: &Progress, log: &mut Option<MetricsLog>) -> Result<(), TrainError> {
        let Some(evaluate) = &mut self.run.evaluate else { return Ok(()) };
        let step = self.state.step;
        let numbers = evaluate(self.learner.model, step).map_err(|source| TrainError::Evaluate { step, source })?;
        // Rank 0 may have ranked for longer than a collective waits.
        self.run.ranks.meet()?;
        let text: Vec<String> = numbers.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
        progress.remark(&format!("evaluation after step {step}: {}", text.join("  ")));
        write_log(log, "eval", step, &numbers)
    }

    fn checkpoint_is_due(&self) -> bool {
        let every = self.config.checkpoint.every_steps;
        self.state.step == self.state.num_steps || (every > 0 && self.state.step.is_multiple_of(every))
    }

    /// Saves; in the background unless this is the last one of the session.
    fn save_checkpoint(&mut self, last: bool, progress: &Progress) -> Result<(), TrainError> {
        let config = serde_json::to_value(self.config).expect("settings are plain structs");
        let source =
            Source { optimizer: &self.learner.optimizer, state: &self.state, config: &config, ranks: self.run.ranks };
        if !last && self.saves_behind() {
            let before = self.saver.save_behind(source)?;
            return self.told(before, progress);
        }
        let before = self.saver.wait(self.run.ranks)?;
        let saved = self.saver.save(source)?;
        self.told(before, progress)?;
        self.told(saved, progress)
    }

    fn saves_behind(&self) -> bool {
        self.config.checkpoint.background.unwrap_or_else(|| self.learner.model.device().is_cuda())
    }

    fn told(&self, path: Option<PathBuf>, progress: &Progress) -> Result<(), TrainError> {
        if let Some(path) = path {
            progress.remark(&format!("checkpoint `{}`", path.display()));
        }
        Ok(())
    }

    fn report(&self, outcome: Outcome, last: Option<StepMetrics>) -> TrainReport {
        TrainReport {
            outcome,
            state: self.state.clone(),
            resumed_from: self.resumed.as_ref().map(|found| found.state.step),
            damaged_checkpoints: self.resumed.as_ref().map(|found| found.damaged.clone()).unwrap_or_default(),
            last,
            tokens_per_second: self.state.tokens as f64 / self.state.seconds.max(1e-9),
        }
    }
}

fn next_batch(batches: &mut StepBatches, step: u64, wanted: u64) -> Result<StepBatch, TrainError> {
    match batches.next() {
        Some(batch) => batch.map_err(|source| TrainError::Data { step, source }),
        None => Err(TrainError::DataEnded { step, wanted }),
    }
}

fn write_log(log: &mut Option<MetricsLog>, kind: &str, step: u64, numbers: &[(String, f64)]) -> Result<(), TrainError> {
    log.as_mut().map_or(Ok(()), |log| log.write(kind, step, numbers))
}
