//! LambdaRank as NDCG-Loss2 (Wang et al. 2018, "The LambdaLoss framework for ranking metric optimization", equation 18).
//!
//! Mean over pairs with r_i < r_j of `delta_ij |G_i - G_j| log2(1 + exp(-(s_i - s_j)))`: `delta_ij` =
//! |1 / D(|p_i - p_j|) - 1 / D(|p_i - p_j| + 1)| with D(p) = log2(1 + p) and p the places by score; gains G = (2^y - 1) /
//! maxDCG. sigma = 1, no cut-off. The targets y are the model's own scores in target order, detached, as in FIRST's
//! trainer; here the smallest of a list counts as 0. Logits have no zero of their own, and negative ones would make gains
//! and maxDCG negative.

use tch::{Kind, Tensor};

use super::{differences, num_pairs, own_scores_in_target_order, pairs_in_order};

/// Smallest maxDCG: a list of equal scores has no gain to lose.
const EPSILON: f64 = 1e-10;

pub(super) fn sum(scores: &Tensor, ranks: &Tensor) -> Tensor {
    let weights = tch::no_grad(|| weights(scores, ranks)); // [lists, n, n]
    let losses = (-differences(scores)).softplus() / std::f64::consts::LN_2; // [lists, n, n]
    (losses * weights * pairs_in_order(ranks)).sum(Kind::Float) / num_pairs(scores)
}

/// `delta_ij |G_i - G_j|`, `[lists, n, n]`.
fn weights(scores: &Tensor, ranks: &Tensor) -> Tensor {
    let relevance = own_scores_in_target_order(scores, ranks);
    let relevance = &relevance - relevance.amin(-1, true); // [lists, n], at least 0
    let gains = relevance.exp2() - 1.0;
    let discount = |place: &Tensor| (place.to_kind(Kind::Float) + 1.0).log2();

    let max_dcg = (&gains / discount(ranks)).sum_dim_intlist(-1, true, Kind::Float).clamp_min(EPSILON);
    let gains = gains / max_dcg;

    let places = scores.argsort(-1, true).argsort(-1, false) + 1; // [lists, n], 1 is the highest score
    let distance = differences(&places).abs(); // [lists, n, n]
    // The diagonal has distance 0, where 1 / D is infinite; no pair uses it.
    let distance = distance.clamp_min(1);
    let delta = (discount(&distance).reciprocal() - discount(&(&distance + 1)).reciprocal()).abs();
    delta * differences(&gains).abs()
}
