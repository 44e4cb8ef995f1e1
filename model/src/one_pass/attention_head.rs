//! The head over rows of group contributions, one set of weights for all levels.

use tch::{Device, Kind, Tensor};

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

/// Far below every score and finite, so that a softmax over nothing is no NaN.
const HIDDEN: f64 = -1e9;

impl HierarchicalAttention {
    /// Float32 weights, uniform in ±1/√n by `seed`. Reseeds libtorch's generator.
    #[must_use]
    pub fn new(n: usize, seed: i64, device: Device) -> Self {
        tch::manual_seed(seed);
        let bound = 1.0 / (n as f64).sqrt();
        let uniform = |size: &[i64]| {
            let values = Tensor::rand(size, (Kind::Float, Device::Cpu)) * (2.0 * bound) - bound;
            values.to_device(device)
        };
        let n = n as i64;
        Self { q_weight: uniform(&[n, n]), q_bias: uniform(&[n]), k_weight: uniform(&[n, n]), k_bias: uniform(&[n]) }
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
    /// is taken. `dropout` is the probability of dropping an attention weight; 0 outside training.
    pub fn pool(&self, scores: &Tensor, x: &Tensor, taken: &Tensor, dropout: f64) -> Tensor {
        let weights = scores.masked_fill(&taken.logical_not().unsqueeze(-2), HIDDEN).softmax(-1, Kind::Float);
        let weights = if dropout > 0.0 { weights.dropout(dropout, true) } else { weights };
        let taken = taken.to_kind(Kind::Float);
        let weights = weights * taken.unsqueeze(-1); // [.., rows, rows]
        let of_row = weights.sum_dim_intlist(-2, false, Kind::Float) + taken; // [.., rows]: how often each row is counted
        of_row.unsqueeze(-2).matmul(x).squeeze_dim(-2)
    }
}
