//! How long a ONE-PASS head takes to learn, on probabilities drawn at random: the time depends on their shape alone.

use std::ops::ControlFlow;

use data::random::Stream;
use model::one_pass::{OnePassSettings, Scorer};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::{OnePassHeadConfig, OnePassLists, train_one_pass};
use crate::TrainError;

/// Lists that the head is validated on after each epoch.
const VALIDATION: usize = 60;

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadBench {
    /// Of a variant with a head.
    pub settings: OnePassSettings,
    /// Candidates of a list.
    pub num_candidates: usize,
    /// Lists to learn from.
    pub num_lists: usize,
    /// All of them are trained: none is the last for want of progress.
    pub epochs: usize,
}

/// Figures of [`HeadBench::run`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeadFigures {
    /// All epochs, validation included.
    pub seconds: f64,
    /// An epoch.
    pub seconds_per_epoch: f64,
    /// What was measured, in words.
    pub protocol: String,
}

impl HeadBench {
    /// Trains on the CPU.
    ///
    /// # Errors
    /// Groups that do not fit the candidates, no epochs or lists.
    pub fn run(&self) -> Result<HeadFigures, TrainError> {
        let config = OnePassHeadConfig { epochs: self.epochs, patience: self.epochs, ..OnePassHeadConfig::default() };
        let scorer = Scorer::new(self.num_candidates, self.settings, Device::Cpu)?;
        let (train, orders) = random_lists(&scorer, self.num_lists, 1);
        let (held_out, held_out_orders) = random_lists(&scorer, VALIDATION, 2);
        let lists = OnePassLists { probabilities: &train, orders: &orders };
        let validation = OnePassLists { probabilities: &held_out, orders: &held_out_orders };
        let (_, report) = train_one_pass(&scorer, &lists, &validation, &config, 0, &mut |_| ControlFlow::Continue(()))?;
        Ok(HeadFigures {
            seconds: report.seconds,
            seconds_per_epoch: report.seconds / report.losses.len().max(1) as f64,
            protocol: format!(
                "`{}` for {} candidates, {} random lists in batches of {}, {} epochs, {VALIDATION} lists ranked after each; {} threads",
                self.settings.label(),
                self.num_candidates,
                self.num_lists,
                config.batch_size,
                report.losses.len(),
                tch::get_num_threads()
            ),
        })
    }
}

/// Distributions `[count, nodes, n]` and an order for each list.
fn random_lists(scorer: &Scorer, count: usize, seed: u64) -> (Tensor, Vec<Vec<u16>>) {
    let (nodes, n) = (scorer.tree().nodes().len(), scorer.num_candidates());
    let mut stream = Stream::new("lists of a benchmark", &[seed]);
    let values: Vec<f32> = (0..count * nodes * n).map(|_| stream.normal() as f32).collect();
    let p = Tensor::from_slice(&values).view([count as i64, nodes as i64, n as i64]).softmax(-1, Kind::Float);
    let order = |list: usize| {
        let order = Stream::new("order of a benchmark", &[seed, list as u64]).permutation(n);
        order.into_iter().map(|slot| slot as u16).collect()
    };
    (p, (0..count).map(order).collect())
}

#[cfg(test)]
mod tests {
    use model::one_pass::Variant;

    use super::*;

    #[test]
    fn all_epochs_are_trained_and_what_does_not_fit_is_an_error() {
        let settings = OnePassSettings { n_group: 3, variant: Variant::WoMobius2, ..OnePassSettings::default() };
        let bench = HeadBench { settings, num_candidates: 8, num_lists: 9, epochs: 7 };
        let figures = bench.run().unwrap();
        assert!(figures.protocol.contains("9 random lists") && figures.protocol.contains("7 epochs"), "{figures:?}");
        assert!((figures.seconds / 7.0 - figures.seconds_per_epoch).abs() < 1e-9);
        assert!(HeadBench { num_candidates: 4, ..bench }.run().is_err(), "3 groups of 4");
        assert!(HeadBench { num_lists: 0, ..bench }.run().is_err());
    }
}
