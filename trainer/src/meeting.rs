//! Waiting for ranks whose work takes as long as it takes.
//!
//! A collective gives a rank `collective_timeout_seconds`. Where ranks do work of different length (one set each, a head on rank 0, a share
//! of the queries) they meet first: who is early waits as long as the others live. A thread of each rank tells the store that it does.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use native::store::{Limits, Store};

use crate::TrainError;
use crate::distribution::{Ranks, failure_key};

/// Longest time between two signs of life.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// Longest time between two looks at the store.
const LONGEST_NAP: Duration = Duration::from_millis(500);

/// Where the store is, and this process's place in it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub host: String,
    pub port: u16,
    /// Of all keys.
    pub prefix: String,
    pub rank: usize,
    /// After this long without a sign a rank counts as dead.
    pub timeout: Duration,
}

/// A thread gives signs of life until this is dropped. It is not waited for: the store may have stopped answering.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    _stop: Sender<()>,
}

impl Heartbeat {
    pub fn start(place: Place) -> Self {
        let (stop, stopped) = mpsc::channel();
        let pause = (place.timeout / 6).min(LONGEST_PAUSE);
        let beat = move || {
            let limits = Limits { connect: place.timeout, answer: place.timeout };
            let key = format!("{}/{}", place.prefix, beat_key(place.rank));
            let store = match Store::connect(&place.host, place.port, limits) {
                Ok(store) => store,
                // The others wait for this rank as long as for a collective.
                Err(error) => return tracing::warn!("no signs of life can be given: {error}"),
            };
            for count in 0_u64.. {
                // A store that is gone is told where it is needed.
                if store.set(&key, &count.to_string()).is_err()
                    || stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout)
                {
                    return;
                }
            }
        };
        std::thread::spawn(beat);
        Self { _stop: stop }
    }
}

impl Ranks {
    /// Waits until all ranks are here, as long as those that are not live.
    ///
    /// # Errors
    /// A rank said that it failed, or gave no sign of life for as long as a collective would wait.
    pub fn meet(&self) -> Result<(), TrainError> {
        let Some(group) = self.group() else { return Ok(()) };
        let number = self.next_meeting();
        let here = |rank: usize| format!("met/{number}/{rank}");
        let told = |source| self.explain("meeting the other ranks", source);
        group.store_set(&here(self.rank()), "1").map_err(told)?;
        for rank in (0..self.world_size()).filter(|rank| *rank != self.rank()) {
            let mut nap = Duration::from_millis(5);
            let (mut sign, mut seen) = (None, Instant::now());
            while group.store_get(&here(rank)).map_err(told)?.is_none() {
                let failed = |failed, message| Err(TrainError::OtherRank { rank: self.rank(), failed, message });
                if let Some(message) = group.store_get(&failure_key(rank)).map_err(told)? {
                    return failed(rank, message);
                }
                let now = group.store_get(&beat_key(rank)).map_err(told)?;
                if now != sign {
                    (sign, seen) = (now, Instant::now());
                } else if seen.elapsed() > self.timeout() {
                    return failed(rank, "it gives no sign of life: it ended, hangs, or the network does".to_owned());
                }
                std::thread::sleep(nap);
                nap = (2 * nap).min(LONGEST_NAP);
            }
        }
        Ok(())
    }
}

fn beat_key(rank: usize) -> String {
    format!("beat/{rank}")
}
