//! The decoders an experiment file can name.

use std::fmt;

use data::prompt::Identifiers;
use model::Tokenizer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Autoregressive, AutoregressiveForced, Decoder, SingleToken};

/// A way to turn a prompt into a ranking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DecoderKind {
    /// Greedy text, one token a pass, as `generate` does; the answer is parsed and repaired.
    Autoregressive,
    /// One identifier a pass among those not used yet; separators are appended without a pass of their own.
    AutoregressiveForced,
    /// One pass: candidates by the logits of their identifiers as the answer's first (Reddy et al. 2024).
    SingleToken,
}

impl DecoderKind {
    /// All of them, slowest first.
    pub const ALL: [Self; 3] = [Self::Autoregressive, Self::AutoregressiveForced, Self::SingleToken];

    /// Name in files and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Autoregressive => "autoregressive",
            Self::AutoregressiveForced => "autoregressive_forced",
            Self::SingleToken => "single_token",
        }
    }

    /// The decoder named `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Makes the decoder. `identifiers` are the prompt's; `max_new_tokens` bounds free text only; absent, a full answer
    /// and a little more.
    #[must_use]
    pub fn build(
        self,
        tokenizer: &Tokenizer,
        identifiers: Identifiers,
        max_new_tokens: Option<usize>,
    ) -> Box<dyn Decoder> {
        match self {
            Self::Autoregressive => Box::new(Autoregressive::new(tokenizer.clone(), identifiers, max_new_tokens)),
            Self::AutoregressiveForced => Box::new(AutoregressiveForced),
            Self::SingleToken => Box::new(SingleToken),
        }
    }
}

impl fmt::Display for DecoderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_files_say() {
        for kind in DecoderKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert_eq!(DecoderKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(DecoderKind::from_name("one_token"), None);
    }
}
