//! Sources, prompts, prepared sets and batches.
//!
//! A [`sources::RankingSetConfig`] names a source and what to keep of it; [`sources::load`] or [`prepared::prepare`] turn
//! it into [`RankingSample`]s; [`prompt::PromptBuilder`] writes what the model reads; [`batch::Loader`] tokenises ahead
//! of the device and hands out steps in an order that is a pure function of seed, epoch, step, rank and world size.

pub mod batch;
pub mod bm25;
pub mod branched;
pub mod error;
pub mod files;
pub mod overlap;
pub mod prepared;
pub mod prompt;
pub mod qrels;
pub mod random;
pub mod report;
pub mod rows;
pub mod schema;
pub mod sources;
mod squad_file;
pub mod trec_run;

pub use error::DataError;
pub use qrels::Qrels;
pub use report::SetReport;
pub use schema::{Passage, RankingRecord, RankingSample};
pub use trec_run::{RunEntry, TrecRun};

#[cfg(test)]
mod tests;
