//! JSON Schema of the experiment file, as it is written: a stage's settings stand beside its name, and `train` may hold
//! any of them for all stages.

use schemars::schema_for;
use serde_json::{Map, Value, json};

use super::experiment::ExperimentConfig;
use super::stage_settings::SETTINGS;

/// The schema.
pub fn experiment_schema() -> Value {
    let mut schema = schema_for!(ExperimentConfig).to_value();
    let settings = properties(&schema, "TrainConfig");
    let Some(definitions) = schema.get_mut("$defs").and_then(Value::as_object_mut) else {
        return schema;
    };
    if let Some(stage) = definitions.get_mut("StageSection") {
        extend(stage, &settings, &["data"]);
    }
    let of_stage =
        definitions.get("StageSection").and_then(|stage| stage.get("properties")).cloned().unwrap_or_default();
    if let Some(train) = definitions.get_mut("TrainSection") {
        let shared = of_stage.as_object().cloned().unwrap_or_default();
        extend(train, &shared, &[]);
    }
    definitions.shift_remove("TrainConfig");
    schema
}

fn properties(schema: &Value, name: &str) -> Map<String, Value> {
    schema["$defs"][name]["properties"].as_object().cloned().unwrap_or_default()
}

/// Adds properties; only `required` stay so.
fn extend(definition: &mut Value, more: &Map<String, Value>, required: &[&str]) {
    if let Some(own) = definition.get_mut("properties").and_then(Value::as_object_mut) {
        own.shift_remove(SETTINGS);
        for (key, value) in more {
            own.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    definition["required"] = json!(required);
}
