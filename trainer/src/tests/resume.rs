//! N steps equal k steps, an interruption, and N - k steps: bit for bit.

use std::path::Path;

use model::LoraConfig;
use tch::Tensor;

use super::support::{config, generator_turn, logged, model, same_bits, train_until, weights};
use crate::checkpoint::list;
use crate::config::{CheckpointConfig, Precision, TrainConfig};
use crate::resume::checkpoints_folder;
use crate::{Outcome, TrainError};

const STEPS: u64 = 6;

fn straight(config: &TrainConfig) -> (Vec<(String, Tensor)>, Vec<f64>) {
    let folder = tempfile::tempdir().unwrap();
    let mut model = model(config.precision, 1);
    train_until(&mut model, config, folder.path(), None).unwrap();
    (weights(&model), logged(folder.path(), "loss"))
}

fn interrupted(config: &TrainConfig, at: u64) -> (Vec<(String, Tensor)>, Vec<f64>) {
    let folder = tempfile::tempdir().unwrap();
    let report = train_until(&mut model(config.precision, 1), config, folder.path(), Some(at)).unwrap();
    assert_eq!((report.outcome, report.state.step), (Outcome::Interrupted, at));
    let mut model = model(config.precision, 1);
    let report = train_until(&mut model, config, folder.path(), None).unwrap();
    assert_eq!((report.outcome, report.state.step, report.resumed_from), (Outcome::Finished, STEPS, Some(at)));
    (weights(&model), logged(folder.path(), "loss"))
}

fn assert_resumes(config: &TrainConfig, at: u64) {
    let (wanted, wanted_losses) = straight(config);
    let (got, losses) = interrupted(config, at);
    assert!(same_bits(&wanted, &got), "{:?} interrupted after {at}", config.precision);
    assert_eq!(wanted_losses, losses);
}

#[test]
fn exact_in_every_precision_with_noise() {
    for precision in [Precision::Fp32, Precision::Bf16Master, Precision::Bf16] {
        for at in [1, 4] {
            let config = TrainConfig { precision, neftune_alpha: 5.0, micro_batch_size: 3, ..config() };
            assert_resumes(&config, at);
        }
    }
}

#[test]
fn exact_with_adapters_and_dropout() {
    let _turn = generator_turn();
    let lora = LoraConfig { r: 4, lora_dropout: 0.3, ..LoraConfig::default() };
    assert_resumes(&TrainConfig { lora: Some(lora), neftune_alpha: 5.0, ..config() }, 3);
}

#[test]
fn exact_with_gradient_checkpointing() {
    assert_resumes(&TrainConfig { gradient_checkpointing: true, ..config() }, 3);
}

fn behind(config: TrainConfig) -> TrainConfig {
    TrainConfig { checkpoint: CheckpointConfig { background: Some(true), ..config.checkpoint }, ..config }
}

#[test]
fn checkpoints_written_behind_are_those_waited_for() {
    assert_resumes(&behind(config()), 3);
    let folders = [config(), behind(config())].map(|config| {
        let folder = tempfile::tempdir().unwrap();
        train_until(&mut model(config.precision, 1), &config, folder.path(), None).unwrap();
        folder
    });
    let [waited, written] = folders.each_ref().map(|folder| checkpoints_folder(folder.path()));
    assert_eq!(names(&written), ["step-00000002", "step-00000004", "step-00000006"]);
    for step in names(&waited) {
        for file in ["weights.safetensors", "optimizer.safetensors"] {
            let read = |folder: &Path| std::fs::read(folder.join(&step).join(file)).unwrap();
            assert!(read(&waited) == read(&written), "{step}/{file}");
        }
        crate::checkpoint::verify(&written.join(&step)).unwrap();
    }
}

#[test]
fn a_checkpoint_that_cannot_be_written_behind_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    // A file that the writer takes for a folder to be removed.
    std::fs::create_dir_all(checkpoints_folder(folder.path())).unwrap();
    std::fs::write(checkpoints_folder(folder.path()).join(".unfinished-1"), "in the way").unwrap();
    let config = TrainConfig { max_steps: Some(40), ..behind(config()) };
    let error = train_until(&mut model(config.precision, 1), &config, folder.path(), None).unwrap_err();
    assert!(matches!(error, TrainError::Io { .. }) && error.to_string().contains(".unfinished-1"), "{error}");
}

#[test]
fn a_killed_run_repeats_the_steps_after_its_checkpoint() {
    let (wanted, wanted_losses) = straight(&config());
    let folder = tempfile::tempdir().unwrap();
    train_until(&mut model(Precision::Fp32, 1), &config(), folder.path(), None).unwrap();
    // As if killed after step 6 was logged but while its checkpoint was being written.
    let newest = list(&checkpoints_folder(folder.path())).unwrap()[0].1.clone();
    std::fs::rename(&newest, newest.with_file_name(".unfinished-step-00000006")).unwrap();
    let mut model = model(Precision::Fp32, 1);
    let report = train_until(&mut model, &config(), folder.path(), None).unwrap();
    assert_eq!(report.resumed_from, Some(4));
    assert!(same_bits(&wanted, &weights(&model)));
    assert_eq!(wanted_losses, logged(folder.path(), "loss"));
    assert_eq!(names(&checkpoints_folder(folder.path())), ["step-00000002", "step-00000004", "step-00000006"]);
}

#[test]
fn a_damaged_checkpoint_falls_back_to_the_one_before() {
    let (wanted, _) = straight(&config());
    let folder = tempfile::tempdir().unwrap();
    train_until(&mut model(Precision::Fp32, 1), &config(), folder.path(), Some(4)).unwrap();
    let newest = list(&checkpoints_folder(folder.path())).unwrap()[0].1.join("optimizer.safetensors");
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&newest, bytes).unwrap();
    let mut model = model(Precision::Fp32, 1);
    let report = train_until(&mut model, &config(), folder.path(), None).unwrap();
    assert_eq!(report.resumed_from, Some(2));
    assert!(report.damaged_checkpoints[0].contains("step-00000004"), "{:?}", report.damaged_checkpoints);
    assert!(same_bits(&wanted, &weights(&model)));
}

#[test]
fn a_finished_run_returns_its_weights_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = model(Precision::Fp32, 1);
    train_until(&mut first, &config(), folder.path(), None).unwrap();
    let mut again = model(Precision::Fp32, 2);
    let report = train_until(&mut again, &config(), folder.path(), None).unwrap();
    assert_eq!((report.outcome, report.last), (Outcome::Finished, None));
    assert!(same_bits(&weights(&first), &weights(&again)));
}

#[test]
fn another_runs_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    train_until(&mut model(Precision::Fp32, 1), &config(), folder.path(), Some(2)).unwrap();
    let other = TrainConfig { global_batch_size: 4, ..config() };
    let error = train_until(&mut model(Precision::Fp32, 1), &other, folder.path(), None).unwrap_err();
    assert!(matches!(&error, TrainError::OtherRun { .. }), "{error}");
    assert!(error.to_string().contains("has `global_batch_size` 8, this run has 4"), "{error}");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
