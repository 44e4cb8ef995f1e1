//! Training: objectives, the one loop, optimiser and schedule, distribution, checkpoints.
//!
//! [`train`] runs one stage:
//!
//! ```no_run,standalone_crate
//! # use monopass_trainer as trainer;
//! # fn example(mut model: model::CausalLm, open: &mut trainer::OpenLoader<'_>) -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::atomic::AtomicBool;
//! let config = trainer::TrainConfig::default();
//! let ranks = trainer::Ranks::from_env(std::time::Duration::from_secs(600), false)?;
//! let stop = AtomicBool::new(false); // set by a signal handler
//! let report = trainer::train(
//!     &mut model,
//!     open, // makes the loader that starts at a step
//!     &config,
//!     trainer::Run {
//!         folder: std::path::Path::new("runs/mine/train/main"),
//!         seed: 1,
//!         num_samples: 1000,
//!         context_length: 2048,
//!         data_fingerprint: "content hash of the training set",
//!         ranks: &ranks,
//!         stop: &stop,
//!         evaluate: None,
//!         quiet: false,
//!     },
//! )?;
//! println!("{:?} after {} steps", report.outcome, report.state.step);
//! # Ok(())
//! # }
//! ```
//!
//! - The same call continues an interrupted or killed run from its newest whole checkpoint, on a CPU bit for bit on the same
//!   machine and world size. A finished one returns at once with the trained weights in the model.
//! - The model must have been loaded in [`Precision::weights`](config::Precision::weights) of the configured precision; `train`
//!   makes its weights trainable or adds adapters, and leaves what it holds when done for the next stage or for saving.
//! - Several processes each call it with their own [`Ranks`]; rank 0 writes files.
//! - Errors are [`TrainError`]; libtorch's panics become [`TrainError::Panicked`].

pub mod adamw;
pub mod bench;
pub mod checkpoint;
pub mod config;
pub mod distribution;
mod error;
mod fit;
pub mod gradients;
pub mod heads;
mod meeting;
pub mod metrics;
mod neftune;
pub mod objectives;
mod progress;
pub mod resume;
mod saving;
pub mod schedule;
pub mod seeds;
mod shards;
mod studied_batch;
pub mod tensorboard;
mod train;
pub mod train_step;

#[cfg(test)]
mod tests;

pub use config::{CheckpointConfig, Precision, TrainConfig};
pub use distribution::Ranks;
pub use error::TrainError;
pub use fit::{Evaluate, Evaluation, OpenLoader, Outcome, Run, StepBatches, TrainReport};
pub use heads::{Adam, DraftHeadConfig, DraftHeadReport, StateTable, train_draft_heads};
pub use objectives::{FirstConfig, ObjectiveConfig, ranking_loss::RankingLoss};
pub use progress::BARS;
pub use schedule::Schedule;
pub use train::train;
