//! Settings of a prompt.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose wording.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PromptStyle {
    /// RankZephyr (Pradeep et al. 2023b).
    #[default]
    RankZephyr,
    /// FIRST (Reddy et al. 2024).
    First,
    /// RankVicuna (Pradeep et al. 2023a).
    RankVicuna,
}

/// What candidates are called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Identifiers {
    /// `[1] [2]`, at most 100.
    #[default]
    Numeric,
    /// `[A] [B]`, at most 26.
    Alphabetic,
}

impl Identifiers {
    /// How many candidates can be named.
    #[must_use]
    pub fn limit(self) -> usize {
        match self {
            Self::Numeric => 100,
            Self::Alphabetic => 26,
        }
    }

    /// As in YAML.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Numeric => "numeric",
            Self::Alphabetic => "alphabetic",
        }
    }

    /// Text of the candidate at 0-based `index`, without brackets.
    ///
    /// # Panics
    /// When `index` is not below [`Self::limit`] for letters.
    #[must_use]
    pub fn text(self, index: usize) -> String {
        match self {
            Self::Numeric => (index + 1).to_string(),
            Self::Alphabetic => {
                assert!(index < 26, "letter {index} of 26");
                char::from(b'A' + index as u8).to_string()
            }
        }
    }
}

/// Identifier before or after its passage. A causal model learns to rank about three times faster when the identifier
/// follows the passage (it has then read it); the published prompts put it before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdentifierPosition {
    /// `[A] text`.
    #[default]
    Before,
    /// `text [A]`.
    After,
}

/// Form the messages are put in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PromptTemplate {
    /// The tokenizer's chat template when it has one, else `vicuna`.
    #[default]
    Auto,
    /// The tokenizer's chat template; an error when there is none.
    Chat,
    /// Vicuna v1.1's text, as RankVicuna was trained on: `system USER: prompt ASSISTANT:`.
    Vicuna,
}

/// Everything that decides a prompt's text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PromptConfig {
    /// Wording: `rank_zephyr`, `first` or `rank_vicuna`. Default: `rank_zephyr`.
    pub style: PromptStyle,
    /// `numeric` or `alphabetic`. Default: `numeric` (FIRST uses letters).
    pub identifiers: Identifiers,
    /// `before` or `after` the passage. Default: `before`, as published.
    pub identifier_position: IdentifierPosition,
    /// Passages are cut to this many tokens, at a token boundary that is valid text. Default: no limit.
    pub max_passage_tokens: Option<usize>,
    /// Passages are cut to this many words first. Default: 300, as RankLLM does.
    pub max_passage_words: Option<usize>,
    /// Queries are cut to this many tokens. Default: no limit.
    pub max_query_tokens: Option<usize>,
    /// Put a passage's title before its text (`Title: .. Content: ..`), as RankLLM does. Default: true.
    pub include_title: bool,
    /// Form the messages are put in. Default: `auto`.
    pub template: PromptTemplate,
    /// System message in place of the style's own; an empty text leaves it out. Default: the style's.
    pub system_message: Option<String>,
}

impl Default for PromptConfig {
    fn default() -> Self {
        Self {
            style: PromptStyle::default(),
            identifiers: Identifiers::default(),
            identifier_position: IdentifierPosition::default(),
            max_passage_tokens: None,
            max_passage_words: Some(300),
            max_query_tokens: None,
            include_title: true,
            template: PromptTemplate::default(),
            system_message: None,
        }
    }
}

impl PromptConfig {
    /// The published settings of a style: numbers for RankZephyr and RankVicuna, letters for FIRST.
    #[must_use]
    pub fn of(style: PromptStyle) -> Self {
        let identifiers = match style {
            PromptStyle::First => Identifiers::Alphabetic,
            PromptStyle::RankZephyr | PromptStyle::RankVicuna => Identifiers::Numeric,
        };
        Self { style, identifiers, ..Self::default() }
    }

    /// Everything wrong with the settings, one line each.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let limits = [
            ("max_passage_tokens", self.max_passage_tokens),
            ("max_passage_words", self.max_passage_words),
            ("max_query_tokens", self.max_query_tokens),
        ];
        let zero = limits.iter().filter(|(_, limit)| *limit == Some(0));
        zero.map(|(key, _)| format!("`{key}` is 0: nothing would be left; leave it out or give at least 1")).collect()
    }
}
