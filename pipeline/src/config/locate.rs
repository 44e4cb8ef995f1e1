//! Line and column of a key in a YAML text.
//!
//! The parser reports a place only with its errors, so the text is read once more along the path and the walk fails on
//! purpose where the path ends: the place in that error is the answer, for block and flow style alike.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::key_path::{KeyPath, Segment};

/// 1-based line and column of the key (or list item) at `path`; of its nearest ancestor where the text has no such key.
pub fn locate(text: &str, path: &KeyPath) -> Option<(usize, usize)> {
    let mut path = path.clone();
    loop {
        let walk = Walk { path: &path.0 };
        if let Err(Found(place)) = walk_text(text, walk) {
            return Some(place);
        }
        path = path.parent()?;
    }
}

struct Found((usize, usize));

fn walk_text(text: &str, walk: Walk<'_>) -> Result<(), Found> {
    if walk.path.is_empty() {
        return Ok(());
    }
    match walk.deserialize(serde_yaml::Deserializer::from_str(text)) {
        Err(error) if error.to_string().contains(MARKER) => match error.location() {
            Some(at) => Err(Found((at.line(), at.column()))),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Tells the walk's own error from the parser's.
const MARKER: &str = "the path ends here";

struct Walk<'a> {
    path: &'a [Segment],
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a map or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Segment::Key(wanted), rest)) = self.path.split_first() else {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        while let Some(found) = map.next_key_seed(Key { wanted, fail_when_found: rest.is_empty() })? {
            if found {
                map.next_value_seed(Walk { path: rest })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Some((Segment::Index(wanted), rest)) = self.path.split_first() else {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        for _ in 0..*wanted {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        if rest.is_empty() {
            items.next_element_seed(Here)?;
        } else {
            items.next_element_seed(Walk { path: rest })?;
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

struct Key<'a> {
    wanted: &'a str,
    fail_when_found: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        match (key == self.wanted, self.fail_when_found) {
            (true, true) => Err(E::custom(MARKER)),
            (found, _) => Ok(found),
        }
    }
}

/// Fails on any value.
struct Here;

impl<'de> DeserializeSeed<'de> for Here {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Here {
    type Value = ();

    /// Every kind of value is refused with this text.
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(MARKER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "name: a\ntrain:\n  max_steps: 3\n  stages:\n    - name: x\n      lr: 1\n    - {name: y, lr: 2}\n";

    fn place(path: &str) -> Option<(usize, usize)> {
        locate(TEXT, &KeyPath::parse(path))
    }

    #[test]
    fn keys_in_block_and_flow_style_are_found() {
        assert_eq!(place("name"), Some((1, 1)));
        assert_eq!(place("train.max_steps"), Some((3, 3)));
        assert_eq!(place("train.stages[0].lr"), Some((6, 7)));
        assert_eq!(place("train.stages[1].lr").map(|at| at.0), Some(7));
        assert_eq!(place("train.stages[1]"), Some((7, 7)));
    }

    #[test]
    fn a_missing_key_falls_back_to_its_parent() {
        assert_eq!(place("train.stages[0].missing"), Some((5, 7)));
        assert_eq!(place("train.missing.deeper"), Some((2, 1)));
        assert_eq!(place("nothing"), None);
    }
}
