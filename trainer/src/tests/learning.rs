//! Training learns, and touches what it should.

use std::sync::atomic::AtomicBool;

use model::{AttentionPattern, CausalLm, LoadOptions, LoraConfig, SaveOptions};
use tch::{Device, Kind, Tensor};

use super::support::{config, generator_turn, loader, logged, model, run, same_bits, train_until, weights};
use crate::config::{Precision, TrainConfig};
use crate::objectives::{ObjectiveConfig, RankZephyrConfig};
use crate::{Outcome, Ranks, TrainError};

fn losses(config: &TrainConfig) -> Vec<f64> {
    let folder = tempfile::tempdir().unwrap();
    let report = train_until(&mut model(config.precision, 1), config, folder.path(), None).unwrap();
    assert_eq!((report.outcome, report.state.skipped_steps), (Outcome::Finished, 0));
    logged(folder.path(), "loss")
}

#[test]
fn the_loss_goes_down_for_every_objective_and_precision() {
    let rank_zephyr = ObjectiveConfig::RankZephyr(RankZephyrConfig {});
    for precision in [Precision::Fp32, Precision::Bf16Master, Precision::Bf16] {
        for objective in [config().objective, rank_zephyr.clone()] {
            let config = TrainConfig { precision, objective, max_steps: Some(30), ..config() };
            let losses = losses(&config);
            let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
            let (first, last) = (mean(&losses[..3]), mean(&losses[27..]));
            assert!(last < 0.85 * first, "{precision:?} {:?}: {first} {last}", config.objective);
        }
    }
}

#[test]
fn adapters_learn_and_the_weights_below_stay() {
    let _turn = generator_turn();
    let folder = tempfile::tempdir().unwrap();
    let mut model = model(Precision::Fp32, 1);
    model.train_all();
    let shared: Vec<(String, Tensor)> =
        model.trainable_parameters().into_iter().map(|parameter| (parameter.name, parameter.tensor.detach())).collect();
    let before = weights(&model);
    let lora = LoraConfig { r: 4, lora_dropout: 0.1, ..LoraConfig::default() };
    let config = TrainConfig { lora: Some(lora), max_steps: Some(4), ..config() };
    train_until(&mut model, &config, folder.path(), None).unwrap();
    assert!(same_bits(&before, &shared));
    let adapters = weights(&model);
    assert!(adapters.iter().all(|(name, _)| name.contains("lora_")), "{adapters:?}");
    assert!(
        adapters.iter().any(|(name, tensor)| name.contains("lora_B") && tensor.abs().max().double_value(&[]) > 0.0)
    );
}

#[test]
fn an_adapter_read_from_a_folder_is_trained_on_or_merged() {
    let _turn = generator_turn();
    let place = tempfile::tempdir().unwrap();
    let (base, adapter) = (place.path().join("base"), place.path().join("adapter"));
    let lora = LoraConfig { r: 4, ..LoraConfig::default() };
    let mut fresh = model(Precision::Fp32, 1);
    fresh.save(&base, &SaveOptions::default()).unwrap();
    fresh.add_lora(&lora, 1).unwrap();
    let adapter_only = Some(base.display().to_string());
    fresh.save(&adapter, &SaveOptions { adapter_only, ..SaveOptions::default() }).unwrap();
    let read = || CausalLm::load(&adapter, &LoadOptions { device: Device::Cpu, kind: Kind::Float }).unwrap();
    let train = |model: &mut CausalLm, lora: Option<LoraConfig>| {
        let folder = tempfile::tempdir().unwrap();
        train_until(model, &TrainConfig { lora, max_steps: Some(2), ..config() }, folder.path(), None).map(|_| ())
    };

    let mut further = read();
    train(&mut further, Some(lora.clone())).unwrap();
    let trained = weights(&further);
    assert!(trained.iter().all(|(name, _)| name.contains("lora_")), "{trained:?}");
    assert!(trained.iter().any(|(name, b)| name.contains("lora_B") && b.abs().max().double_value(&[]) > 0.0));

    let mut whole = read();
    train(&mut whole, None).unwrap();
    assert!(whole.lora_config().is_none());
    assert!(weights(&whole).iter().any(|(name, _)| name.contains("qkv_proj")));

    let error = train(&mut read(), Some(LoraConfig { r: 8, ..lora })).unwrap_err().to_string();
    assert!(error.contains("keep `lora` the same") && error.contains("monopass export"), "{error}");
}

#[test]
fn evaluation_runs_on_its_steps_without_dropout_and_is_logged() {
    let _turn = generator_turn();
    let folder = tempfile::tempdir().unwrap();
    let lora = LoraConfig { r: 4, lora_dropout: 0.5, ..LoraConfig::default() };
    let config = TrainConfig { lora: Some(lora), eval_every_steps: Some(2), ..config() };
    let ranks = Ranks::single();
    let stop = AtomicBool::new(false);
    let mut steps = Vec::new();
    let mut evaluate = |model: &model::CausalLm, step: u64| {
        let ids = Tensor::from_slice(&[1i64, 2, 3]).unsqueeze(0);
        let forward = || model.forward(&ids, &AttentionPattern::Causal, None);
        assert!(forward().equal(&forward()));
        steps.push(step);
        Ok(vec![("top_1".to_owned(), 0.5)])
    };
    let run = crate::Run { evaluate: Some(&mut evaluate), ..run(folder.path(), &ranks, &stop) };
    crate::train(&mut model(Precision::Fp32, 1), &mut loader(|_| Ok(())), &config, run).unwrap();
    assert_eq!(steps, [2, 4, 6]);
    let text = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
    assert!(text.contains(r#"{"kind":"eval","step":2,"top_1":0.5}"#), "{text}");
}

#[test]
fn a_model_of_another_kind_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig { precision: Precision::Bf16Master, ..config() };
    let error = train_until(&mut model(Precision::Fp32, 1), &config, folder.path(), None).unwrap_err();
    let TrainError::Config { problems } = &error else { panic!("{error}") };
    assert!(problems[0].contains("loaded as Float, `precision: bf16_master` wants BFloat16"), "{error}");
}
