//! Errors of this crate.

use std::path::PathBuf;

use data::DataError;
use model::ModelError;

/// What can stop a training run.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Settings contradict each other; every problem found is listed.
    #[error("the training settings do not fit together: {}", problems.join("; "))]
    Config {
        /// One line per problem.
        problems: Vec<String>,
    },
    /// Whoever watched the training of a head broke it off.
    #[error("the training of a head was stopped")]
    Stopped,
    /// A batch could not be had.
    #[error("step {step}: {source}")]
    Data {
        /// Optimiser step, from 0.
        step: u64,
        /// What the loader said.
        #[source]
        source: DataError,
    },
    /// All samples of several steps in a row were too long, on every rank.
    #[error(
        "no sample of {steps} steps in a row, up to step {step}, fits in {limit} tokens, the least of `max_micro_batch_tokens` and the model's \
         context; raise the first or shorten the texts"
    )]
    EmptySteps {
        /// The last of them, from 0.
        step: u64,
        /// How many.
        steps: u64,
        /// Tokens of a sample at most.
        limit: usize,
    },
    /// The loader ended before the planned number of steps.
    #[error("the data ended after step {step}, wanted {wanted} steps; lower `max_steps` or `epochs`")]
    DataEnded {
        /// Steps the data was enough for.
        step: u64,
        /// Steps planned.
        wanted: u64,
    },
    /// The model refused.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// libtorch refused an operation.
    #[error("{doing}: {source}")]
    Torch {
        /// What was being done.
        doing: String,
        /// libtorch's words.
        #[source]
        source: tch::TchError,
    },
    /// A file could not be read or written.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    Io {
        /// read, write, rename ...
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// The disk holds no further checkpoint; those before it are untouched.
    #[error(
        "no room for a checkpoint in `{}`: {free_mib} MiB free, {needed_mib} MiB needed; free some space or lower `checkpoint.keep`, \
         then run again (earlier checkpoints are intact)",
        path.display()
    )]
    DiskFull {
        /// The checkpoints' folder.
        path: PathBuf,
        /// Left on the file system.
        free_mib: u64,
        /// Size of one checkpoint.
        needed_mib: u64,
    },
    /// A checkpoint's files do not match its manifest.
    #[error("checkpoint `{}` is damaged: {problem}", path.display())]
    DamagedCheckpoint {
        /// Its folder.
        path: PathBuf,
        /// Which file and how.
        problem: String,
    },
    /// There are checkpoints, and none can be used.
    #[error(
        "none of the checkpoints in `{}` can be used ({}); remove the folder to start anew",
        folder.display(), tried.join("; ")
    )]
    NoUsableCheckpoint {
        /// The checkpoints' folder.
        folder: PathBuf,
        /// One line per checkpoint.
        tried: Vec<String>,
    },
    /// A checkpoint of another run: continuing from it would not continue that run.
    #[error("checkpoint `{}` has {what} {got}, this run has {wanted}; restore the setting or use another output folder", path.display())]
    OtherRun {
        /// Its folder.
        path: PathBuf,
        /// Which setting.
        what: String,
        /// The checkpoint's.
        got: String,
        /// This run's.
        wanted: String,
    },
    /// Too many steps had a loss or gradient that was not a number.
    #[error(
        "loss {loss} and gradient norm {grad_norm} at step {step} are not finite, as in {skipped} steps so far (`max_skipped_steps` is {limit}); \
         the last such batch is in `{}`; lower the learning rate or look at that batch",
        batch.display()
    )]
    NotFinite {
        /// Optimiser step, from 0.
        step: u64,
        /// Loss of the global batch.
        loss: f64,
        /// Norm of the reduced gradient.
        grad_norm: f64,
        /// Steps skipped so far.
        skipped: u64,
        /// Steps that may be skipped.
        limit: u64,
        /// File with the batch.
        batch: PathBuf,
    },
    /// A variable of the process environment is missing or wrong.
    #[error(
        "environment variable `{name}` is {got}, wanted {wanted}; start with `torchrun --no-python`, `monopass launch`, or set it by hand"
    )]
    Environment {
        /// Its name.
        name: &'static str,
        /// What it holds.
        got: String,
        /// What it should hold.
        wanted: &'static str,
    },
    /// Another process of the run failed.
    #[error("rank {failed} failed, so rank {rank} stops: {message}")]
    OtherRank {
        /// This process.
        rank: usize,
        /// The one that failed.
        failed: usize,
        /// What it said last.
        message: String,
    },
    /// A collective operation failed and no rank owns up to it.
    #[error("rank {rank}: {doing}: {source}")]
    Collective {
        /// This process.
        rank: usize,
        /// Which operation.
        doing: &'static str,
        /// c10d's words.
        #[source]
        source: native::c10d::C10dError,
    },
    /// An operation of libtorch panicked.
    #[error("rank {rank} panicked: {message}")]
    Panicked {
        /// This process.
        rank: usize,
        /// The panic's message.
        message: String,
    },
    /// The evaluation between steps failed.
    #[error("evaluation after step {step}: {source}")]
    Evaluate {
        /// Steps done.
        step: u64,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl TrainError {
    /// For `map_err` on a file operation.
    pub(crate) fn io(doing: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { doing, path, source }
    }

    /// For `map_err` on a fallible tensor operation.
    pub(crate) fn torch(doing: &str) -> impl FnOnce(tch::TchError) -> Self {
        let doing = doing.to_owned();
        move |source| Self::Torch { doing, source }
    }
}
