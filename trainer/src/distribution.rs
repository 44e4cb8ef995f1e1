//! The processes of one run, and what they agree on.
//!
//! Reads RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, as `torchrun --no-python`, `monopass launch` and a
//! shell can set them. Ranks fail together: decisions are made on reduced values, every collective has a timeout, and a
//! rank that fails says so in the store, where the others look when a collective breaks.

use std::cell::Cell;
use std::time::{Duration, Instant};

use native::c10d::{C10dError, JoinOptions, ProcessGroup};
use tch::Tensor;

use crate::TrainError;
use crate::meeting::{Heartbeat, Place};

/// How long a rank looks for the one to blame after a collective broke.
const BLAME_SECONDS: u64 = 5;

/// This process among the processes of the run. Without others every operation is a no-op.
#[derive(Debug)]
pub struct Ranks {
    rank: usize,
    local_rank: usize,
    world_size: usize,
    timeout: Duration,
    /// How often the ranks have met.
    meetings: Cell<u64>,
    /// Ends before the group, which may serve the store.
    _heartbeat: Option<Heartbeat>,
    group: Option<ProcessGroup>,
}

impl Ranks {
    /// The only process.
    pub fn single() -> Self {
        let (timeout, meetings) = (Duration::ZERO, Cell::new(0));
        Self { rank: 0, local_rank: 0, world_size: 1, timeout, meetings, _heartbeat: None, group: None }
    }

    /// Reads the environment and joins the others; [`Self::single`] where WORLD_SIZE is not set or 1. `cuda` reduces through
    /// NCCL as well. `timeout` bounds joining and every collective.
    ///
    /// # Errors
    /// A variable is missing or wrong, the store cannot be reached, other ranks do not come in time.
    pub fn from_env(timeout: Duration, cuda: bool) -> Result<Self, TrainError> {
        Self::from_variables(|name| std::env::var(name).ok(), timeout, cuda)
    }

    fn from_variables(
        variable: impl Fn(&'static str) -> Option<String>,
        timeout: Duration,
        cuda: bool,
    ) -> Result<Self, TrainError> {
        let number = |name: &'static str, wanted: &'static str| {
            let value = variable(name);
            let got = value.as_deref().map_or("not set".to_owned(), |text| format!("`{text}`"));
            value.and_then(|text| text.trim().parse::<usize>().ok()).ok_or(TrainError::Environment {
                name,
                got,
                wanted,
            })
        };
        if variable("WORLD_SIZE").is_none() {
            return Ok(Self::single());
        }
        let world_size = number("WORLD_SIZE", "the number of processes")?;
        if world_size <= 1 {
            return Ok(Self::single());
        }
        let rank = number("RANK", "this process's number from 0, below WORLD_SIZE")?;
        if rank >= world_size {
            let (name, wanted) = ("RANK", "this process's number from 0, below WORLD_SIZE");
            return Err(TrainError::Environment { name, got: format!("`{rank}`"), wanted });
        }
        let local_rank = match variable("LOCAL_RANK") {
            Some(_) => number("LOCAL_RANK", "this process's number on its host, from 0")?,
            None => rank,
        };
        let host = variable("MASTER_ADDR").ok_or(TrainError::Environment {
            name: "MASTER_ADDR",
            got: "not set".to_owned(),
            wanted: "the host of rank 0",
        })?;
        let port = number("MASTER_PORT", "a free port of rank 0's host")?;
        let port = u16::try_from(port).map_err(|_| TrainError::Environment {
            name: "MASTER_PORT",
            got: format!("`{port}`"),
            wanted: "a free port of rank 0's host",
        })?;
        // torchrun keeps one store for all restarts and serves it itself.
        let store_is_torchruns = variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True");
        let restart = variable("TORCHELASTIC_RESTART_COUNT").unwrap_or_else(|| "0".to_owned());
        let options = JoinOptions {
            host,
            port,
            serve_store: rank == 0 && !store_is_torchruns,
            prefix: format!("monopass/{restart}"),
            rank,
            world_size,
            timeout,
            nccl: cuda,
        };
        let group = ProcessGroup::join(&options).map_err(|source| TrainError::Collective {
            rank,
            doing: "joining the other ranks",
            source,
        })?;
        let JoinOptions { host, prefix, .. } = options;
        let heartbeat = Heartbeat::start(Place { host, port, prefix, rank, timeout });
        let meetings = Cell::new(0);
        Ok(Self { rank, local_rank, world_size, timeout, meetings, _heartbeat: Some(heartbeat), group: Some(group) })
    }

    /// This process, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// This process on its host, from 0: the number of its GPU.
    pub fn local_rank(&self) -> usize {
        self.local_rank
    }

    /// Number of processes.
    pub fn world_size(&self) -> usize {
        self.world_size
    }

    /// True on the one rank that writes files and speaks.
    pub fn is_main(&self) -> bool {
        self.rank == 0
    }

    /// How long a collective waits.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Number of the meeting that is about to be; the same on every rank.
    pub(crate) fn next_meeting(&self) -> u64 {
        self.meetings.replace(self.meetings.get() + 1)
    }

    /// The group, when there are others.
    pub(crate) fn group(&self) -> Option<&ProcessGroup> {
        self.group.as_ref()
    }

    /// Adds host values up over ranks; all ranks get the same bits.
    ///
    /// # Errors
    /// Another rank failed or did not come in time.
    pub fn sum(&self, values: &[f64]) -> Result<Vec<f64>, TrainError> {
        let Some(group) = &self.group else {
            return Ok(values.to_vec());
        };
        let mut tensor = Tensor::from_slice(values);
        group.all_reduce_sum(&mut tensor).map_err(|source| self.explain("adding up over ranks", source))?;
        Vec::try_from(&tensor).map_err(TrainError::torch("reading a reduced value"))
    }

    /// True when it is true on any rank.
    ///
    /// # Errors
    /// As [`Self::sum`].
    pub fn any(&self, flag: bool) -> Result<bool, TrainError> {
        Ok(self.sum(&[f64::from(u8::from(flag))])?[0] > 0.0)
    }

    /// Rank 0's value on every rank.
    ///
    /// # Errors
    /// As [`Self::sum`].
    pub fn from_main(&self, value: f64) -> Result<f64, TrainError> {
        let mine = if self.is_main() { value } else { 0.0 };
        Ok(self.sum(&[mine])?[0])
    }

    /// Overwrites `tensors` with rank 0's.
    ///
    /// # Errors
    /// As [`Self::sum`].
    pub fn broadcast(&self, tensors: &mut [Tensor]) -> Result<(), TrainError> {
        let Some(group) = &self.group else {
            return Ok(());
        };
        tch::no_grad(|| {
            for tensor in tensors {
                group
                    .broadcast(&mut tensor.detach(), 0)
                    .map_err(|source| self.explain("sending the weights of rank 0", source))?;
            }
            Ok(())
        })
    }

    /// Overwrites `tensors`, of one kind, with those of `owner`, in one message.
    ///
    /// # Errors
    /// As [`Self::sum`].
    pub(crate) fn broadcast_from(&self, owner: usize, tensors: &[Tensor]) -> Result<(), TrainError> {
        let Some(group) = &self.group else {
            return Ok(());
        };
        tch::no_grad(|| {
            let mut flat = Tensor::cat(tensors, 0); // [elements of all]
            group
                .broadcast(&mut flat, owner)
                .map_err(|source| self.explain("sending updated weights to the others", source))?;
            let mut start = 0;
            for tensor in tensors.iter().filter(|_| self.rank != owner) {
                let length = tensor.numel() as i64;
                tensor.shallow_clone().copy_(&flat.narrow(0, start, length));
                start += length;
            }
            Ok(())
        })
    }

    /// The lowest rank that failed, known to all.
    ///
    /// # Errors
    /// As [`Self::sum`].
    pub(crate) fn first_failed(&self, failed: bool) -> Result<Option<usize>, TrainError> {
        let mut flags = vec![0.0; self.world_size];
        flags[self.rank] = f64::from(u8::from(failed));
        Ok(self.sum(&flags)?.iter().position(|flag| *flag > 0.0))
    }

    /// This rank's result when all succeeded; all fail when one did. `what` says what the one could not do.
    ///
    /// # Errors
    /// This rank's own error, or that another failed.
    pub(crate) fn agree<T>(&self, result: Result<T, TrainError>, what: &str) -> Result<T, TrainError> {
        // What is agreed on took each rank as long as it took: a checkpoint of a large model longer than a collective waits. A failure is told
        // once all are here, so that nobody leaves before the sum.
        let met = self.meet();
        if let Err(error) = &result {
            self.report_failure(error);
        }
        met?;
        let failed = self.first_failed(result.is_err())?;
        let value = result?;
        match failed {
            None => Ok(value),
            Some(failed) => Err(TrainError::OtherRank { rank: self.rank, failed, message: what.to_owned() }),
        }
    }

    /// Waits for all ranks.
    ///
    /// # Errors
    /// As [`Self::sum`].
    pub fn barrier(&self) -> Result<(), TrainError> {
        self.sum(&[0.0]).map(|_| ())
    }

    /// Tells the others why this rank ends; best effort.
    pub fn report_failure(&self, error: &TrainError) {
        let Some(group) = &self.group else { return };
        // One that only follows another's failure must not be blamed for it.
        if matches!(error, TrainError::OtherRank { .. } | TrainError::Collective { .. }) {
            return;
        }
        let message: String = error.to_string().chars().filter(|letter| *letter != '\0').collect();
        if let Err(failed) = group.store_set(&failure_key(self.rank), &message) {
            tracing::debug!("rank {}: could not tell the others: {failed}", self.rank);
        }
    }

    /// A broken collective as the failure of the rank that caused it, where that can be found out: the one that said so, else
    /// the one that does not answer.
    pub(crate) fn explain(&self, doing: &'static str, source: C10dError) -> TrainError {
        let Some(group) = &self.group else {
            return TrainError::Collective { rank: self.rank, doing, source };
        };
        let other = |failed, message| TrainError::OtherRank { rank: self.rank, failed, message };
        let deadline = Instant::now() + Duration::from_secs(BLAME_SECONDS);
        let silent = |rank: &usize| *rank != self.rank && !matches!(group.store_get(&alive_key(*rank)), Ok(Some(_)));
        if group.store_set(&alive_key(self.rank), "1").is_err() {
            return other(0, format!("it no longer answers ({source})"));
        }
        loop {
            for rank in 0..self.world_size {
                match group.store_get(&failure_key(rank)) {
                    Ok(Some(message)) => return other(rank, message),
                    Ok(None) => {}
                    Err(_) => return other(0, format!("it no longer answers ({source})")),
                }
            }
            let missing: Vec<usize> = (0..self.world_size).filter(silent).collect();
            match missing[..] {
                [] => return TrainError::Collective { rank: self.rank, doing, source },
                [rank] if Instant::now() > deadline => {
                    return other(
                        rank,
                        format!("it no longer answers: it ended, hangs, or the network does ({source})"),
                    );
                }
                _ if Instant::now() > deadline => return TrainError::Collective { rank: self.rank, doing, source },
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }
}

pub(crate) fn failure_key(rank: usize) -> String {
    format!("failed/{rank}")
}

fn alive_key(rank: usize) -> String {
    format!("alive/{rank}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&'static str, &str)]) -> Result<Ranks, TrainError> {
        let find = |name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Ranks::from_variables(find, Duration::from_secs(1), false)
    }

    #[test]
    fn one_process_needs_no_variables() {
        assert_eq!(from(&[]).unwrap().world_size(), 1);
        assert_eq!(from(&[("WORLD_SIZE", "1")]).unwrap().sum(&[1.5]).unwrap(), [1.5]);
    }

    #[test]
    fn a_wrong_variable_is_named_with_its_value() {
        let error = from(&[("WORLD_SIZE", "two")]).unwrap_err().to_string();
        assert!(error.starts_with("environment variable `WORLD_SIZE` is `two`"), "{error}");
        let error = from(&[("WORLD_SIZE", "2")]).unwrap_err().to_string();
        assert!(error.starts_with("environment variable `RANK` is not set"), "{error}");
        let error = from(&[("WORLD_SIZE", "2"), ("RANK", "2")]).unwrap_err().to_string();
        assert!(error.starts_with("environment variable `RANK` is `2`"), "{error}");
    }
}
