//! Seconds per query, and one decoder's against another's.

use serde::{Deserialize, Serialize};

use crate::EvaluatorError;
use crate::stats::{Bootstrap, Interval, mean, percentile};

/// Seconds per query.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the queries took no longer.
    pub median: f64,
    /// 95 of 100 took no longer.
    pub p95: f64,
    /// Mean.
    pub mean: f64,
    /// Queries.
    pub num_queries: usize,
}

impl Latency {
    /// Of seconds per query; all 0 for none.
    #[must_use]
    pub fn of(seconds: &[f64]) -> Self {
        Self {
            median: percentile(seconds, 50.0),
            p95: percentile(seconds, 95.0),
            mean: mean(seconds),
            num_queries: seconds.len(),
        }
    }
}

/// How many times faster than the baseline, query by query in the same process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Speedup {
    /// Median over queries of baseline seconds / seconds.
    pub median: f64,
    /// Bootstrap interval of that median.
    pub interval: Interval,
    /// Sum of baseline seconds / sum of seconds.
    pub of_sums: f64,
}

impl Speedup {
    /// `seconds[i]` and `baseline[i]` belong to the same query.
    ///
    /// # Errors
    /// Different lengths, no queries.
    pub fn paired(seconds: &[f64], baseline: &[f64], bootstrap: &Bootstrap) -> Result<Self, EvaluatorError> {
        if seconds.len() != baseline.len() {
            return Err(EvaluatorError::Unpaired { what: "speedup", got: seconds.len(), wanted: baseline.len() });
        }
        // a clock's resolution: nothing is infinitely fast
        let ratios: Vec<f64> = seconds.iter().zip(baseline).map(|(own, base)| base.max(1e-9) / own.max(1e-9)).collect();
        let interval = bootstrap.median(&ratios)?;
        let sum = |values: &[f64]| values.iter().sum::<f64>().max(1e-9);
        Ok(Self { median: percentile(&ratios, 50.0), interval, of_sums: sum(baseline) / sum(seconds) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_pair_queries() {
        let speedup = Speedup::paired(&[1.0, 2.0, 4.0], &[2.0, 4.0, 8.0], &Bootstrap::default()).unwrap();
        assert_eq!((speedup.median, speedup.of_sums), (2.0, 2.0));
        assert_eq!(speedup.interval, Interval { low: 2.0, high: 2.0 });
        assert!(Speedup::paired(&[1.0], &[], &Bootstrap::default()).is_err());
    }

    #[test]
    fn median_and_p95() {
        let latency = Latency::of(&(1..=100).map(f64::from).collect::<Vec<_>>());
        assert_eq!((latency.median, latency.mean), (50.5, 50.5));
        assert!((latency.p95 - 95.05).abs() < 1e-9);
        assert_eq!(Latency::of(&[]).median, 0.0);
    }
}
