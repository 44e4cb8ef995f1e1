//! Seeded choices that stay the same over versions of every dependency: ChaCha20 and our own Fisher-Yates.
//!
//! The order of training samples must survive upgrades, and `rand` promises no stable shuffle.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Stream of random numbers that is a pure function of a purpose and some integers.
#[derive(Debug, Clone)]
pub struct Stream(ChaCha20Rng);

impl Stream {
    /// Stream for one `purpose` (so that two uses of a seed never share numbers), given by `parts`.
    #[must_use]
    pub fn new(purpose: &str, parts: &[u64]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(purpose.as_bytes());
        hasher.update(&[0]);
        for part in parts {
            hasher.update(&part.to_le_bytes());
        }
        Self(ChaCha20Rng::from_seed(*hasher.finalize().as_bytes()))
    }

    /// Stream for one seed and one id.
    #[must_use]
    pub fn for_id(purpose: &str, seed: u64, id: &str) -> Self {
        let hash = blake3::hash(id.as_bytes());
        let number = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes of a 32-byte hash"));
        Self::new(purpose, &[seed, number])
    }

    /// Uniform integer in `0..bound`, without bias.
    ///
    /// # Panics
    /// When `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "no number is below 0");
        // Numbers under 2^64 mod bound would make small remainders more likely: draw again.
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let number = self.0.next_u64();
            if number >= threshold {
                return number % bound;
            }
        }
    }

    /// Uniform in `[0, 1)` with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Close to a standard normal: twelve uniforms minus six (only additions, so equal on every platform).
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// One of `choices`.
    ///
    /// # Panics
    /// When `choices` is empty.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// Fisher-Yates, from the end.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// A shuffled `0..n`.
    #[must_use]
    pub fn permutation(mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        self.shuffle(&mut order);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_pinned() {
        // Changing this changes the batches of every resumed run.
        assert_eq!(Stream::new("test", &[1, 2]).permutation(8), [6, 1, 2, 4, 5, 7, 0, 3]);
        assert_ne!(Stream::new("test", &[1, 3]).permutation(8), Stream::new("test", &[1, 2]).permutation(8));
    }

    #[test]
    fn below_is_uniform() {
        let mut stream = Stream::new("uniform", &[]);
        let mut counts = [0u32; 6];
        (0..60_000).for_each(|_| counts[stream.below(6) as usize] += 1);
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
    }

    #[test]
    fn normal_has_mean_0_and_variance_1() {
        let mut stream = Stream::new("normal", &[]);
        let draws: Vec<f64> = (0..20_000).map(|_| stream.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04, "{mean} {variance}");
    }
}
