//! The head over rows of group contributions, one set of weights for all levels.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use tch::{Device, Tensor};

use crate::linear::DropoutSeed;
use crate::random_weights::uniform_matrix;

/// Dropping attention weights in training: a pure function of its seed, whatever else draws random numbers meanwhile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadDropout {
    /// Probability of dropping a weight, in [0, 1).
    pub probability: f64,
    /// Seed of one set of scores; every place in it derives its own.
    pub seed: DropoutSeed,
}

impl HeadDropout {
    /// For one of the places where a head is used.
    pub(super) fn of(self, place: u64) -> Self {
        Self { seed: self.seed.of_module(place), ..self }
    }
}

/// Self-attention without a value projection, pooled: `R(X) = Σ_rows softmax(Q(X) K(X)^T / √n) X + X` for rows `X` `[rows, n]`
/// (ONE-PASS, section on hierarchical self-attention; `n` is the number of candidates).
#[derive(Debug)]
pub struct HierarchicalAttention {
    /// `[n, n]`.
    q_weight: Tensor,
    /// `[n]`.
    q_bias: Tensor,
    /// `[n, n]`.
    k_weight: Tensor,
    /// `[n]`.
    k_bias: Tensor,
}

impl HierarchicalAttention {
    /// Float32 weights, uniform in ±1/√n: a pure function of n and `seed`.
    #[must_use]
    pub fn new(n: usize, seed: u64, device: Device) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let bound = 1.0 / (n as f32).sqrt();
        let n = n as i64;
        let mut uniform = |rows: i64| uniform_matrix(&mut rng, rows, n, bound).to_device(device);
        let (q_weight, q_bias) = (uniform(n), uniform(1).squeeze_dim(0));
        let (k_weight, k_bias) = (uniform(n), uniform(1).squeeze_dim(0));
        Self { q_weight, q_bias, k_weight, k_bias }
    }

    /// Candidates of a list.
    #[must_use]
    pub fn num_candidates(&self) -> usize {
        self.q_bias.size()[0] as usize
    }

    /// Weights by name, sharing storage.
    #[must_use]
    pub fn named_tensors(&self) -> Vec<(String, Tensor)> {
        let named = [
            ("q.weight", &self.q_weight),
            ("q.bias", &self.q_bias),
            ("k.weight", &self.k_weight),
            ("k.bias", &self.k_bias),
        ];
        named.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())).into()
    }

    /// `Q(X) K(X)^T / √n` of rows `x` `[.., rows, n]`: `[.., rows, rows]`. Rows keep their scores whichever of them are
    /// pooled, so they are computed once for all steps of a ranking.
    pub fn scores(&self, x: &Tensor) -> Tensor {
        let q = x.linear(&self.q_weight, Some(&self.q_bias));
        let k = x.linear(&self.k_weight, Some(&self.k_bias));
        let n = self.q_bias.size()[0] as f64;
        q.matmul(&k.transpose(-2, -1)) / n.sqrt()
    }

    /// `R` of the rows of `x` `[.., rows, n]` that `taken` (bool `[.., rows]`) names, given their [`Self::scores`]: `[.., n]`, zeros where none
    /// is taken. `dropout` drops attention weights; `None` outside training.
    pub fn pool(&self, scores: &Tensor, x: &Tensor, taken: &Tensor, dropout: Option<HeadDropout>) -> Tensor {
        let drop = dropout.map(|dropout| (dropout.probability, dropout.seed.0));
        let counts = native::ops::attention_counts(scores, taken, drop); // [.., rows]
        counts.unsqueeze(-2).matmul(x).squeeze_dim(-2)
    }
}
