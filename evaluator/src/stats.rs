//! Significance: paired t-test, Holm's correction and bootstrap intervals, deterministic by seed.

mod bootstrap;
mod holm;
mod t_test;

pub use bootstrap::{Bootstrap, Interval, percentile};
pub use holm::holm;
pub use t_test::{PairedTTest, paired_t_test};

/// Arithmetic mean; 0 of nothing.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}
