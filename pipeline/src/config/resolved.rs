//! The resolved experiment: every default filled in, written so that it can be run again.

use anyhow::Context as _;

use super::experiment::ExperimentConfig;
use super::stage_settings::gather;

/// As YAML, in the layout of an experiment file.
///
/// # Errors
/// When a value has no YAML form.
pub fn to_yaml(config: &ExperimentConfig) -> anyhow::Result<String> {
    let mut value = serde_yaml::with::singleton_map_recursive::serialize(config, serde_yaml::value::Serializer)
        .context("the experiment cannot be written as YAML")?;
    gather(&mut value);
    serde_yaml::to_string(&value).context("the experiment cannot be written as YAML")
}
