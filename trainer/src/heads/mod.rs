//! Training of small heads on a frozen model, from states that were computed once.

mod adam;
mod bench;
mod draft_head_config;
mod draft_heads;
mod draft_loss;
mod one_pass;
mod state_table;

pub use adam::Adam;
pub use bench::{HeadBench, HeadFigures};
pub use draft_head_config::DraftHeadConfig;
pub use draft_heads::{DraftHeadReport, train_draft_heads};
pub use one_pass::{OnePassHeadConfig, OnePassLists, OnePassReport, train_one_pass};
pub use state_table::StateTable;
