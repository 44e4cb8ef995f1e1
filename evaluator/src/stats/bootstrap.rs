//! Percentile bootstrap (Efron 1979): resample queries with replacement, read the interval off the resampled means.

use data::random::Stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::EvaluatorError;
use crate::stats::mean;

/// How intervals are made. The same settings and values give the same interval on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Bootstrap {
    /// Resamples, at least 100. Default 2000.
    pub samples: u32,
    /// Seed of the resampling. Default 42.
    pub seed: u64,
    /// Probability the interval covers, in (0, 1). Default 0.95.
    pub confidence: f64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { samples: 2000, seed: 42, confidence: 0.95 }
    }
}

/// Ends of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// True when `value` is inside or on an end.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

impl Bootstrap {
    /// Interval of the mean. Resampling depends on the number of values only, so that two systems over the same
    /// queries are resampled alike.
    ///
    /// # Errors
    /// No values.
    pub fn mean(&self, values: &[f64]) -> Result<Interval, EvaluatorError> {
        self.statistic("bootstrap of a mean", values, mean)
    }

    /// Interval of the mean of `values[i] - baseline[i]`: pairs are resampled together.
    ///
    /// # Errors
    /// Different lengths, no values.
    pub fn difference(&self, values: &[f64], baseline: &[f64]) -> Result<Interval, EvaluatorError> {
        let what = "bootstrap of a difference";
        if values.len() != baseline.len() {
            return Err(EvaluatorError::Unpaired { what, got: values.len(), wanted: baseline.len() });
        }
        let differences: Vec<f64> = values.iter().zip(baseline).map(|(a, b)| a - b).collect();
        self.statistic(what, &differences, mean)
    }

    /// Interval of the median.
    ///
    /// # Errors
    /// No values.
    pub fn median(&self, values: &[f64]) -> Result<Interval, EvaluatorError> {
        self.statistic("bootstrap of a median", values, |values| percentile(values, 50.0))
    }

    /// Interval of sum of `pairs.0` / sum of `pairs.1`, pairs resampled together: a mean over questions when texts are resampled.
    ///
    /// # Errors
    /// No pairs.
    pub fn ratio(&self, pairs: &[(f64, f64)]) -> Result<Interval, EvaluatorError> {
        self.statistic("bootstrap of a ratio", pairs, |pairs| {
            let (above, below) = pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
            if below == 0.0 { 0.0 } else { above / below }
        })
    }

    fn statistic<T: Copy>(
        &self,
        what: &'static str,
        values: &[T],
        statistic: impl Fn(&[T]) -> f64,
    ) -> Result<Interval, EvaluatorError> {
        if values.is_empty() {
            return Err(EvaluatorError::TooFewValues { what, got: 0, wanted: 1 });
        }
        let mut stream = Stream::new("bootstrap", &[self.seed, values.len() as u64]);
        let mut resample = values.to_vec();
        let resampled: Vec<f64> = (0..self.samples.max(1))
            .map(|_| {
                resample.iter_mut().for_each(|slot| *slot = *stream.pick(values));
                statistic(&resample)
            })
            .collect();
        let tail = 50.0 * (1.0 - self.confidence);
        Ok(Interval { low: percentile(&resampled, tail), high: percentile(&resampled, 100.0 - tail) })
    }
}

/// Percentile by linear interpolation between neighbours, as numpy's default; 0 of nothing.
#[must_use]
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let position = last as f64 * (percent / 100.0).clamp(0.0, 1.0);
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        bootstraps: Vec<Case>,
        percentiles: Vec<Percentile>,
    }

    #[derive(Deserialize)]
    struct Case {
        values: Vec<f64>,
        low: f64,
        high: f64,
    }

    #[derive(Deserialize)]
    struct Percentile {
        values: Vec<f64>,
        percent: f64,
        value: f64,
    }

    fn golden() -> Golden {
        serde_json::from_str(include_str!("../../../tests/golden/evaluator/stats.json")).unwrap()
    }

    #[test]
    fn close_to_scipy() {
        // the two draw different resamples: ends agree to the noise of 20,000 of them
        let bootstrap = Bootstrap { samples: 20_000, ..Bootstrap::default() };
        for case in golden().bootstraps {
            let got = bootstrap.mean(&case.values).unwrap();
            let width = case.high - case.low;
            assert!((got.low - case.low).abs() < 0.03 * width, "{got:?}, scipy says {} {}", case.low, case.high);
            assert!((got.high - case.high).abs() < 0.03 * width, "{got:?}, scipy says {} {}", case.low, case.high);
        }
    }

    #[test]
    fn percentile_equal_to_numpy() {
        for case in golden().percentiles {
            assert!((percentile(&case.values, case.percent) - case.value).abs() < 1e-12);
        }
    }

    proptest! {
        #[test]
        fn repeats_itself_and_stays_inside_the_values(values in prop::collection::vec(-5.0..5.0f64, 1..30)) {
            let bootstrap = Bootstrap { samples: 100, ..Bootstrap::default() };
            let interval = bootstrap.mean(&values).unwrap();
            prop_assert_eq!(interval, bootstrap.mean(&values).unwrap());
            prop_assert!(interval.low <= interval.high);
            let (low, high) = (percentile(&values, 0.0), percentile(&values, 100.0));
            prop_assert!(interval.low >= low - 1e-12 && interval.high <= high + 1e-12);
            prop_assert_eq!(bootstrap.difference(&values, &values).unwrap(), Interval { low: 0.0, high: 0.0 });
        }
    }
}
