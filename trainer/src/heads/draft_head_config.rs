//! Settings of the training of draft heads.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Training of blockwise and Medusa heads.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DraftHeadConfig {
    /// Adam's learning rate, constant, above 0. Default 3e-4: between the 1e-4 of the scripts published with ONE-PASS, which
    /// train one epoch, and the 1e-3 of Medusa's paper, which decays.
    pub learning_rate: f64,
    /// Lists of one step, at least 1. Default 32.
    pub batch_size: usize,
    /// Passes over the lists at most, at least 1. Default 10.
    pub epochs: u64,
    /// Epochs without a better validation loss after which training ends, at least 1. The best weights are kept. Default 2.
    pub patience: u64,
}

impl Default for DraftHeadConfig {
    fn default() -> Self {
        Self { learning_rate: 3e-4, batch_size: 32, epochs: 10, patience: 2 }
    }
}

impl DraftHeadConfig {
    /// Problems with the settings, one line each; empty when all is well.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let rate = self.learning_rate;
        if !(rate.is_finite() && rate > 0.0) {
            problems.push(format!("`learning_rate` is {rate}, wanted a finite number above 0"));
        }
        let counts = [("batch_size", self.batch_size as u64), ("epochs", self.epochs), ("patience", self.patience)];
        for (name, value) in counts {
            if value == 0 {
                problems.push(format!("`{name}` is 0, wanted at least 1"));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_reported_with_their_values() {
        let config: DraftHeadConfig =
            serde_json::from_str(r#"{"learning_rate": -1, "batch_size": 0, "patience": 0}"#).unwrap();
        assert_eq!(config.validate().len(), 3, "{:?}", config.validate());
        assert!(config.validate()[0].contains("`learning_rate` is -1"));
        assert!(DraftHeadConfig::default().validate().is_empty());
        assert!(serde_json::from_str::<DraftHeadConfig>(r#"{"epoch": 1}"#).is_err());
    }
}
