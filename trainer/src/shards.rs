//! Which elements of the optimiser's state a rank owns (ZeRO stage 1, Rajbhandari et al. 2020).
//!
//! The parameters, end to end in their order, are one line of elements, cut into equal ranges: AdamW is element-wise, so a cut
//! may go through a tensor, and every rank holds its share to within an element. An owner updates its elements and sends them to
//! the others; the weights are those of an optimiser that is not cut, to the bit.

use std::ops::Range;

use tch::Tensor;

use crate::TrainError;
use crate::distribution::Ranks;
use crate::gradients::buckets;

/// The line and its cuts.
#[derive(Debug, Clone)]
pub(crate) struct Cut {
    /// Elements of each parameter.
    lengths: Vec<i64>,
    world_size: usize,
}

impl Cut {
    /// Among `world_size` ranks.
    pub fn new(lengths: Vec<i64>, world_size: usize) -> Self {
        Self { lengths, world_size }
    }

    /// The elements of each parameter that `rank` owns; empty where it owns none.
    pub fn of(&self, rank: usize) -> Vec<Range<i64>> {
        let total: i64 = self.lengths.iter().sum();
        let border = |rank: usize| (i128::from(total) * rank as i128 / self.world_size as i128) as i64;
        let (from, to) = (border(rank), border(rank + 1));
        let mut first = 0;
        let own = |length: &i64| {
            let range = (from - first).clamp(0, *length)..(to - first).clamp(0, *length);
            first += length;
            range
        };
        self.lengths.iter().map(own).collect()
    }
}

/// Some elements of a tensor as a flat view that shares its storage.
pub(crate) fn part(tensor: &Tensor, range: &Range<i64>) -> Tensor {
    tensor.detach().view(-1).narrow(0, range.start, range.end - range.start)
}

/// Every rank's own elements of `tensors` to all others.
///
/// # Errors
/// Another rank failed or did not come in time.
pub(crate) fn share(tensors: &[Tensor], cut: &Cut, ranks: &Ranks) -> Result<(), TrainError> {
    for owner in 0..cut.world_size {
        let ranges = cut.of(owner);
        let own = tensors.iter().zip(&ranges).filter(|(_, range)| !range.is_empty());
        let parts: Vec<Tensor> = own.map(|(tensor, range)| part(tensor, range)).collect();
        for bucket in buckets(&parts) {
            ranks.broadcast_from(owner, bucket)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_element_has_one_owner_and_shares_are_equal(
            lengths in prop::collection::vec(0i64..50, 1..8), world_size in 1usize..6,
        ) {
            let cut = Cut::new(lengths.clone(), world_size);
            let ranges: Vec<Vec<Range<i64>>> = (0..world_size).map(|rank| cut.of(rank)).collect();
            for (parameter, length) in lengths.iter().enumerate() {
                let owned: Vec<i64> = ranges.iter().flat_map(|own| own[parameter].clone()).collect();
                prop_assert_eq!(owned, (0..*length).collect::<Vec<_>>());
            }
            let shares: Vec<i64> = ranges.iter().map(|own| own.iter().map(|r| r.end - r.start).sum()).collect();
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", shares);
        }
    }
}
