//! Ways to decode a ranking, measures, significance, latency, tables and the report.
//!
//! For the pipeline, in the order of use:
//!
//! 1. **Settings**: [`evaluate::EvaluateConfig`] is the `evaluate` section; `validate()` lists every problem with its
//!    key.
//! 2. **Decoders**: [`decode::DecoderKind::build`] makes a [`decode::Decoder`]; [`sliding::rerank`] ranks one
//!    [`data::RankingSample`] with it, in windows when the list is long (the `rank` command needs no more).
//! 3. **Evaluation**: an [`evaluate::EvaluationJob`] per model and set goes to [`evaluate::evaluate`], which calls back
//!    after each query and keeps one JSONL line a query ([`evaluate::PredictionLine`]); a second run with the same
//!    content key goes on from there. The result, [`evaluate::SetEvaluation`], is serialisable.
//! 4. **Tables**: [`evaluate::results_table`], [`evaluate::comparison_table`], [`evaluate::fidelity_table`] and
//!    [`evaluate::cost_table`] over all evaluations give [`table::Table`]s, which render as JSON, CSV, Markdown, LaTeX and
//!    for a terminal.
//! 5. **Report**: fill a [`report::Report`] ([`report::StageCurves::read`] on each stage's `metrics.jsonl`,
//!    [`report::points_of`] for the plots) and [`report::Report::write`] it.
//!
//! Beside that: [`measures::evaluate_run`] for `metrics ranking` ([`measures::trec_eval::judgements`] and
//! [`measures::trec_eval::ranked_lists`] turn files into its plain maps), [`measures::squad::evaluate_squad`],
//! [`generate::generate`] for `generate`, and [`bench::decode`] for `bench decode`.

pub mod answer;
pub mod bench;
pub mod decode;
pub mod error;
pub mod evaluate;
pub mod generate;
mod kept_lines;
pub mod latency;
pub mod measures;
mod rank_share;
pub mod report;
pub mod sampling;
pub mod sliding;
pub mod stats;
pub mod table;
pub mod teacher;

pub use error::EvaluatorError;
pub use evaluate::EvaluateConfig;
pub use kept_lines::{KeptLine, KeptLines, read_lines};
pub use rank_share::{RankShare, parts as rank_parts};
