//! Continuing a run from its newest whole checkpoint.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use model::CausalLm;
use serde_json::{Map, Value};
use tch::Tensor;

use crate::TrainError;
use crate::adamw::AdamW;
use crate::checkpoint::{Found, TrainerState, find_latest, folder_name, load_optimizer, verify};
use crate::config::TrainConfig;
use crate::distribution::Ranks;
use crate::fit::Run;
use crate::train::prepare;

/// Layout of checkpoints this version writes and reads.
pub(crate) const FORMAT: u32 = 1;

/// Where the checkpoints of a stage's folder are.
pub fn checkpoints_folder(folder: &Path) -> PathBuf {
    folder.join("checkpoints")
}

/// State of a run that starts at step 0.
pub(crate) fn fresh_state(config: &TrainConfig, run: &Run<'_>) -> TrainerState {
    TrainerState {
        format: FORMAT,
        step: 0,
        epoch: 0,
        updates: 0,
        skipped_steps: 0,
        samples: 0,
        tokens: 0,
        seconds: 0.0,
        last_loss: None,
        seed: run.seed,
        num_steps: config.num_steps(run.num_samples),
        world_size: run.ranks.world_size(),
        data_fingerprint: run.data_fingerprint.to_owned(),
    }
}

/// Brings weights and optimiser to the newest whole checkpoint of rank 0, if there is one, and in any case to the same bits on
/// every rank. `state` becomes the checkpoint's.
pub(crate) fn restore(
    optimizer: &mut AdamW,
    state: &mut TrainerState,
    config: &TrainConfig,
    run: &Run<'_>,
) -> Result<Option<Found>, TrainError> {
    let found = on_main(run.ranks, || restore_main(optimizer, state, config, run.folder))?.flatten();
    let numbers = [
        state.step as f64,
        state.epoch as f64,
        state.updates as f64,
        state.skipped_steps as f64,
        state.samples as f64,
        state.tokens as f64,
        state.seconds,
    ];
    let resumed = run.ranks.from_main(f64::from(u8::from(found.is_some())))? > 0.0;
    let mut main = [0.0; 7];
    if run.ranks.is_main() {
        main = numbers;
    }
    let main = run.ranks.sum(&main)?;
    [state.step, state.epoch] = [main[0] as u64, main[1] as u64];
    [state.skipped_steps, state.samples, state.tokens] = [main[3] as u64, main[4] as u64, main[5] as u64];
    (state.updates, state.seconds) = (main[2] as i64, main[6]);
    optimizer.set_updates(state.updates);

    let broadcast = |tensors: Vec<(String, Tensor)>| {
        run.ranks.broadcast(&mut tensors.into_iter().map(|(_, tensor)| tensor).collect::<Vec<_>>())
    };
    broadcast(optimizer.weights())?;
    match (optimizer.is_sharded(), resumed) {
        (false, _) => broadcast(optimizer.state())?,
        (true, false) => optimizer.reset_masters(),
        (true, true) => {
            let path = checkpoints_folder(run.folder).join(folder_name(state.step));
            let read = load_optimizer(&path, &optimizer.state());
            run.ranks.agree(read, "it could not read its share of the checkpoint")?;
        }
    }
    Ok(found)
}

/// Gives `model`, which is what the checkpoint's stage started from, the weights of the checkpoint.
///
/// # Errors
/// The checkpoint is damaged, or was not trained from this model.
pub fn load_weights(model: &mut CausalLm, checkpoint: &Path) -> Result<TrainerState, TrainError> {
    let (state, config) = verify(checkpoint)?;
    let found = Found { path: checkpoint.to_path_buf(), state, config, damaged: Vec::new() };
    let settings = found.settings()?;
    let parameters = prepare(model, &settings, settings.objective.build().as_ref(), found.state.seed)?;
    let weights: Vec<(String, Tensor)> =
        parameters.into_iter().map(|parameter| (parameter.name, parameter.tensor.detach())).collect();
    found.load_weights(&weights)?;
    Ok(found.state)
}

/// Runs `work` on rank 0; all ranks fail when it fails.
fn on_main<T>(ranks: &Ranks, work: impl FnOnce() -> Result<T, TrainError>) -> Result<Option<T>, TrainError> {
    let result = if ranks.is_main() { work().map(Some) } else { Ok(None) };
    ranks.agree(result, "it could not read its checkpoints")
}

fn restore_main(
    optimizer: &AdamW,
    state: &mut TrainerState,
    config: &TrainConfig,
    folder: &Path,
) -> Result<Option<Found>, TrainError> {
    let Some(found) = find_latest(&checkpoints_folder(folder))? else {
        return Ok(None);
    };
    check_same_run(&found, state, config)?;
    if optimizer.is_sharded() {
        found.load_weights(&optimizer.weights())?;
    } else {
        found.load(&optimizer.weights(), &optimizer.state())?;
    }
    let planned = state.num_steps;
    *state = TrainerState { num_steps: planned, world_size: state.world_size, ..found.state.clone() };
    tracing::info!("continuing from `{}` (step {} of {planned})", found.path.display(), state.step);
    Ok(Some(found))
}

/// The settings that may not differ without a word.
fn learned_settings(config: &TrainConfig) -> Map<String, Value> {
    match serde_json::to_value(config.what_is_learned()).expect("settings are plain structs") {
        Value::Object(settings) => settings,
        _ => Map::new(),
    }
}

/// Refuses what would make the cursor or the tensors meaningless; warns of what changes the course of the run.
fn check_same_run(found: &Found, state: &TrainerState, config: &TrainConfig) -> Result<(), TrainError> {
    let saved = &found.state;
    let before = learned_settings(&found.settings()?);
    let now = learned_settings(config);
    let said = |settings: &Map<String, Value>, name: &str| {
        settings.get(name).map_or_else(|| "not set".to_owned(), Value::to_string)
    };
    let setting = |name: &str| (format!("`{name}`"), said(&before, name), said(&now, name));
    let pairs = [
        ("format".to_owned(), saved.format.to_string(), state.format.to_string()),
        ("seed".to_owned(), saved.seed.to_string(), state.seed.to_string()),
        ("data".to_owned(), saved.data_fingerprint.clone(), state.data_fingerprint.clone()),
        setting("global_batch_size"),
        setting("shuffle"),
        setting("shuffle_candidates"),
        setting("precision"),
        setting("lora"),
        setting("objective"),
    ];
    for (what, got, wanted) in pairs {
        if got != wanted {
            return Err(TrainError::OtherRun { path: found.path.clone(), what, got, wanted });
        }
    }
    if saved.step > state.num_steps {
        let (what, got, wanted) = ("step".to_owned(), saved.step.to_string(), format!("{} steps", state.num_steps));
        return Err(TrainError::OtherRun { path: found.path.clone(), what, got, wanted });
    }
    let mut changed: Vec<String> = Vec::new();
    let names: BTreeSet<&String> = [&before, &now].into_iter().flat_map(Map::keys).collect();
    for name in names.into_iter().filter(|name| before.get(*name) != now.get(*name)) {
        changed.push(format!("`{name}` was {}, is {}", said(&before, name), said(&now, name)));
    }
    if saved.world_size != state.world_size {
        changed.push(format!("the number of ranks was {}, is {}", saved.world_size, state.world_size));
    }
    if saved.num_steps != state.num_steps {
        changed.push(format!("the number of steps was {}, is {}", saved.num_steps, state.num_steps));
    }
    if !changed.is_empty() {
        tracing::warn!("the run continues with other settings than it began with: {}", changed.join("; "));
    }
    Ok(())
}
