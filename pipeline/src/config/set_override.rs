//! `--set a.b=c`: one value of the file, replaced from the command line.

use serde_yaml::{Mapping, Value};

use super::key_path::{KeyPath, Segment};
use super::problem::{Problem, suggestion};

/// One `--set` argument.
#[derive(Debug, Clone)]
pub struct SetOverride {
    /// As typed.
    pub text: String,
    /// Left of `=`; list items are named by index or by their `name`.
    pub path: KeyPath,
    /// Right of `=`, read as YAML.
    pub value: Value,
}

impl SetOverride {
    /// Reads `key.path=value`.
    ///
    /// # Errors
    /// Without `=` or key, and when the value is no YAML.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let fault = |message: String| {
            Problem::new("", message).hint("write `--set key.path=value`, for example `--set train.max_steps=10`")
        };
        let Some((path, value)) = text.split_once('=') else {
            return Err(fault(format!("got `{text}`, wanted `key.path=value`")));
        };
        let path = KeyPath::parse(path.trim());
        if path.0.is_empty() {
            return Err(fault(format!("got `{text}`, which names no key")));
        }
        let value = serde_yaml::from_str(value).map_err(|error| fault(format!("`{value}` cannot be read: {error}")))?;
        Ok(Self { text: text.to_owned(), path, value })
    }

    /// Puts the value into `root`, making maps on the way, and returns the path it went to.
    ///
    /// # Errors
    /// When the path leads through a scalar, or to a list item that is not there.
    pub fn apply(&self, root: &mut Value) -> Result<KeyPath, Problem> {
        let mut reached = KeyPath::default();
        let mut value = root;
        for segment in &self.path.0 {
            if value.is_null() {
                *value = Value::Mapping(Mapping::new());
            }
            value = match value {
                Value::Mapping(map) => {
                    let key = match segment {
                        Segment::Key(key) => key.clone(),
                        Segment::Index(index) => index.to_string(),
                    };
                    reached = reached.key(&key);
                    map.entry(Value::String(key)).or_insert(Value::Null)
                }
                Value::Sequence(items) => {
                    let index = item_index(items, segment, &reached)?;
                    reached = reached.index(index);
                    &mut items[index]
                }
                _ => {
                    return Err(Problem {
                        path: self.path.clone(),
                        message: format!("`{reached}` is a single value and has no keys below it"),
                        hint: Some(format!("set `{reached}` itself")),
                    });
                }
            };
        }
        *value = self.value.clone();
        Ok(reached)
    }
}

fn item_index(items: &[Value], segment: &Segment, reached: &KeyPath) -> Result<usize, Problem> {
    let names: Vec<&str> = items.iter().filter_map(|item| item.as_mapping()?.get("name")?.as_str()).collect();
    let wanted = match segment {
        Segment::Index(index) => index.to_string(),
        Segment::Key(key) => key.clone(),
    };
    let by_index = wanted.parse::<usize>().ok().filter(|index| *index < items.len());
    let by_name = items.iter().position(|item| {
        item.as_mapping().and_then(|map| map.get("name")?.as_str()).is_some_and(|name| name == wanted)
    });
    by_index.or(by_name).ok_or_else(|| Problem {
        path: reached.key(&wanted),
        message: format!("`{reached}` is a list of {}, without `{wanted}`", items.len()),
        hint: Some(if names.is_empty() {
            "name a list item by its index, from 0".to_owned()
        } else {
            suggestion(&wanted, &names)
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(text: &str, set: &str) -> Result<Value, Problem> {
        let mut value: Value = serde_yaml::from_str(text).unwrap();
        SetOverride::parse(set)?.apply(&mut value)?;
        Ok(value)
    }

    #[test]
    fn scalars_lists_and_names() {
        let text = "train: {stages: [{name: first, lr: 1}]}";
        for set in ["train.stages.0.lr=2e-5", "train.stages[0].lr=2e-5", "train.stages.first.lr=2e-5"] {
            let value = applied(text, set).unwrap();
            assert_eq!(value["train"]["stages"][0]["lr"].as_f64(), Some(2e-5), "{set}");
        }
        assert_eq!(applied("a: 1", "b.c=[1, 2]").unwrap()["b"]["c"][1].as_i64(), Some(2));
    }

    #[test]
    fn what_cannot_be_reached_is_named() {
        assert!(applied("a: 1", "a.b=2").unwrap_err().message.contains("`a` is a single value"));
        let error = applied("s: [{name: first}]", "s.frist.lr=2").unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("did you mean `first`?"));
        assert!(applied("a: 1", "a").unwrap_err().message.contains("wanted `key.path=value`"));
    }
}
