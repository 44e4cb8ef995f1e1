//! A set evaluated by all ranks: each does its share of the queries or texts, and rank 0 takes the parts into one file.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Context as _;
use evaluator::{EvaluatorError, RankShare, rank_parts};
use tch::Device;

use super::Experiment;
use crate::failure::Interrupted;
use crate::origin::Origins;
use crate::progress::SetProgress;
use crate::stamp;

/// Takes away what was done before, also of an interrupted run by several ranks.
///
/// # Errors
/// A file cannot be removed.
pub(super) fn forget(predictions: &Path) -> anyhow::Result<()> {
    stamp::remove(predictions)?;
    rank_parts(predictions)?.iter().try_for_each(|part| stamp::remove(part))
}

/// One model on one set, as far as ranks, signals and the origin of figures are concerned.
pub(super) struct Sharing<'a> {
    /// The experiment.
    pub experiment: &'a Experiment<'a>,
    /// Name of the stage.
    pub stage: String,
    /// Name of the model.
    pub model: &'a str,
    /// Name of the set.
    pub set: &'a str,
    /// What is dealt out: `queries`.
    pub unit: &'static str,
    /// Whether this process, or another rank of it, did something and did not find all in a file.
    pub worked: Cell<bool>,
}

impl Sharing<'_> {
    /// Of several ranks each does its share by `work`; afterwards rank 0's file holds what all did, by `merge`.
    ///
    /// # Errors
    /// What `work` or `merge` failed with, or that another rank failed. What was done is kept whoever failed.
    pub fn share(
        &self,
        device: Device,
        merge: impl Fn() -> Result<(), EvaluatorError>,
        work: impl FnOnce(RankShare, &mut SetProgress) -> Result<(), EvaluatorError>,
    ) -> anyhow::Result<()> {
        let (experiment, ranks) = (self.experiment, &self.experiment.ranks);
        if ranks.world_size() == 1 {
            return Ok(());
        }
        let merge = || if ranks.is_main() { merge() } else { Ok(()) };
        // What an interrupted run with another number of ranks left.
        experiment.agree(merge().map_err(Into::into))?;
        let share = RankShare { rank: ranks.rank(), world_size: ranks.world_size() };
        let worked = self.told(work(share, &mut self.progress(", this rank's")));
        ranks.meet()?;
        self.worked.set(ranks.any(self.worked.get())?);
        let noted = if ranks.is_main() { self.note_origin(device) } else { Ok(()) };
        experiment.agree(merge().map_err(Into::into).and(noted))?;
        experiment.agree(worked)
    }

    /// Progress over the set.
    pub fn progress(&self, whose: &str) -> SetProgress {
        SetProgress::new(&format!("  {} on {}{whose}", self.model, self.set), self.unit)
    }

    /// Shows how far it is; `Break` after a signal.
    pub fn go_on(&self, progress: &mut SetProgress, done: usize, total: usize) -> ControlFlow<()> {
        progress.show(done, total);
        if self.experiment.stop.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Notes where the figures come from, when they were made now.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note_origin(&self, device: Device) -> anyhow::Result<()> {
        if self.worked.get() { Origins::note(&self.experiment.folder.tables(), self.model, device) } else { Ok(()) }
    }

    /// A stop on request as what it is, other errors with their place.
    pub fn told<T>(&self, result: Result<T, EvaluatorError>) -> anyhow::Result<T> {
        match result {
            Err(EvaluatorError::Interrupted) => {
                let (stage, unit) = (&self.stage, self.unit);
                let saved = format!("{stage}: finished {unit} are kept; the same command goes on from there");
                Err(Interrupted { saved }.into())
            }
            other => other.with_context(|| format!("model `{}` on set `{}`", self.model, self.set)),
        }
    }
}
