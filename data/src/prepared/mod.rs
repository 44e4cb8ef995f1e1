//! Prepared sets: samples as parquet, with a card that says where they came from and what was left out.
//!
//! A set is a folder of three files: `samples.parquet`, `card.json` and `CARD.md`. The parquet schema is flat, one column of
//! lists per field of the passages, so that any reader can take it without a struct type:
//!
//! | column | type |
//! | --- | --- |
//! | `query_id`, `query`, `origin` | string |
//! | `passages.doc_id`, `passages.title`, `passages.text` | list of string |
//! | `passages.first_stage_score` | list of float32, null where unknown |
//! | `passages.label` | list of int32, null where not judged |
//! | `target` | list of uint16, null without a target |
//!
//! and of branched texts `id`, `background`, `origin` (string), `branches.id`, `branches.prompt`, `branches.answers` (list of string; the
//! answers of all branches, in order) and `branches.num_answers` (list of uint32).

mod answers;
mod branched_frame;
mod card;
mod frame;
mod rankings;
mod record;
mod set;
mod writer;

pub use answers::{AnswerRecord, write_answers};
pub use card::{Card, CardFile, Counts, ListCounts, ListLengths, TextCounts, content_hash};
pub use rankings::{read_rankings, write_rankings};
pub use record::{Record, Tally};
pub use set::{PreparedSet, verified_card};
pub use writer::{prepare, prepare_branched, write_set};

/// The samples' file in a set's folder.
pub const SAMPLES_FILE: &str = "samples.parquet";
/// The card's file in a set's folder.
pub const CARD_FILE: &str = "card.json";
/// The card for people.
pub const CARD_MARKDOWN: &str = "CARD.md";
/// Version of the files' layout and of what the sources make of their input; part of the content hash.
pub const FORMAT_VERSION: u32 = 1;
/// Rows of a parquet row group: what is decoded at once.
pub(crate) const ROWS_PER_GROUP: usize = 128;
