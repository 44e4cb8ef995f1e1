//! Settings of a prompt.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AnswerForm, AnswerFormat};

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
    /// Our own: the query is a user's history, oldest first; candidates are ranked by what the user takes next.
    Recommendation,
    /// Our own: the query is a question; candidates are questions, ranked by whether they ask the same.
    DuplicateQuestions,
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

/// How a passage's title stands before its text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TitleFormat {
    /// `Title: .. Content: ..`.
    #[default]
    Labelled,
    /// `title. text`.
    Sentence,
}

impl TitleFormat {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Everything that decides a prompt's text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PromptConfig {
    /// Wording: `rank_zephyr`, `first`, `rank_vicuna`, `recommendation` or `duplicate_questions`. Default: `rank_zephyr`.
    pub style: PromptStyle,
    /// `numeric` or `alphabetic`. Default: `numeric` (FIRST uses letters).
    pub identifiers: Identifiers,
    /// `before` or `after` the passage. Default: `before`, as published.
    pub identifier_position: IdentifierPosition,
    /// Passages are cut to this many tokens, at a token boundary that is valid text. Default: no limit.
    pub max_passage_tokens: Option<usize>,
    /// Passages are cut to this many words first. Default: 300, as RankLLM does.
    pub max_passage_words: Option<usize>,
    /// Where prompt and answer would be longer than the context, all passages are cut to fewer words until they are not, as RankLLM does. Default:
    /// false, and such a prompt is an error.
    // Left out of what is written when default, as `answer_format`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fit_context: bool,
    /// Queries are cut to this many tokens. Default: no limit.
    pub max_query_tokens: Option<usize>,
    /// Put a passage's title before its text. Default: true.
    pub include_title: bool,
    /// How: `labelled` (`Title: .. Content: ..`, as RankLLM) or `sentence` (`title. text`, as FIRST's lists of BEIR). Default: `labelled`.
    // Left out of what is written when default, as `answer_format`.
    #[serde(skip_serializing_if = "TitleFormat::is_default")]
    pub title_format: TitleFormat,
    /// Form the messages are put in. Default: `auto`.
    pub template: PromptTemplate,
    /// System message in place of the style's own; an empty text leaves it out. Default: the style's.
    pub system_message: Option<String>,
    /// How the answer is written, and asked for: `bracketed`, or `compact` with one token a candidate (letters only).
    /// Default: `bracketed`, as published.
    // Left out of what is written when default, so that hashes of models trained before it existed hold.
    #[serde(skip_serializing_if = "AnswerFormat::is_default")]
    pub answer_format: AnswerFormat,
}

impl Default for PromptConfig {
    fn default() -> Self {
        Self {
            style: PromptStyle::default(),
            identifiers: Identifiers::default(),
            identifier_position: IdentifierPosition::default(),
            max_passage_tokens: None,
            max_passage_words: Some(300),
            fit_context: false,
            max_query_tokens: None,
            include_title: true,
            title_format: TitleFormat::default(),
            template: PromptTemplate::default(),
            system_message: None,
            answer_format: AnswerFormat::default(),
        }
    }
}

impl PromptConfig {
    /// The usual settings of a style: numbers for RankZephyr and RankVicuna as published, letters for the others.
    #[must_use]
    pub fn of(style: PromptStyle) -> Self {
        let identifiers = match style {
            PromptStyle::First | PromptStyle::Recommendation | PromptStyle::DuplicateQuestions => {
                Identifiers::Alphabetic
            }
            PromptStyle::RankZephyr | PromptStyle::RankVicuna => Identifiers::Numeric,
        };
        Self { style, identifiers, ..Self::default() }
    }

    /// How answers are written: what [`super::parse_ranking`] needs to read one.
    #[must_use]
    pub fn answer_form(&self) -> AnswerForm {
        AnswerForm { identifiers: self.identifiers, format: self.answer_format }
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
        let mut problems: Vec<String> = zero
            .map(|(key, _)| format!("`{key}` is 0: nothing would be left; leave it out or give at least 1"))
            .collect();
        if self.answer_format == AnswerFormat::Compact && self.identifiers != Identifiers::Alphabetic {
            let kind = self.identifiers.name();
            problems.push(format!(
                "`answer_format: compact` with `identifiers: {kind}`: only letters are one token each; use `identifiers: \
                 alphabetic` or `answer_format: bracketed`"
            ));
        }
        if self.style == PromptStyle::Recommendation && self.max_query_tokens.is_some() {
            problems.push(
                "`max_query_tokens` would cut off the latest items of a history; use the source's `history_length`"
                    .to_owned(),
            );
        }
        problems
    }
}
