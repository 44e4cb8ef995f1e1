//! Training settings written once for all stages.
//!
//! In the file, `train` holds settings and `stages`, and a stage holds its name, its data and settings of its own:
//!
//! ```yaml
//! train:
//!   learning_rate: 1e-4
//!   stages:
//!     - {name: rank_zephyr, data: lists, objective: {rank_zephyr: {}}}
//!     - {name: first, from: base, data: lists, objective: {first: {}}, learning_rate: 2e-4}
//! ```
//!
//! [`spread`] gives every stage a complete `settings` map before the file is typed, [`gather`] is its inverse for
//! writing, and [`as_written`] leads from a key of the spread form back to the key the user wrote.

use serde_yaml::{Mapping, Value};

use super::key_path::{KeyPath, Segment};
use super::problem::Problem;

/// Keys of a stage that are no training settings.
pub const STAGE_KEYS: [&str; 3] = ["name", "from", "data"];
/// The key that holds a stage's settings in the spread form.
pub const SETTINGS: &str = "settings";

/// Merges `train`'s settings into each stage. A `train` without `stages` becomes one stage.
pub fn spread(root: &mut Value) -> Vec<Problem> {
    let Some(Value::Mapping(train)) = root.as_mapping_mut().and_then(|map| map.get_mut("train")) else {
        return Vec::new();
    };
    let stages = match train.shift_remove("stages") {
        None => vec![Value::Mapping(Mapping::new())],
        Some(Value::Sequence(stages)) => stages,
        Some(other) => {
            train.insert("stages".into(), other);
            return Vec::new();
        }
    };
    let mut shared = std::mem::take(train);
    let mut problems = Vec::new();
    let mut stage_defaults = Mapping::new();
    for key in STAGE_KEYS {
        if let Some(value) = shared.shift_remove(key) {
            if key == "name" && stages.len() > 1 {
                problems
                    .push(Problem::new("train.name", "several stages cannot share one name").hint("name each stage"));
            }
            stage_defaults.insert(key.into(), value);
        }
    }
    let spread = stages.into_iter().map(|stage| match stage {
        Value::Mapping(stage) => Value::Mapping(spread_stage(stage, &stage_defaults, &shared)),
        other => other,
    });
    let spread = Value::Sequence(spread.collect());
    train.insert("stages".into(), spread);
    problems
}

fn spread_stage(own: Mapping, stage_defaults: &Mapping, shared: &Mapping) -> Mapping {
    let mut stage = stage_defaults.clone();
    let mut settings = shared.clone();
    // A stage that says how it warms up says it all.
    if ["warmup_steps", "warmup_ratio"].iter().any(|key| own.contains_key(*key)) {
        settings.shift_remove("warmup_steps");
        settings.shift_remove("warmup_ratio");
    }
    let bound = shared.get("max_steps").and_then(Value::as_u64);
    for (key, value) in own {
        if key.as_str().is_some_and(|key| STAGE_KEYS.contains(&key)) {
            stage.insert(key, value);
        } else {
            merge(settings.entry(key).or_insert(Value::Null), value);
        }
    }
    // The run's `max_steps` bounds every stage.
    if let (Some(bound), Some(wanted)) = (bound, settings.get("max_steps").and_then(Value::as_u64)) {
        settings.insert("max_steps".into(), bound.min(wanted).into());
    }
    stage.insert(SETTINGS.into(), Value::Mapping(settings));
    stage
}

/// Maps of settings are merged key by key; a one-key map (which selects a variant) and every other value replaces.
fn merge(into: &mut Value, value: Value) {
    match (into, value) {
        (Value::Mapping(into), Value::Mapping(value)) if !selects_another_variant(into, &value) => {
            for (key, value) in value {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, value) => *into = value,
    }
}

fn selects_another_variant(into: &Mapping, value: &Mapping) -> bool {
    let holds_a_map = |map: &Mapping| map.len() == 1 && map.values().all(|value| value.is_mapping() || value.is_null());
    holds_a_map(into) && holds_a_map(value) && into.keys().next() != value.keys().next()
}

/// The inverse: every stage's settings back beside its name.
pub fn gather(root: &mut Value) {
    let stages = root
        .as_mapping_mut()
        .and_then(|map| map.get_mut("train")?.as_mapping_mut()?.get_mut("stages")?.as_sequence_mut());
    for stage in stages.into_iter().flatten().filter_map(Value::as_mapping_mut) {
        if let Some(Value::Mapping(settings)) = stage.shift_remove(SETTINGS) {
            stage.extend(settings);
        }
    }
}

/// The key as the user wrote it: without `settings`, and in `train` itself when the stage does not hold it.
pub fn as_written(path: &KeyPath, written: &Value) -> KeyPath {
    let is = |place: usize, key: &str| path.0.get(place) == Some(&Segment::Key(key.to_owned()));
    if !(is(0, "train") && is(1, "stages") && path.0.len() > 3) {
        return path.clone();
    }
    let mut own = path.clone();
    if is(3, SETTINGS) {
        own.0.remove(3);
    }
    let mut shared = own.clone();
    shared.0.drain(1..3);
    let stages_written = KeyPath::parse("train.stages").get(written).is_some();
    let in_own = KeyPath(own.0[..4.min(own.0.len())].to_vec()).get(written).is_some();
    let in_shared = KeyPath(shared.0[..2.min(shared.0.len())].to_vec()).get(written).is_some();
    if !in_own && (in_shared || !stages_written) { shared } else { own }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        serde_yaml::from_str(text).unwrap()
    }

    #[test]
    fn stages_inherit_and_override() {
        let written = value(
            "train: {lr: 1, lora: {r: 8, alpha: 16}, objective: {rank_zephyr: {}}, stages: [{name: a, from: base, lora: {r: 4}}, {name: b, lr: 2, objective: {first: {}}}]}",
        );
        let mut spread_out = written.clone();
        assert!(spread(&mut spread_out).is_empty());
        assert_eq!(
            spread_out,
            value(
                "train: {stages: [
                   {name: a, from: base, settings: {lr: 1, lora: {r: 4, alpha: 16}, objective: {rank_zephyr: {}}}},
                   {name: b, settings: {lr: 2, lora: {r: 8, alpha: 16}, objective: {first: {}}}}]}"
            )
        );
        let shown = |path: &str| as_written(&KeyPath::parse(path), &written).to_string();
        assert_eq!(shown("train.stages[1].settings.lr"), "train.stages[1].lr");
        assert_eq!(shown("train.stages[0].settings.lr"), "train.lr");
        assert_eq!(shown("train.stages[0].name"), "train.stages[0].name");
        gather(&mut spread_out);
        assert_eq!(spread_out["train"]["stages"][0]["lora"]["r"].as_i64(), Some(4));
    }

    #[test]
    fn the_runs_max_steps_bounds_and_a_stages_warm_up_replaces() {
        let mut written = value(
            "train: {max_steps: 5, warmup_steps: 2, stages: [{max_steps: 9, warmup_ratio: 0.1}, {max_steps: 3}]}",
        );
        spread(&mut written);
        assert_eq!(
            written,
            value(
                "train: {stages: [{settings: {max_steps: 5, warmup_ratio: 0.1}}, {settings: {max_steps: 3, warmup_steps: 2}}]}"
            )
        );
    }

    #[test]
    fn train_without_stages_is_one_stage() {
        let mut written = value("train: {name: only, lr: 1}");
        spread(&mut written);
        assert_eq!(written, value("train: {stages: [{name: only, settings: {lr: 1}}]}"));
        let path = KeyPath::parse("train.stages[0].settings.typo");
        assert_eq!(as_written(&path, &value("train: {lr: 1}")).to_string(), "train.typo");
    }
}
