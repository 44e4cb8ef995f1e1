//! Approximated discounted rank MSE (Schlatt et al. 2024, "Rank-DistiLLM", arXiv:2405.07920, section 3).
//!
//! Mean over candidates of `(r_i - r'_i)^2 / log2(1 + r_i)` with the differentiable rank r'_i = 1 + sum over j of
//! sigmoid(s_j - s_i) (Qin et al. 2010), temperature 1. The target ranks r are the teacher's.

use tch::{Kind, Tensor};

use super::differences;

pub(super) fn sum(scores: &Tensor, ranks: &Tensor) -> Tensor {
    let (_, n) = scores.size2().expect("scores are [lists, n]");
    let target = ranks.to_kind(Kind::Float); // [lists, n]
    // The sum over j includes j = i, which adds sigmoid(0) = 1/2.
    let approximate = (-differences(scores)).sigmoid().sum_dim_intlist(-1, false, Kind::Float) + 0.5; // [lists, n]
    let discount = (&target + 1.0).log2();
    ((&target - approximate).square() / discount).sum(Kind::Float) / n as f64
}
