//! Which sample stands where: a pure function of seed, epoch, step, rank and world size.

use std::ops::Range;

use super::LoaderConfig;
use crate::random::Stream;

/// A place in the endless sequence of epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SamplePlace {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Index of the sample in the set.
    pub index: usize,
}

/// The order of a set's samples; remembers the permutation of the epoch asked for last.
#[derive(Debug, Clone)]
pub struct SampleOrder {
    seed: u64,
    len: usize,
    shuffle: bool,
    cached: Option<(u64, Vec<u32>)>,
}

impl SampleOrder {
    /// Order of `len` samples (at most 2^32).
    #[must_use]
    pub fn new(seed: u64, len: usize, shuffle: bool) -> Self {
        Self { seed, len, shuffle, cached: None }
    }

    /// The sample at a place of the endless sequence.
    ///
    /// # Panics
    /// When the set is empty.
    pub fn at(&mut self, place: u64) -> SamplePlace {
        let epoch = place / self.len as u64;
        let within = (place % self.len as u64) as usize;
        if !self.shuffle {
            return SamplePlace { epoch, index: within };
        }
        if self.cached.as_ref().is_none_or(|(cached, _)| *cached != epoch) {
            let order = Stream::new("order of samples", &[self.seed, epoch]).permutation(self.len);
            self.cached = Some((epoch, order));
        }
        let index = self.cached.as_ref().map_or(within, |(_, order)| order[within] as usize);
        SamplePlace { epoch, index }
    }

    /// The samples of one rank's share of a step.
    pub fn step(&mut self, step: u64, config: &LoaderConfig) -> Vec<SamplePlace> {
        rank_places(step, config).map(|place| self.at(place)).collect()
    }
}

/// Places of one rank's share of a step.
fn rank_places(step: u64, config: &LoaderConfig) -> Range<u64> {
    let share = (config.global_batch_size / config.world_size) as u64;
    let start = step * config.global_batch_size as u64 + config.rank as u64 * share;
    start..start + share
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(rank: usize, world_size: usize, global_batch_size: usize) -> LoaderConfig {
        LoaderConfig {
            seed: 5,
            rank,
            world_size,
            global_batch_size,
            micro_batch_size: 1,
            max_micro_batch_tokens: 1,
            prefetch_steps: 1,
            num_steps: 1,
            shuffle: true,
        }
    }

    proptest! {
        #[test]
        fn every_sample_once_an_epoch_and_ranks_join_to_the_single_process_batch(
            len in 1usize..40, share in 1usize..5, world_size in 1usize..5, step in 0u64..50,
        ) {
            let global = share * world_size;
            let mut order = SampleOrder::new(5, len, true);
            let whole = order.step(step, &config(0, 1, global));
            let joined: Vec<_> = (0..world_size).flat_map(|rank| order.step(step, &config(rank, world_size, global))).collect();
            prop_assert_eq!(&whole, &joined);
            let mut epoch: Vec<usize> = (0..len as u64).map(|place| order.at(3 * len as u64 + place).index).collect();
            epoch.sort_unstable();
            prop_assert_eq!(epoch, (0..len).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_last_step_of_an_epoch_is_filled_from_the_next() {
        let mut order = SampleOrder::new(1, 3, false);
        let places = order.step(1, &config(0, 1, 2));
        assert_eq!(places, [SamplePlace { epoch: 0, index: 2 }, SamplePlace { epoch: 1, index: 0 }]);
    }
}
