//! Random state without a history: every draw's seed is a pure function of where it is drawn.
//!
//! A resumed run therefore draws what it would have drawn, and nothing of a generator has to be saved.

/// Seed for the place named by `place` (step, rank, micro-batch ...) in a run with seed `seed`.
pub fn derive_seed(seed: u64, place: &[u64]) -> u64 {
    // Multiplied by an odd number, so that parts cannot change places.
    let mix = |state: u64, part: &u64| split_mix(state.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(*part));
    // Without the sign bit: libtorch takes seeds as signed numbers.
    place.iter().fold(split_mix(seed), mix) >> 1
}

/// Numbers uniform in [-1, 1), a pure function of `seed`: unlike libtorch's generator, no other thread can come between.
pub fn uniform(seed: u64, count: usize) -> Vec<f32> {
    let scale = 2.0 / (1u64 << 24) as f32;
    let number = |index: u64| (split_mix(seed.wrapping_add(index)) >> 40) as f32 * scale - 1.0;
    (0..count as u64).map(number).collect()
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
        assert_ne!(derive_seed(3, &[4]), derive_seed(4, &[3]));
        assert_eq!(derive_seed(7, &[1, 2]), derive_seed(7, &[1, 2]));
        assert_ne!(derive_seed(7, &[1, 2]), derive_seed(7, &[2, 1]));
    }

    #[test]
    fn uniform_numbers_fill_their_range() {
        let numbers = uniform(1, 100_000);
        let mean = numbers.iter().map(|number| f64::from(*number)).sum::<f64>() / 1e5;
        let square = numbers.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>() / 1e5;
        assert!(numbers.iter().all(|number| (-1.0..1.0).contains(number)));
        assert!(mean.abs() < 0.01 && (square - 1.0 / 3.0).abs() < 0.01, "{mean} {square}");
        assert_ne!(numbers[..10], uniform(2, 10)[..]);
    }
}
