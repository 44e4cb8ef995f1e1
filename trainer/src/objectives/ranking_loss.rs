//! Learning-to-rank losses on a row of scores.
//!
//! All take `scores` `[lists, n]` float32 and `ranks` `[lists, n]` int64 (1 is best) and return the sum over lists of each
//! list's loss, a float32 scalar.

mod adr_mse;
mod lambda_rank;
mod list_net;
mod rank_net;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Which loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RankingLoss {
    /// RankNet with weight 1 / (r_i + r_j) (Reddy et al. 2024, section 3.2).
    WeightedRankNet,
    /// RankNet (Burges et al. 2005).
    RankNet,
    /// ListNet (Cao et al. 2007).
    ListNet,
    /// LambdaRank as NDCG-Loss2 of LambdaLoss (Wang et al. 2018).
    LambdaRank,
    /// Approximated discounted rank MSE (Schlatt et al. 2024).
    AdrMse,
}

impl RankingLoss {
    /// Weight beside the language modelling loss in FIRST's published trainer; 1 for ADR-MSE, which it lacks.
    pub fn published_lambda(self) -> f64 {
        match self {
            Self::WeightedRankNet => 10.0,
            Self::ListNet => 0.1,
            Self::RankNet | Self::LambdaRank | Self::AdrMse => 1.0,
        }
    }

    /// Sum of the lists' losses. A list of one candidate has nothing to order and counts 0, ListNet and ADR-MSE included.
    pub fn sum(self, scores: &Tensor, ranks: &Tensor) -> Tensor {
        match self {
            Self::WeightedRankNet => rank_net::sum(scores, ranks, true),
            Self::RankNet => rank_net::sum(scores, ranks, false),
            Self::ListNet => list_net::sum(scores, ranks),
            Self::LambdaRank => lambda_rank::sum(scores, ranks),
            Self::AdrMse => adr_mse::sum(scores, ranks),
        }
    }
}

/// The model's own scores in falling order, handed to the candidates in target order: the candidate of rank r gets the
/// r-th largest score. Detached: a target that moved with the gradient would be no target. `[lists, n]`.
fn own_scores_in_target_order(scores: &Tensor, ranks: &Tensor) -> Tensor {
    let (sorted, _) = scores.detach().sort(-1, true);
    sorted.gather(-1, &(ranks - 1), false)
}

/// 1 where the row's candidate stands before the column's in the target, else 0: `[lists, n, n]` float32.
fn pairs_in_order(ranks: &Tensor) -> Tensor {
    ranks.unsqueeze(-1).lt_tensor(&ranks.unsqueeze(-2)).to_kind(Kind::Float)
}

/// `scores_i - scores_j` as `[lists, n (i), n (j)]`.
fn differences(scores: &Tensor) -> Tensor {
    scores.unsqueeze(-1) - scores.unsqueeze(-2)
}

/// n (n - 1) / 2, at least 1.
fn num_pairs(scores: &Tensor) -> f64 {
    let (_, n) = scores.size2().expect("scores are [lists, n]");
    (n * (n - 1) / 2).max(1) as f64
}
