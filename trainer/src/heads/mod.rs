//! Training of small heads on a frozen model, from states that were computed once.

mod adam;
mod bench;
mod draft_head_config;
mod draft_heads;
mod draft_loss;
mod one_pass;
mod state_table;

use std::ops::ControlFlow;

pub use adam::Adam;
pub use bench::{HeadBench, HeadFigures};
pub use draft_head_config::DraftHeadConfig;
pub use draft_heads::{DraftHeadReport, train_draft_heads};
pub use one_pass::{OnePassHeadConfig, OnePassLists, OnePassReport, train_one_pass};
pub use state_table::StateTable;

/// How far the training of a head is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadProgress {
    /// Steps done.
    pub step: usize,
    /// Steps at most: training ends before where nothing gets better.
    pub steps: usize,
    /// Score or loss on the validation lists at the last look, and before training.
    pub validation: f64,
}

/// Called after each step; `Break` ends training with [`TrainError::Stopped`](crate::TrainError::Stopped).
pub type WatchHead<'a> = dyn FnMut(HeadProgress) -> ControlFlow<()> + 'a;
