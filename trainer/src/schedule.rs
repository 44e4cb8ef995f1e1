//! The learning rate as a function of the step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Shape of the learning rate after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Stays at the peak.
    Constant,
    /// Falls in a straight line to 0 at the end of the stage.
    Linear,
    /// Falls along half a cosine to 0 at the end of the stage.
    Cosine,
}

/// A [`Schedule`] with its lengths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRate {
    /// Highest rate.
    pub peak: f64,
    /// Shape after warm-up.
    pub schedule: Schedule,
    /// Steps over which the rate rises from `peak / warmup_steps` to `peak`.
    pub warmup_steps: u64,
    /// Steps of the stage.
    pub num_steps: u64,
}

impl LearningRate {
    /// Rate of optimiser step `step`, counted from 0. The first step already learns: a warm-up that began at 0 would
    /// waste it.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let length = self.num_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = ((step - self.warmup_steps) as f64 / length).min(1.0);
        self.peak
            * match self.schedule {
                Schedule::Constant => 1.0,
                Schedule::Linear => 1.0 - progress,
                Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rates(schedule: Schedule, warmup_steps: u64, num_steps: u64) -> Vec<f64> {
        let rate = LearningRate { peak: 1.0, schedule, warmup_steps, num_steps };
        (0..num_steps).map(|step| rate.at(step)).collect()
    }

    #[test]
    fn warm_up_then_shape() {
        assert_eq!(rates(Schedule::Constant, 2, 4), [0.5, 1.0, 1.0, 1.0]);
        assert_eq!(rates(Schedule::Linear, 2, 6), [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]);
        let cosine = rates(Schedule::Cosine, 0, 4);
        for (got, wanted) in cosine.iter().zip([1.0, 0.853_553_390_593_273_8, 0.5, 0.146_446_609_406_726_2]) {
            assert!((got - wanted).abs() < 1e-12, "{got} {wanted}");
        }
    }

    proptest! {
        #[test]
        fn stays_between_zero_and_peak(step in 0u64..2000, warmup in 0u64..500, length in 1u64..1000) {
            for schedule in [Schedule::Constant, Schedule::Linear, Schedule::Cosine] {
                let rate = LearningRate { peak: 3.0, schedule, warmup_steps: warmup, num_steps: length };
                prop_assert!((0.0..=3.0).contains(&rate.at(step)));
            }
        }
    }
}
