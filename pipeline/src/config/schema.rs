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

/// The schema for editors: a kind whose settings all have defaults may be its bare word.
pub fn editor_schema() -> Value {
    let mut schema = experiment_schema();
    let all_have_defaults = |value: &Value| {
        let name = value["$ref"].as_str().and_then(|path| path.rsplit('/').next());
        name.is_some_and(|name| schema["$defs"][name]["required"].as_array().is_none_or(Vec::is_empty))
    };
    let words_of = |kinds: &Value| -> Vec<String> {
        let maps = kinds["oneOf"].as_array().into_iter().flatten().filter_map(|kind| kind["properties"].as_object());
        let single = maps.filter(|map| map.len() == 1).flat_map(Map::iter);
        single.filter(|(_, settings)| all_have_defaults(settings)).map(|(word, _)| word.clone()).collect()
    };
    let names: Vec<(String, Vec<String>)> = schema["$defs"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, definition)| (name.clone(), words_of(definition)))
        .filter(|(_, words)| !words.is_empty())
        .collect();
    for (name, words) in names {
        if let Some(kinds) = schema["$defs"][&name]["oneOf"].as_array_mut() {
            kinds
                .push(json!({"type": "string", "enum": words, "description": "The same with their default settings."}));
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn editors_take_a_bare_word_where_all_settings_have_defaults() {
        let words = |name: &str| {
            let schema = editor_schema();
            let kinds = schema["$defs"][name]["oneOf"].as_array().cloned().unwrap_or_default();
            kinds.last().map(|last| last["enum"].to_string()).unwrap_or_default()
        };
        assert!(words("DecoderKind").contains("\"jacobi\"") && words("ObjectiveConfig").contains("\"first\""));
        assert!(!words("SourceConfig").contains("\"trec\""), "a run has no default");
    }
}
