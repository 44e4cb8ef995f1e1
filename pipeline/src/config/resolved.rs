//! The resolved experiment: every default filled in, written so that it can be run again.

use anyhow::Context as _;
use serde_yaml::Value;

use super::experiment::ExperimentConfig;
use super::stage_settings::gather;

/// As YAML, in the layout of an experiment file.
///
/// # Errors
/// When a value has no YAML form.
pub fn to_yaml(config: &ExperimentConfig) -> anyhow::Result<String> {
    serde_yaml::to_string(&to_value(config)?).context("the experiment cannot be written as YAML")
}

/// As [`to_yaml`], before it is text.
///
/// # Errors
/// When a value has no YAML form.
pub fn to_value(config: &ExperimentConfig) -> anyhow::Result<Value> {
    let mut value = serde_yaml::with::singleton_map_recursive::serialize(config, serde_yaml::value::Serializer)
        .context("the experiment cannot be written as YAML")?;
    gather(&mut value);
    Ok(value)
}
