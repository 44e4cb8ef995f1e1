//! Continuing a run from its newest whole checkpoint.

use std::path::{Path, PathBuf};

use tch::Tensor;

use crate::TrainError;
use crate::adamw::AdamW;
use crate::checkpoint::{Found, TrainerState, find_latest, folder_name, load_optimizer};
use crate::config::TrainConfig;
use crate::distribution::Ranks;
use crate::fit::Run;

/// Layout of checkpoints this version writes and reads.
pub(crate) const FORMAT: u32 = 1;

/// Settings that may differ between a checkpoint and the run that continues it without changing what is learned.
const HARMLESS: [&str; 7] = [
    "distribution",
    "log_every",
    "checkpoint",
    "prefetch_steps",
    "collective_timeout_seconds",
    "eval_every_steps",
    "max_skipped_steps",
];

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

/// Refuses what would make the cursor or the tensors meaningless; warns of what changes the course of the run.
fn check_same_run(found: &Found, state: &TrainerState, config: &TrainConfig) -> Result<(), TrainError> {
    let saved = &found.state;
    let now = serde_json::to_value(config).expect("settings are plain structs");
    let setting = |name: &str| (format!("`{name}`"), found.config[name].to_string(), now[name].to_string());
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
    for (name, value) in now.as_object().into_iter().flatten() {
        if found.config[name] != *value && !HARMLESS.contains(&name.as_str()) {
            changed.push(format!("`{name}` was {}, is {value}", found.config[name]));
        }
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
