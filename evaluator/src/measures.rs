//! What a ranking or an answer is worth: trec_eval's measures, fidelity to another order, SQuAD's exact match and F1.
//!
//! Measures take plain maps and slices; reading files is the data crate's business.

pub mod fidelity;
pub mod ranking_measure;
pub mod squad;
pub mod trec_eval;

pub use fidelity::{Fidelity, compare_orders};
pub use ranking_measure::RankingMeasure;
pub use trec_eval::{Averaging, Judgements, RankedLists, RunEvaluation, evaluate_run};
