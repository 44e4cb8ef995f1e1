//! What a model reads of a branched text, as token ids.
//!
//! Background, questions and answers are tokenised apart, so that training and decoding see the same ids and no answer's first token
//! depends on what stands before it.

use std::sync::Arc;

use model::Tokenizer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::DataError;

/// Wording. `{background}`, `{question}`, `{answer}` and `{number}` (of the question, from 1) stand for the texts; special tokens may be
/// written out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BranchPromptConfig {
    /// Of the background. Default `Text: {background}\n`.
    pub background: String,
    /// Of a question. Default `\nQuestion: {question}\nAnswer:`.
    pub question: String,
    /// Of an answer; the token that ends a text follows. Default ` {answer}`.
    pub answer: String,
}

impl Default for BranchPromptConfig {
    fn default() -> Self {
        Self {
            background: "Text: {background}\n".into(),
            question: "\nQuestion: {question}\nAnswer:".into(),
            answer: " {answer}".into(),
        }
    }
}

impl BranchPromptConfig {
    /// Everything wrong with it, one line each.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let parts = [("background", &self.background), ("question", &self.question), ("answer", &self.answer)];
        let lacks = |(key, text): &(&str, &String)| !text.contains(&format!("{{{key}}}"));
        let problem =
            |(key, text): (&str, &String)| format!("`{key}` is {text:?}, wanted a text with `{{{key}}}` in it");
        let mut problems: Vec<String> = parts.into_iter().filter(lacks).map(problem).collect();
        if self.answer.split("{answer}").next().is_some_and(|before| before.contains('\n')) {
            let answer = &self.answer;
            problems.push(format!(
                "`answer` is {answer:?}: a line break ends an answer, so none may stand before it; put it at the end of `question`"
            ));
        }
        problems
    }
}

/// Writes and tokenises the parts of branched texts.
#[derive(Debug, Clone)]
pub struct BranchPrompts {
    tokenizer: Arc<Tokenizer>,
    config: BranchPromptConfig,
    end: i64,
}

impl BranchPrompts {
    /// Prompts for a tokenizer.
    ///
    /// # Errors
    /// Wording without the texts it is for, or a tokenizer without a token that ends a text.
    pub fn new(tokenizer: Arc<Tokenizer>, config: BranchPromptConfig) -> Result<Self, DataError> {
        let mut problems = config.validate();
        let end = tokenizer.eos_token_ids().first().copied();
        if end.is_none() {
            problems
                .push("the tokenizer has no token that ends a text; give `eos_token` in tokenizer_config.json".into());
        }
        match end {
            Some(end) if problems.is_empty() => Ok(Self { tokenizer, config, end }),
            _ => Err(DataError::Config { problems }),
        }
    }

    /// Token ids of a background; what the tokenizer puts before every text stands before it.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn background(&self, text: &str) -> Result<Vec<i64>, DataError> {
        Ok(self.tokenizer.encode(&self.config.background.replace("{background}", text), true)?)
    }

    /// Token ids of question `number` (from 1).
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn question(&self, number: usize, text: &str) -> Result<Vec<i64>, DataError> {
        let wording = self.config.question.replace("{number}", &number.to_string());
        Ok(self.tokenizer.encode(&wording.replace("{question}", text), false)?)
    }

    /// Token ids of an answer, with the token that ends it.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn answer(&self, text: &str) -> Result<Vec<i64>, DataError> {
        let mut ids = self.tokenizer.encode(&self.config.answer.replace("{answer}", text), false)?;
        ids.push(self.end);
        Ok(ids)
    }

    /// Token ids of a document's first part.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn document(&self, text: &str) -> Result<Vec<i64>, DataError> {
        Ok(self.tokenizer.encode(text, true)?)
    }

    /// Token ids of a document's paragraph, with the token that ends it.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn paragraph(&self, text: &str) -> Result<Vec<i64>, DataError> {
        let mut ids = self.tokenizer.encode(text, false)?;
        ids.push(self.end);
        Ok(ids)
    }

    /// Text of an answer's ids.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn text(&self, ids: &[i64]) -> Result<String, DataError> {
        Ok(self.tokenizer.decode(ids, true)?.trim().to_owned())
    }

    /// Tokens that end an answer: those that end a text, and a line break when it is one token.
    #[must_use]
    pub fn end_tokens(&self) -> Vec<i64> {
        let mut ends = self.tokenizer.eos_token_ids().to_vec();
        if let Ok([line_break]) = self.tokenizer.encode("\n", false).as_deref() {
            ends.push(*line_break);
        }
        ends
    }

    /// Hash (hex) of wording and tokenizer.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(serde_json::to_string(&self.config).unwrap_or_default().as_bytes());
        hasher.update(self.tokenizer.fingerprint().as_bytes());
        hasher.finalize().to_hex()[..16].to_owned()
    }

    /// Settings it was made with.
    #[must_use]
    pub fn config(&self) -> &BranchPromptConfig {
        &self.config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_before_an_answer_is_refused_and_one_after_it_is_not() {
        let with =
            |answer: &str| BranchPromptConfig { answer: answer.into(), ..BranchPromptConfig::default() }.validate();
        assert!(with(" {answer}").is_empty() && with("{answer}\n").is_empty());
        assert_eq!(with("\n{answer}").len(), 1);
        assert!(with("\n{answer}")[0].contains("a line break ends an answer"));
    }
}
