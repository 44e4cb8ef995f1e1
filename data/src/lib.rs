//! Sources, prompts, prepared sets and batches.
pub mod error;
pub mod schema;
pub mod sources;
pub mod prompt;
pub mod prepared;
pub mod batch;
pub mod bm25;
pub use error::DataError;
pub use schema::{Passage, RankingRecord, RankingSample};
