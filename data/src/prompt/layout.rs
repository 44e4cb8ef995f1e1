//! Which tokens an answer is made of, found by tokenising whole prompts with whole answers.
//!
//! An identifier's token depends on what stands before it (`A` after `[` is not `A` after a space), so nothing is
//! tokenised alone: an answer that names every candidate is tokenised behind a prompt, and cut at the identifiers'
//! edges.

use model::Tokenizer;

use super::{AnswerForm, AnswerFormat, Identifiers, answer_text};
use crate::DataError;

/// Tokens of answers, the same for every prompt of a builder.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AnswerLayout {
    /// `[`; none when compact.
    pub(super) opening: Vec<i64>,
    /// Each identifier without brackets (compact: with its blank).
    pub(super) identifiers: Vec<Vec<i64>>,
    /// `] > [`; none when compact.
    pub(super) separator: Vec<i64>,
    /// `]`; none when compact.
    pub(super) closing: Vec<i64>,
    /// What ends the turn.
    pub(super) end: Vec<i64>,
}

/// A run of tokens and the text it stands for.
struct Piece {
    id: i64,
    start: usize,
    end: usize,
}

impl AnswerLayout {
    /// Finds the layout behind `prompt` (its text and tokens); `end` is appended as it is.
    pub(super) fn find(
        tokenizer: &Tokenizer,
        prompt: &str,
        prompt_ids: &[i64],
        add_special_tokens: bool,
        form: AnswerForm,
        end: Vec<i64>,
    ) -> Result<Self, DataError> {
        let order: Vec<u16> = (0..form.identifiers.limit() as u16).collect();
        let answer = format!("{}{}", form.lead(prompt), answer_text(form, &order));
        let ids = tokenizer.encode(&format!("{prompt}{answer}"), add_special_tokens)?;
        let ids = match ids.strip_prefix(prompt_ids) {
            Some(answer_ids) => without_end(answer_ids, tokenizer),
            None => return Err(prefix_mismatch("(any)", prompt_ids, &ids)),
        };
        let pieces = locate(tokenizer, ids, &answer)?;
        let spans = form.spans(&answer);
        let first = spans.first().map_or(answer.len(), |span| span.start);
        let mut layout = Self {
            opening: between(&pieces, 0, first, &form.identifiers.text(0), &answer)?,
            identifiers: Vec::new(),
            separator: Vec::new(),
            closing: Vec::new(),
            end,
        };
        for (index, span) in spans.iter().enumerate() {
            let name = form.identifiers.text(index);
            layout.identifiers.push(between(&pieces, span.start, span.end, &name, &answer)?);
            let next = spans.get(index + 1).map_or(answer.len(), |span| span.start);
            let gap = between(&pieces, span.end, next, &name, &answer)?;
            if index + 1 == spans.len() {
                layout.closing = gap;
            } else if index == 0 {
                layout.separator = gap;
            } else if layout.separator != gap {
                return Err(unusable(&name, &answer, "the separator after it has other tokens than the first"));
            }
        }
        layout.check_letters(form, &answer)?;
        Ok(layout)
    }

    /// Letters must be one token each.
    fn check_letters(&self, form: AnswerForm, answer: &str) -> Result<(), DataError> {
        let long: Vec<usize> =
            (0..self.identifiers.len()).filter(|&index| self.identifiers[index].len() != 1).collect();
        match (form.identifiers, form.format, long.as_slice()) {
            (Identifiers::Numeric, ..) | (.., []) => Ok(()),
            (_, AnswerFormat::Compact, long) => {
                let named = long.iter().map(|&index| format!("` {}`", form.identifiers.text(index)));
                Err(DataError::CompactIdentifiers { identifiers: named.collect::<Vec<_>>().join(", ") })
            }
            (_, AnswerFormat::Bracketed, &[index, ..]) => {
                let reason = format!("it is {} tokens, wanted 1", self.identifiers[index].len());
                Err(unusable(&form.identifiers.text(index), answer, &reason))
            }
        }
    }
}

/// Some tokenizers put an end token behind every text; it is no part of the answer.
fn without_end<'a>(ids: &'a [i64], tokenizer: &Tokenizer) -> &'a [i64] {
    match ids.split_last() {
        Some((last, rest)) if tokenizer.eos_token_ids().contains(last) => rest,
        _ => ids,
    }
}

/// Byte range of the answer each token covers, from the vocabulary's own spelling (`Ġ` and `▁` are blanks).
fn locate(tokenizer: &Tokenizer, ids: &[i64], answer: &str) -> Result<Vec<Piece>, DataError> {
    let mut pieces = Vec::new();
    let mut place = 0;
    for &id in ids {
        let spelling = tokenizer.id_to_token(id).unwrap_or_default().replace(['\u{120}', '\u{2581}'], " ");
        let found = match answer[place..].strip_prefix(spelling.as_str()) {
            Some(_) => spelling.len(),
            // sentencepiece marks the start of a text with a blank that is not in it
            None => match spelling.strip_prefix(' ') {
                Some(inner) if answer[place..].starts_with(inner) => inner.len(),
                _ => {
                    let rest: String = answer[place..].chars().take(8).collect();
                    return Err(unusable(&rest, answer, &format!("token {id} is `{spelling}`")));
                }
            },
        };
        pieces.push(Piece { id, start: place, end: place + found });
        place += found;
    }
    if place != answer.len() {
        return Err(unusable("", answer, &format!("its tokens end after {place} of {} bytes", answer.len())));
    }
    Ok(pieces)
}

/// Tokens of `start..end`, none of which may reach over an edge.
fn between(pieces: &[Piece], start: usize, end: usize, name: &str, answer: &str) -> Result<Vec<i64>, DataError> {
    let inside = pieces.iter().filter(|piece| piece.start < end && piece.end > start);
    let mut ids = Vec::new();
    for piece in inside {
        if piece.start < start || piece.end > end {
            let text = &answer[piece.start..piece.end];
            return Err(unusable(name, answer, &format!("one token covers `{text}`")));
        }
        ids.push(piece.id);
    }
    Ok(ids)
}

fn unusable(name: &str, answer: &str, reason: &str) -> DataError {
    let answer: String = answer.chars().take(24).collect();
    DataError::IdentifierTokens {
        identifier: name.to_owned(),
        answer: format!("{answer}..."),
        reason: reason.to_owned(),
    }
}

/// Error for tokens of prompt + answer that do not start with the prompt's.
pub(super) fn prefix_mismatch(query_id: &str, prompt_ids: &[i64], full: &[i64]) -> DataError {
    let position = prompt_ids.iter().zip(full).position(|(a, b)| a != b).unwrap_or(full.len().min(prompt_ids.len()));
    DataError::PrefixMismatch { query_id: query_id.to_owned(), prompt_tokens: prompt_ids.len(), position }
}
