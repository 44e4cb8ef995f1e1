//! Typed metadata of a GGUF file.

use std::collections::BTreeMap;

use super::GgufError;

/// A value of the metadata; widths are forgotten.
#[derive(Debug, Clone, PartialEq)]
pub enum MetadataValue {
    /// u8, u16, u32, u64.
    Unsigned(u64),
    /// i8, i16, i32, i64.
    Signed(i64),
    /// f32, f64.
    Float(f64),
    /// bool.
    Bool(bool),
    /// UTF-8.
    Text(String),
    /// Elements of one type.
    Array(Vec<MetadataValue>),
}

impl MetadataValue {
    /// A number that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(*value),
            Self::Signed(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// Any number.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Unsigned(value) => Some(*value as f64),
            Self::Signed(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// For messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Unsigned(value) => value.to_string(),
            Self::Signed(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Text(value) => format!("{value:.80}"),
            Self::Array(values) => format!("an array of {}", values.len()),
        }
    }
}

/// Metadata with typed, named look-ups.
#[derive(Debug, Clone, Copy)]
pub struct Metadata<'a>(pub &'a BTreeMap<String, MetadataValue>);

impl<'a> Metadata<'a> {
    fn typed<T>(
        self,
        key: &str,
        wanted: &'static str,
        read: impl Fn(&'a MetadataValue) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        let typed = read(value);
        typed.map(Some).ok_or_else(|| GgufError::Value { key: key.into(), got: value.describe(), wanted })
    }

    /// A size or an id.
    pub fn integer(self, key: &str) -> Result<Option<i64>, GgufError> {
        self.typed(key, "a number", |value| i64::try_from(value.as_u64()?).ok())
    }

    /// As [`Self::integer`]; absent is an error.
    pub fn required_integer(self, key: &str) -> Result<i64, GgufError> {
        self.integer(key)?.ok_or_else(|| GgufError::Missing { key: key.into() })
    }

    /// A number.
    pub fn float(self, key: &str) -> Result<Option<f64>, GgufError> {
        self.typed(key, "a number", MetadataValue::as_f64)
    }

    /// A flag.
    pub fn flag(self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "true or false", |value| match value {
            MetadataValue::Bool(value) => Some(*value),
            _ => None,
        })
    }

    /// Text.
    pub fn text(self, key: &str) -> Result<Option<&'a str>, GgufError> {
        self.typed(key, "text", as_text)
    }

    /// A list of texts.
    pub fn texts(self, key: &str) -> Result<Option<Vec<&'a str>>, GgufError> {
        self.typed(key, "a list of texts", |value| list(value)?.iter().map(as_text).collect())
    }

    /// A list of numbers.
    pub fn floats(self, key: &str) -> Result<Option<Vec<f64>>, GgufError> {
        self.typed(key, "a list of numbers", |value| list(value)?.iter().map(MetadataValue::as_f64).collect())
    }
}

fn as_text(value: &MetadataValue) -> Option<&str> {
    match value {
        MetadataValue::Text(text) => Some(text),
        _ => None,
    }
}

fn list(value: &MetadataValue) -> Option<&[MetadataValue]> {
    match value {
        MetadataValue::Array(values) => Some(values),
        _ => None,
    }
}
