//! When a stage's checkpoints are written, by whom, and whether training waits for them.
//!
//! Rank 0 writes, and every rank its share where the optimiser's state is held in shares. In the background, threads write copies while
//! training goes on: each rank its share, and one of rank 0 the rest, which it seals once all shares are on the disk. At most one
//! checkpoint is on its way at a time; the last one of a stage is waited for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use tch::{Device, Tensor};

use crate::TrainError;
use crate::adamw::AdamW;
use crate::checkpoint::{self, Content, Share, TrainerState};
use crate::distribution::Ranks;

/// What a checkpoint is made from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub optimizer: &'a AdamW,
    pub state: &'a TrainerState,
    /// Resolved settings.
    pub config: &'a serde_json::Value,
    pub ranks: &'a Ranks,
}

/// Writes the checkpoints of a stage.
#[derive(Debug)]
pub(crate) struct Saver {
    folder: PathBuf,
    keep: usize,
    pending: Option<Pending>,
}

/// A checkpoint on its way to the disk.
#[derive(Debug)]
struct Pending {
    /// This rank's share, where there are shares.
    share: Option<JoinHandle<Result<(), TrainError>>>,
    /// The whole of it, on rank 0; no path when it was abandoned.
    whole: Option<JoinHandle<Result<Option<PathBuf>, TrainError>>>,
    abandoned: Arc<AtomicBool>,
    /// Set by a thread that could not write.
    failed: Arc<AtomicBool>,
}

impl Saver {
    pub fn new(folder: PathBuf, keep: usize) -> Self {
        Self { folder, keep, pending: None }
    }

    /// Writes a checkpoint while everybody waits; the path on rank 0.
    ///
    /// # Errors
    /// This rank or another could not write its part; the checkpoints before are untouched.
    pub fn save(&self, source: Source<'_>) -> Result<Option<PathBuf>, TrainError> {
        let Source { optimizer, state, config, ranks } = source;
        let weights = optimizer.weights();
        let own = optimizer.state();
        let content = Content { weights: &weights, optimizer: &own, state, config };
        if !optimizer.is_sharded() {
            let saved = on_main(ranks, || checkpoint::save(&self.folder, &content, self.keep));
            return ranks.agree(saved, "it could not write a checkpoint");
        }
        self.begin(source, &weights, &own)?;
        let share = Share { rank: ranks.rank(), world_size: ranks.world_size() };
        let written = checkpoint::write_share(&self.folder, state.step, share, &own);
        let written = ranks.agree(written, "it could not write its share of a checkpoint");
        if written.is_err() && ranks.is_main() {
            checkpoint::abandon(&self.folder, state.step);
        }
        written?;
        let finished = on_main(ranks, || checkpoint::finish(&self.folder, &content, ranks.world_size(), self.keep));
        ranks.agree(finished, "it could not write a checkpoint")
    }

    /// Copies what a checkpoint needs and has threads write it; waits for the one before. The path of that one on rank 0.
    ///
    /// # Errors
    /// As [`Self::save`], for the one before.
    pub fn save_behind(&mut self, source: Source<'_>) -> Result<Option<PathBuf>, TrainError> {
        let before = self.wait(source.ranks)?;
        let Source { optimizer, state, config, ranks } = source;
        let (abandoned, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (folder, keep, step) = (self.folder.clone(), self.keep, state.step);
        let (state, config) = (state.clone(), config.clone());
        let main = ranks.is_main();
        if !optimizer.is_sharded() {
            let copies = main.then(|| (copied(&optimizer.weights()), copied(&optimizer.state())));
            let whole = copies.map(|(weights, own)| {
                noting(&failed, move || {
                    let content = Content { weights: &weights, optimizer: &own, state: &state, config: &config };
                    checkpoint::save(&folder, &content, keep).map(Some)
                })
            });
            self.pending = Some(Pending { share: None, whole, abandoned, failed });
            return Ok(before);
        }
        let (weights, own) = (optimizer.weights(), copied(&optimizer.state()));
        self.begin(source, &weights, &own)?;
        let share = Share { rank: ranks.rank(), world_size: ranks.world_size() };
        let written = {
            let folder = folder.clone();
            noting(&failed, move || checkpoint::write_share(&folder, step, share, &own))
        };
        let whole = main.then(|| {
            let (weights, abandoned) = (copied(&weights), Arc::clone(&abandoned));
            noting(&failed, move || {
                let content = Content { weights: &weights, optimizer: &[], state: &state, config: &config };
                seal(&folder, &content, share.world_size, keep, &abandoned)
            })
        });
        self.pending = Some(Pending { share: Some(written), whole, abandoned, failed });
        Ok(before)
    }

    /// Whether this rank's part of the checkpoint on its way is known to have failed.
    pub fn has_failed(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.failed.load(Ordering::SeqCst))
    }

    /// Waits for the checkpoint on its way, if there is one; the path on rank 0.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn wait(&mut self, ranks: &Ranks) -> Result<Option<PathBuf>, TrainError> {
        let Some(mut pending) = self.pending.take() else { return Ok(None) };
        let share = pending.share.take().map_or(Ok(()), joined);
        let share = ranks.agree(share, "it could not write its share of a checkpoint");
        if share.is_err() {
            pending.abandoned.store(true, Ordering::SeqCst);
        }
        let whole = pending.whole.take().map_or(Ok(None), joined);
        share?;
        ranks.agree(whole, "it could not write a checkpoint")
    }

    /// Makes room for the parts of all ranks.
    fn begin(
        &self,
        source: Source<'_>,
        weights: &[(String, Tensor)],
        own: &[(String, Tensor)],
    ) -> Result<(), TrainError> {
        let bytes = |tensors: &[(String, Tensor)]| tensors.iter().map(|(_, t)| checkpoint::bytes_of(t)).sum::<u64>();
        let states = source.ranks.sum(&[bytes(own) as f64])?[0] as u64;
        let needed = states + bytes(weights);
        let begun = on_main(source.ranks, || checkpoint::begin(&self.folder, source.state.step, needed));
        source.ranks.agree(begun, "it could not begin a checkpoint").map(|_| ())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::SeqCst);
        // What they wrote is found unfinished and removed by the next run.
        self.share.take().map(JoinHandle::join);
        self.whole.take().map(JoinHandle::join);
    }
}

/// Waits until every rank's share is on the disk, then completes the checkpoint; nothing when it is abandoned.
fn seal(
    folder: &Path,
    content: &Content<'_>,
    world_size: usize,
    keep: usize,
    abandoned: &AtomicBool,
) -> Result<Option<PathBuf>, TrainError> {
    let step = content.state.step;
    while !(0..world_size).all(|rank| checkpoint::share_is_there(folder, step, Share { rank, world_size })) {
        if abandoned.load(Ordering::SeqCst) {
            checkpoint::abandon(folder, step);
            return Ok(None);
        }
        thread::sleep(std::time::Duration::from_millis(20));
    }
    checkpoint::finish(folder, content, world_size, keep).map(Some)
}

/// Copies in host memory, which later steps do not change.
fn copied(tensors: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    let copy = |tensor: &Tensor| {
        tch::no_grad(|| match tensor.device() {
            Device::Cpu => tensor.detach().copy(),
            _ => tensor.detach().to_device(Device::Cpu),
        })
    };
    tensors.iter().map(|(name, tensor)| (name.clone(), copy(tensor))).collect()
}

fn on_main<T>(ranks: &Ranks, work: impl FnOnce() -> Result<T, TrainError>) -> Result<Option<T>, TrainError> {
    if ranks.is_main() { work().map(Some) } else { Ok(None) }
}

/// The result of a thread; its panic goes on here.
fn joined<T>(thread: JoinHandle<Result<T, TrainError>>) -> Result<T, TrainError> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A thread that sets `failed` when its work fails.
fn noting<T: Send + 'static>(
    failed: &Arc<AtomicBool>,
    work: impl FnOnce() -> Result<T, TrainError> + Send + 'static,
) -> JoinHandle<Result<T, TrainError>> {
    let failed = Arc::clone(failed);
    thread::spawn(move || work().inspect_err(|_| failed.store(true, Ordering::SeqCst)))
}
