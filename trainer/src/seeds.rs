//! Random state without a history: every draw's seed is a pure function of where it is drawn.
//!
//! A resumed run therefore draws what it would have drawn, and nothing of a generator has to be saved.

/// Seed for the place named by `place` (step, rank, micro-batch ...) in a run with seed `seed`.
pub fn derive_seed(seed: u64, place: &[u64]) -> u64 {
    let mixed = place
        .iter()
        .fold(split_mix(seed), |state, part| split_mix(state ^ split_mix(*part)));
    // Without the sign bit: libtorch takes seeds as signed numbers.
    mixed >> 1
}

/// SplitMix64's output function (Steele, Lea & Flood 2014): a bijection that scatters neighbouring inputs.
fn split_mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn places_have_their_own_seeds() {
        let mut seen = HashSet::new();
        for seed in 0..4 {
            for step in 0..50 {
                for micro in 0..10 {
                    assert!(seen.insert(derive_seed(seed, &[step, micro])));
                }
            }
        }
        assert_eq!(derive_seed(7, &[1, 2]), derive_seed(7, &[1, 2]));
        assert_ne!(derive_seed(7, &[1, 2]), derive_seed(7, &[2, 1]));
    }
}
