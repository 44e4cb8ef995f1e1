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
    escape(&mut value);
    Ok(value)
}

/// A literal `${` as the file has to write it: what is read again is expanded again.
fn escape(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("${") => *text = text.replace("${", "$${"),
        Value::Sequence(items) => items.iter_mut().for_each(escape),
        Value::Mapping(map) => map.iter_mut().for_each(|(_, item)| escape(item)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::escape;
    use crate::config::environment::interpolate;

    #[test]
    fn what_is_written_reads_as_it_was() {
        let texts = ["costs ${PRICE} a list", "$${", "no $ at all", "a ${x:-b} ${"];
        let original = serde_yaml::to_value(std::collections::BTreeMap::from([("notes", texts)])).unwrap();
        let mut value = original.clone();
        escape(&mut value);
        assert!(interpolate(&mut value, &|_| Some("expanded".to_owned())).is_empty());
        assert_eq!(value, original);
    }
}
