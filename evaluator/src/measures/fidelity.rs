//! How close one order is to another over the same candidates.

use serde::{Deserialize, Serialize};

use crate::EvaluatorError;

/// Where `recall_at_10` and `ndcg_at_10` cut.
const CUT: usize = 10;

/// Closeness of an order to a reference order of the same n candidates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fidelity {
    /// Kendall's tau, in [-1, 1]; 1 for fewer than two candidates.
    pub kendall_tau: f64,
    /// (tau + 1) / 2, in [0, 1]: the share of pairs in the same order.
    pub ranking: f64,
    /// Spearman's rho, in [-1, 1].
    pub spearman: f64,
    /// Sum of the distances between a candidate's two places.
    pub footrule: f64,
    /// Pairs in opposite order (Kemeny distance).
    pub kemeny: f64,
    /// Share of the reference's first ten that are among the first ten (all n when n < 10).
    pub recall_at_10: f64,
    /// nDCG of the first ten, gain 1 for the reference's first ten.
    pub ndcg_at_10: f64,
}

impl Fidelity {
    /// Names and values, for tables and records.
    #[must_use]
    pub fn named(&self) -> [(&'static str, f64); 7] {
        [
            ("kendall_tau", self.kendall_tau),
            ("ranking", self.ranking),
            ("spearman", self.spearman),
            ("footrule", self.footrule),
            ("kemeny", self.kemeny),
            ("recall_at_10", self.recall_at_10),
            ("ndcg_at_10", self.ndcg_at_10),
        ]
    }
}

/// Compares two permutations of `0..n`, best first.
///
/// # Errors
/// When either is not a permutation or their lengths differ.
pub fn compare_orders(order: &[u16], reference: &[u16]) -> Result<Fidelity, EvaluatorError> {
    if order.len() != reference.len() {
        return Err(EvaluatorError::OrderLengths { got: order.len(), wanted: reference.len() });
    }
    let (places, wanted) = (places(order)?, places(reference)?);
    let n = order.len();
    // places in `order` of the candidates in the reference's order: inversions are discordant pairs
    let sequence: Vec<usize> = reference.iter().map(|candidate| places[usize::from(*candidate)]).collect();
    let discordant = (0..n).map(|i| (i + 1..n).filter(|j| sequence[i] > sequence[*j]).count()).sum::<usize>() as f64;
    let distances = places.iter().zip(&wanted).map(|(a, b)| a.abs_diff(*b) as f64);
    let squares: f64 = distances.clone().map(|d| d * d).sum();
    let size = n as f64;
    let (kendall_tau, spearman) = if n < 2 {
        (1.0, 1.0)
    } else {
        (1.0 - 4.0 * discordant / (size * (size - 1.0)), 1.0 - 6.0 * squares / (size * (size * size - 1.0)))
    };
    let cut = CUT.min(n);
    let hits: Vec<bool> = order[..cut].iter().map(|candidate| wanted[usize::from(*candidate)] < cut).collect();
    let discount = |place: usize| 1.0 / ((place + 2) as f64).log2();
    let gained: f64 = hits.iter().enumerate().filter(|(_, hit)| **hit).map(|(place, _)| discount(place)).sum();
    let ideal: f64 = (0..cut).map(discount).sum();
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 1.0 };
    Ok(Fidelity {
        kendall_tau,
        ranking: f64::midpoint(kendall_tau, 1.0),
        spearman,
        footrule: distances.sum(),
        kemeny: discordant,
        recall_at_10: share(hits.iter().filter(|hit| **hit).count() as f64, cut as f64),
        ndcg_at_10: share(gained, ideal),
    })
}

/// Place of each candidate.
fn places(order: &[u16]) -> Result<Vec<usize>, EvaluatorError> {
    let mut places = vec![usize::MAX; order.len()];
    for (place, candidate) in order.iter().enumerate() {
        match places.get_mut(usize::from(*candidate)) {
            Some(slot) if *slot == usize::MAX => *slot = place,
            _ => return Err(EvaluatorError::NotAPermutation { order: order.to_vec() }),
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Deserialize)]
    struct Case {
        order: Vec<u16>,
        reference: Vec<u16>,
        #[serde(flatten)]
        wanted: Fidelity,
    }

    #[test]
    fn equal_to_scipy() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../../tests/golden/evaluator/fidelity.json")).unwrap();
        for case in &cases {
            let got = compare_orders(&case.order, &case.reference).unwrap().named();
            for ((name, got), (_, wanted)) in got.into_iter().zip(case.wanted.named()) {
                assert!((got - wanted).abs() < 1e-9, "{name}: {got}, wanted {wanted}");
            }
        }
    }

    #[test]
    fn what_is_no_permutation_is_refused() {
        assert!(compare_orders(&[0, 0], &[0, 1]).is_err());
        assert!(compare_orders(&[0, 2], &[0, 1]).is_err());
        assert!(compare_orders(&[0], &[0, 1]).is_err());
        assert_eq!(compare_orders(&[], &[]).unwrap().ranking, 1.0);
    }

    proptest! {
        #[test]
        fn symmetric_and_one_only_for_equal_orders(seed in any::<u64>(), n in 2usize..40) {
            let order: Vec<u16> = data::random::Stream::new("a", &[seed]).permutation(n).iter().map(|i| *i as u16).collect();
            let other: Vec<u16> = data::random::Stream::new("b", &[seed]).permutation(n).iter().map(|i| *i as u16).collect();
            let there = compare_orders(&order, &other).unwrap();
            let back = compare_orders(&other, &order).unwrap();
            prop_assert_eq!(there.kemeny, back.kemeny);
            prop_assert_eq!(there.footrule, back.footrule);
            prop_assert_eq!(there.kendall_tau == 1.0, order == other);
            // Diaconis and Graham 1977
            prop_assert!(there.kemeny <= there.footrule && there.footrule <= 2.0 * there.kemeny);
            let same = compare_orders(&order, &order).unwrap();
            prop_assert_eq!((same.ranking, same.spearman, same.recall_at_10, same.ndcg_at_10), (1.0, 1.0, 1.0, 1.0));
        }
    }
}
