//! ListNet (Cao et al. 2007, "Learning to rank: from pairwise approach to listwise approach", top-one case).
//!
//! Cross-entropy of softmax(target scores) against softmax(s). The target scores are the model's own in target order,
//! detached (the published trainer lets the gradient run through them).

use tch::{Kind, Tensor};

use super::own_scores_in_target_order;

pub(super) fn sum(scores: &Tensor, ranks: &Tensor) -> Tensor {
    let target = own_scores_in_target_order(scores, ranks).softmax(-1, Kind::Float); // [lists, n]
    -(target * scores.log_softmax(-1, Kind::Float)).sum(Kind::Float)
}
