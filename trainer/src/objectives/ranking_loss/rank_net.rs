//! RankNet (Burges et al. 2005, "Learning to rank using gradient descent", equation 3 with certain targets) and FIRST's
//! weighted form (Reddy et al. 2024, section 3.2).
//!
//! Mean over the n (n - 1) / 2 pairs with r_i < r_j of `w_ij log(1 + exp(s_j - s_i))`, `w_ij` = 1 / (r_i + r_j) when
//! weighted, else 1. The mean divides by the number of pairs, not by the sum of weights, as the published trainer does;
//! lambda = 10 belongs to that scale.

use tch::{Kind, Tensor};

use super::{differences, num_pairs, pairs_in_order};

pub(super) fn sum(scores: &Tensor, ranks: &Tensor, weighted: bool) -> Tensor {
    let pairs = pairs_in_order(ranks); // [lists, n, n]
    let weights = if weighted {
        let ranks = ranks.to_kind(Kind::Float);
        pairs / (ranks.unsqueeze(-1) + ranks.unsqueeze(-2))
    } else {
        pairs
    };
    // log(1 + exp(s_j - s_i)) without overflow
    let losses = (-differences(scores)).softplus(); // [lists, n, n]
    (losses * weights).sum(Kind::Float) / num_pairs(scores)
}
