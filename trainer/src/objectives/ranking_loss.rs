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

    /// Sum of the lists' losses. A list of one candidate has nothing to order: its gradient is 0.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tch::Device;

    const GOLDEN: &str = include_str!("../../../tests/golden/trainer/ranking_losses.json");

    fn floats(value: &serde_json::Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    }

    /// Float32 against float64 with gains up to 2^20.
    fn close(got: f64, wanted: f64) -> bool {
        (got - wanted).abs() <= 1e-4 * wanted.abs() + 1e-6
    }

    #[test]
    fn losses_and_gradients_equal_plain_loops_in_pytorch() {
        let golden: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
        for case in golden["cases"].as_array().unwrap() {
            let shape = [case["lists"].as_i64().unwrap(), case["n"].as_i64().unwrap()];
            let scores = Tensor::from_slice(&floats(&case["scores"])).view(shape).to_kind(Kind::Float);
            let ranks: Vec<i64> = floats(&case["ranks"]).iter().map(|rank| *rank as i64).collect();
            let ranks = Tensor::from_slice(&ranks).view(shape);
            for (name, wanted) in case["losses"].as_object().unwrap() {
                let loss: RankingLoss = serde_json::from_value(name.as_str().into()).unwrap();
                let leaf = scores.copy().set_requires_grad(true);
                let sum = loss.sum(&leaf, &ranks);
                sum.backward();
                let got = sum.double_value(&[]);
                assert!(close(got, wanted["sum"].as_f64().unwrap()), "{name}: {got} {}", wanted["sum"]);
                let gradient = Vec::<f64>::try_from(leaf.grad().to_kind(Kind::Double).flatten(0, -1)).unwrap();
                for (got, wanted) in gradient.iter().zip(floats(&wanted["gradient"])) {
                    assert!(close(*got, wanted), "{name}: gradient {got} {wanted}");
                }
            }
        }
    }

    #[test]
    fn one_candidate_gives_a_finite_loss() {
        for loss in ALL {
            let scores = Tensor::from_slice(&[3.0f32]).view([1, 1]).set_requires_grad(true);
            let sum = loss.sum(&scores, &Tensor::from_slice(&[1i64]).view([1, 1]));
            sum.backward();
            assert!(sum.double_value(&[]).abs() < 1.0 && scores.grad().double_value(&[0, 0]) == 0.0, "{loss:?}");
        }
    }

    const ALL: [RankingLoss; 5] = [
        RankingLoss::WeightedRankNet,
        RankingLoss::RankNet,
        RankingLoss::ListNet,
        RankingLoss::LambdaRank,
        RankingLoss::AdrMse,
    ];

    proptest! {
        /// Scores in target order lose less than the same scores in the opposite order, wherever their zero is.
        #[test]
        fn the_right_order_loses_less(steps in prop::collection::vec(0.1f32..3.0, 2..12), shift in -20.0f32..20.0) {
            let n = steps.len() as i64;
            let scores: Vec<f32> = steps.iter().scan(shift, |sum, step| { *sum -= step; Some(*sum) }).collect();
            let right = Tensor::from_slice(&scores).view([1, n]);
            let wrong = right.flip([1]);
            let ranks = (Tensor::arange(n, (Kind::Int64, Device::Cpu)) + 1).view([1, n]);
            for loss in ALL {
                let (right, wrong) = (loss.sum(&right, &ranks), loss.sum(&wrong, &ranks));
                let (right, wrong) = (right.double_value(&[]), wrong.double_value(&[]));
                prop_assert!(right.is_finite() && wrong.is_finite() && right < wrong, "{:?} {} {}", loss, right, wrong);
            }
        }
    }
}
