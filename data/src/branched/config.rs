//! Where branched texts come from, and what to keep of them.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A set of branched texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BranchedSetConfig {
    /// Where the texts come from.
    pub source: BranchedSource,
    /// Texts used at most. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_texts: Option<usize>,
    /// Malformed rows are errors instead of being counted. Default false.
    #[serde(default)]
    pub strict: bool,
}

/// Kinds of sources.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BranchedSource {
    /// Questions of SQuAD v1.1, those about one paragraph together.
    SquadQuestions(SquadQuestionsConfig),
    /// Documents: their first paragraphs are the background, the others branches.
    Documents(DocumentsConfig),
    /// Own rows `{"id", "background", "questions": [{"id", "question", "answers": [..]}]}`.
    Questions(QuestionRowsConfig),
}

/// Questions of SQuAD v1.1 grouped by their paragraph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SquadQuestionsConfig {
    /// Official SQuAD v1.1 JSON (`.gz` works).
    pub path: PathBuf,
    /// Paragraphs with fewer questions are left out (counted). Default 2.
    #[serde(default = "two")]
    pub min_questions: usize,
    /// The first so many questions of a paragraph are used. Default 4.
    #[serde(default = "four")]
    pub max_questions: usize,
    /// Paragraphs in a random order drawn with this seed, so that the first few are of many articles; absent: the file's order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shuffle_seed: Option<u64>,
}

/// Documents cut into a background and branches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentsConfig {
    /// JSONL, JSON, parquet or Arrow with one document a row, or plain text (`.txt`, `.txt.gz`: one document, or several under
    /// headings ` = Title = `).
    pub path: PathBuf,
    /// Field that holds the text. Default `text`.
    #[serde(default = "text_field")]
    pub text_field: String,
    /// Paragraphs of a document that are its background. Default: half of them, at least 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background_paragraphs: Option<usize>,
    /// Branches of a text at most. Default: one for each paragraph that is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_branches: Option<usize>,
    /// Shorter paragraphs (headings, say) are left out. In words; default 5.
    #[serde(default = "five")]
    pub min_paragraph_words: usize,
    /// Longer paragraphs are cut after so many words. Default: none is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_paragraph_words: Option<usize>,
    /// A longer document becomes several texts of at most this many words, at the ends of paragraphs. Default 800.
    #[serde(default = "eight_hundred")]
    pub max_words: usize,
}

/// Own rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuestionRowsConfig {
    /// JSONL, JSON, parquet or Arrow.
    pub path: PathBuf,
}

fn two() -> usize {
    2
}

fn four() -> usize {
    4
}

fn five() -> usize {
    5
}

fn eight_hundred() -> usize {
    800
}

fn text_field() -> String {
    "text".into()
}

impl BranchedSource {
    /// Name as in the settings.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SquadQuestions(_) => "squad_questions",
            Self::Documents(_) => "documents",
            Self::Questions(_) => "questions",
        }
    }

    fn path(&self) -> &PathBuf {
        match self {
            Self::SquadQuestions(source) => &source.path,
            Self::Documents(source) => &source.path,
            Self::Questions(source) => &source.path,
        }
    }
}

impl BranchedSetConfig {
    /// Everything wrong with the settings, one line each.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut positive = |key: &str, value: usize| {
            if value == 0 {
                problems.push(format!("`{key}` is 0, wanted at least 1"));
            }
        };
        positive("max_texts", self.max_texts.unwrap_or(1));
        match &self.source {
            BranchedSource::SquadQuestions(source) => {
                positive("squad_questions.max_questions", source.max_questions);
                if source.min_questions > source.max_questions {
                    let (min, max) = (source.min_questions, source.max_questions);
                    problems.push(format!("`squad_questions.min_questions` is {min}, more than `max_questions` {max}"));
                }
            }
            BranchedSource::Documents(source) => {
                positive("documents.max_words", source.max_words);
                positive("documents.max_branches", source.max_branches.unwrap_or(1));
                positive("documents.max_paragraph_words", source.max_paragraph_words.unwrap_or(1));
                positive("documents.background_paragraphs", source.background_paragraphs.unwrap_or(1));
            }
            BranchedSource::Questions(_) => {}
        }
        problems
    }

    /// Raised where a source makes other texts of the same files than before: sets are made anew, and models that learned from them.
    #[must_use]
    pub fn version(&self) -> u32 {
        match self.source {
            // Paragraphs with the same text are one; lower headings are no paragraphs.
            BranchedSource::SquadQuestions(_) | BranchedSource::Documents(_) => 2,
            BranchedSource::Questions(_) => 1,
        }
    }

    /// Files it reads.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        vec![self.source.path().clone()]
    }

    /// Its paths, to be replaced by where the files are.
    pub fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        match &mut self.source {
            BranchedSource::SquadQuestions(source) => vec![&mut source.path],
            BranchedSource::Documents(source) => vec![&mut source.path],
            BranchedSource::Questions(source) => vec![&mut source.path],
        }
    }
}
