//! What a prepared set can hold a row of.

use polars::prelude::{DataFrame, PolarsResult};

use super::card::{Counts, ListCounts, TextCounts};
use super::{branched_frame, frame};
use crate::RankingSample;
use crate::branched::BranchedText;

/// A kind of sample that can be written to and read from parquet.
pub trait Record: Clone + Send + Sync + Sized {
    /// A frame of these samples, in the kind's flat schema.
    ///
    /// # Errors
    /// Columns that do not fit together.
    fn frame_of(samples: &[Self]) -> PolarsResult<DataFrame>;

    /// The samples of a frame.
    ///
    /// # Errors
    /// Missing columns, or columns of other types.
    fn samples_of(frame: &DataFrame) -> PolarsResult<Vec<Self>>;

    /// Bytes that a sample takes in memory, roughly.
    fn bytes(&self) -> usize;

    /// Candidates or branches.
    fn num_items(&self) -> usize;

    /// Whether there is something to learn from it, and labels or answers in it.
    fn learnable(&self) -> (bool, u64);

    /// The counts of a card.
    fn counts(tally: &Tally) -> Counts;
}

/// Counts taken while samples go by.
#[derive(Debug, Default)]
pub struct Tally {
    rows: u64,
    items: u64,
    min: usize,
    max: usize,
    learnable: u64,
    labels: u64,
}

impl Tally {
    /// Counts a sample.
    pub(super) fn add<R: Record>(&mut self, sample: &R) {
        let n = sample.num_items();
        self.min = if self.rows == 0 { n } else { self.min.min(n) };
        self.max = self.max.max(n);
        self.rows += 1;
        self.items += n as u64;
        let (learnable, labels) = sample.learnable();
        self.learnable += u64::from(learnable);
        self.labels += labels;
    }

    fn lengths(&self) -> super::ListLengths {
        let mean = if self.rows == 0 { 0.0 } else { self.items as f64 / self.rows as f64 };
        super::ListLengths { min: self.min, max: self.max, mean }
    }
}

impl Record for RankingSample {
    fn frame_of(samples: &[Self]) -> PolarsResult<DataFrame> {
        frame::frame_of(samples)
    }

    fn samples_of(frame: &DataFrame) -> PolarsResult<Vec<Self>> {
        frame::samples_of(frame)
    }

    fn bytes(&self) -> usize {
        let passages: usize = self.passages.iter().map(|p| p.text.len() + p.title.len() + p.doc_id.len() + 96).sum();
        passages + self.query.len() + 128
    }

    fn num_items(&self) -> usize {
        self.passages.len()
    }

    fn learnable(&self) -> (bool, u64) {
        let labelled = self.passages.iter().filter(|passage| passage.label.is_some()).count();
        (self.target.is_some(), labelled as u64)
    }

    fn counts(tally: &Tally) -> Counts {
        let (with_target, labelled) = (tally.learnable, tally.labels);
        Counts::Lists(ListCounts { candidates: tally.lengths(), with_target, labelled })
    }
}

impl Record for BranchedText {
    fn frame_of(samples: &[Self]) -> PolarsResult<DataFrame> {
        branched_frame::frame_of(samples)
    }

    fn samples_of(frame: &DataFrame) -> PolarsResult<Vec<Self>> {
        branched_frame::texts_of(frame)
    }

    fn bytes(&self) -> usize {
        let answers = |answers: &[String]| answers.iter().map(|answer| answer.len() + 24).sum::<usize>();
        let branches = self.branches.iter().map(|b| b.id.len() + b.prompt.len() + answers(&b.answers) + 72);
        self.background.len() + branches.sum::<usize>() + 128
    }

    fn num_items(&self) -> usize {
        self.branches.len()
    }

    fn learnable(&self) -> (bool, u64) {
        let answered = self.branches.iter().filter(|branch| !branch.answers.is_empty()).count();
        (answered > 0, answered as u64)
    }

    fn counts(tally: &Tally) -> Counts {
        Counts::Texts(TextCounts { branches: tally.lengths(), answered: tally.labels })
    }
}
