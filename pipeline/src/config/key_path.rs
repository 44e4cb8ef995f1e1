//! Paths of keys inside an experiment file: `train.stages[0].learning_rate`.

use std::fmt;

use serde_yaml::Value;

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Key of a map.
    Key(String),
    /// Place in a list, from 0.
    Index(usize),
}

/// Where a value stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyPath(pub Vec<Segment>);

impl KeyPath {
    /// Reads `a.b[0].c` or `a.b.0.c`; every piece that is not in brackets is a key.
    pub fn parse(text: &str) -> Self {
        let mut segments = Vec::new();
        for piece in text.split('.').filter(|piece| !piece.is_empty()) {
            let mut rest = piece;
            let key_end = rest.find('[').unwrap_or(rest.len());
            if key_end > 0 {
                segments.push(Segment::Key(rest[..key_end].to_owned()));
            }
            rest = &rest[key_end..];
            while let Some(inner) = rest.strip_prefix('[') {
                let end = inner.find(']').unwrap_or(inner.len());
                let index = &inner[..end];
                segments.push(match index.parse() {
                    Ok(index) => Segment::Index(index),
                    Err(_) => Segment::Key(index.to_owned()),
                });
                rest = inner.get(end + 1..).unwrap_or("");
            }
        }
        Self(segments)
    }

    /// This path and one more key.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        let mut segments = self.0.clone();
        segments.push(Segment::Key(key.to_owned()));
        Self(segments)
    }

    /// This path and one more place.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut segments = self.0.clone();
        segments.push(Segment::Index(index));
        Self(segments)
    }

    /// The path without its last segment; none of the empty path.
    pub fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_last()?;
        Some(Self(rest.to_vec()))
    }

    /// Takes the value out of `root`; none where there is no such key. List items are left alone (indices would shift).
    pub fn remove_from(&self, root: &mut Value) -> Option<Value> {
        match (self.0.last()?, self.parent()?.get_mut(root)?) {
            (Segment::Key(key), Value::Mapping(map)) => map.shift_remove(key.as_str()),
            _ => None,
        }
    }

    /// The value there, to be changed.
    pub fn get_mut<'a>(&self, root: &'a mut Value) -> Option<&'a mut Value> {
        self.0.iter().try_fold(root, step_mut)
    }

    /// The value there.
    pub fn get<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(root, |value, segment| match segment {
            Segment::Key(key) => value.as_mapping()?.get(key.as_str()),
            Segment::Index(index) => value.as_sequence()?.get(*index),
        })
    }
}

fn step_mut<'a>(value: &'a mut Value, segment: &Segment) -> Option<&'a mut Value> {
    match segment {
        Segment::Key(key) => value.as_mapping_mut()?.get_mut(key.as_str()),
        Segment::Index(index) => value.as_sequence_mut()?.get_mut(*index),
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if place == 0 => write!(f, "{key}")?,
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_and_dots_are_read_and_printed() {
        let path = KeyPath::parse("train.stages[0].objective.first");
        assert_eq!(path.0[2], Segment::Index(0));
        assert_eq!(path.to_string(), "train.stages[0].objective.first");
        assert_eq!(KeyPath::parse("a.0.b").0[1], Segment::Key("0".into()));
        assert_eq!(path.parent().map(|p| p.to_string()), Some("train.stages[0].objective".into()));
    }
}
