//! Student's paired t-test, two-sided.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::EvaluatorError;
use crate::stats::mean;

/// Result of a paired test of `values - baseline`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedTTest {
    /// Mean difference.
    pub difference: f64,
    /// t; 0 when there is no difference at all, infinite when all differences are equal and not 0.
    pub statistic: f64,
    /// Pairs - 1.
    pub degrees_of_freedom: f64,
    /// Two-sided p; 1 when there is no difference at all.
    pub p_value: f64,
}

/// Tests whether the mean of `values[i] - baseline[i]` is 0.
///
/// # Errors
/// Different lengths, fewer than two pairs.
pub fn paired_t_test(values: &[f64], baseline: &[f64]) -> Result<PairedTTest, EvaluatorError> {
    if values.len() != baseline.len() {
        return Err(EvaluatorError::Unpaired { what: "paired t-test", got: values.len(), wanted: baseline.len() });
    }
    let n = values.len();
    if n < 2 {
        return Err(EvaluatorError::TooFewValues { what: "paired t-test", got: n, wanted: 2 });
    }
    let differences: Vec<f64> = values.iter().zip(baseline).map(|(a, b)| a - b).collect();
    let difference = mean(&differences);
    let degrees_of_freedom = (n - 1) as f64;
    let variance = differences.iter().map(|d| (d - difference).powi(2)).sum::<f64>() / degrees_of_freedom;
    let error = (variance / n as f64).sqrt();
    let statistic = match (difference == 0.0, error == 0.0) {
        (true, _) => 0.0,
        (false, true) => f64::INFINITY.copysign(difference),
        (false, false) => difference / error,
    };
    let p_value = if statistic == 0.0 {
        1.0
    } else if statistic.is_infinite() {
        0.0
    } else {
        let distribution = StudentsT::new(0.0, 1.0, degrees_of_freedom).expect("degrees of freedom are at least 1");
        (2.0 * distribution.sf(statistic.abs())).min(1.0)
    };
    Ok(PairedTTest { difference, statistic, degrees_of_freedom, p_value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        t_tests: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        values: Vec<f64>,
        baseline: Vec<f64>,
        statistic: f64,
        p_value: f64,
    }

    #[test]
    fn equal_to_scipy() {
        let golden: Golden = serde_json::from_str(include_str!("../../../tests/golden/evaluator/stats.json")).unwrap();
        for case in &golden.t_tests {
            let got = paired_t_test(&case.values, &case.baseline).unwrap();
            assert!((got.statistic - case.statistic).abs() < 1e-9 * case.statistic.abs().max(1.0), "{got:?}");
            assert!((got.p_value - case.p_value).abs() < 1e-9, "{got:?}, scipy says {}", case.p_value);
        }
    }

    #[test]
    fn no_difference_and_a_constant_one() {
        assert_eq!(paired_t_test(&[1.0, 2.0], &[1.0, 2.0]).unwrap().p_value, 1.0);
        assert_eq!(paired_t_test(&[2.0, 3.0], &[1.0, 2.0]).unwrap().p_value, 0.0);
        assert!(paired_t_test(&[1.0], &[1.0]).is_err());
        assert!(paired_t_test(&[1.0, 2.0], &[1.0]).is_err());
    }
}
