//! How an answer is written: what the candidates are called in it, and what stands around their names.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Identifiers;

/// What stands around the identifiers of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerFormat {
    /// `[B] > [A]`, as published.
    #[default]
    Bracketed,
    /// ` B A`: each letter after a blank, one token a candidate and nothing else. Letters only.
    Compact,
}

impl AnswerFormat {
    /// As in a configuration that says nothing of it.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Identifiers and the format they are written in: what writing and reading an answer needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerForm {
    /// What candidates are called.
    pub identifiers: Identifiers,
    /// What stands around the names.
    pub format: AnswerFormat,
}

/// Bracketed.
impl From<Identifiers> for AnswerForm {
    fn from(identifiers: Identifiers) -> Self {
        Self { identifiers, format: AnswerFormat::Bracketed }
    }
}

impl AnswerForm {
    /// Exactly the answer that names these identifiers in this order, without the blank that leads a compact one.
    pub(super) fn join(self, names: &[&str]) -> String {
        match self.format {
            AnswerFormat::Bracketed => names.iter().map(|name| format!("[{name}]")).collect::<Vec<_>>().join(" > "),
            AnswerFormat::Compact => names.join(" "),
        }
    }

    /// What stands between a prompt and its answer: a blank where the prompt does not end in white space itself (Vicuna's
    /// `ASSISTANT:`). A compact answer brings its own.
    pub(super) fn lead(self, prompt: &str) -> &'static str {
        match self.format {
            AnswerFormat::Bracketed if !prompt.ends_with(char::is_whitespace) && !prompt.is_empty() => " ",
            _ => "",
        }
    }

    /// Byte range of each identifier in an answer that names all of them in order: without brackets, with the blank.
    pub(super) fn spans(self, answer: &str) -> Vec<Range<usize>> {
        let (mark, skipped) = match self.format {
            AnswerFormat::Bracketed => ('[', 1),
            AnswerFormat::Compact => (' ', 0),
        };
        let names = answer.match_indices(mark).enumerate();
        names.map(|(index, (at, _))| at + skipped..at + 1 + self.identifiers.text(index).len()).collect()
    }
}

/// `[B] > [A]`, or compact ` B A`, for an order (0-based candidate indices, best first).
#[must_use]
pub fn answer_text(form: impl Into<AnswerForm>, order: &[u16]) -> String {
    let form = form.into();
    let names: Vec<String> = order.iter().map(|&index| form.identifiers.text(usize::from(index))).collect();
    let joined = form.join(&names.iter().map(String::as_str).collect::<Vec<_>>());
    match form.format {
        AnswerFormat::Compact if !joined.is_empty() => format!(" {joined}"),
        _ => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cut_an_answer_at_its_identifiers() {
        let compact = AnswerForm { identifiers: Identifiers::Alphabetic, format: AnswerFormat::Compact };
        for (form, wanted) in [
            (AnswerForm::from(Identifiers::Alphabetic), ["A", "B", "C"]),
            (AnswerForm::from(Identifiers::Numeric), ["1", "2", "3"]),
            (compact, [" A", " B", " C"]),
        ] {
            let answer = answer_text(form, &[0, 1, 2]);
            let found: Vec<&str> = form.spans(&answer).into_iter().map(|span| &answer[span]).collect();
            assert_eq!(found, wanted, "{answer}");
        }
        assert_eq!(answer_text(compact, &[1, 0]), " B A");
        assert_eq!((compact.lead("ASSISTANT:"), AnswerForm::from(Identifiers::Numeric).lead("ASSISTANT:")), ("", " "));
    }
}
