//! The honest autoregressive baseline: no pass is spent on what can be known without one.
//!
//! Each place is chosen among the identifiers not used yet. Whatever leaves only one way to go on (separators, the last
//! identifier, the second digit of the only number left that starts so) is appended without a pass and read together
//! with the next token that has to be decided.

use data::prompt::RankingPrompt;
use model::CausalLm;
use tch::Tensor;

use super::continuation::{ColumnLogits, Continuation, OutputColumns};
use super::{Decoded, Decoder, LastPrompt, RepairCounts, check_context, check_prompt, prompt_with_opening};
use crate::EvaluatorError;

/// Constrained greedy decoding. Equal logits go to the candidate that stands first in the input.
#[derive(Debug, Clone, Copy, Default)]
pub struct AutoregressiveForced;

impl Decoder for AutoregressiveForced {
    fn name(&self) -> &'static str {
        "autoregressive_forced"
    }

    fn decode(&self, model: &CausalLm, prompt: &RankingPrompt) -> Result<Decoded, EvaluatorError> {
        self.decode_behind(model, prompt, &LastPrompt::unshared())
    }

    fn decode_behind(
        &self,
        model: &CausalLm,
        prompt: &RankingPrompt,
        last: &LastPrompt,
    ) -> Result<Decoded, EvaluatorError> {
        check_forced(prompt)?;
        let pending = prompt_with_opening(prompt);
        let answer = answer_tokens(prompt);
        check_context(model, &prompt.query_id, pending.len() + answer)?;
        let (mut text, _) = last.read(model, &pending, pending.len() + answer);
        let (order, new_tokens) = write_ranking(&mut text, prompt, Vec::new(), &mut |_| ())?;
        Ok(Decoded {
            order,
            scores: None,
            forward_passes: text.passes,
            new_tokens: new_tokens as u32,
            tokens_computed: text.tokens,
            seconds: text.seconds(),
            repair: RepairCounts::default(),
            text: None,
            accepted_per_pass: None,
            seconds_after_model: None,
        })
    }
}

/// Tokens of identifiers and separators, a separator after the last one included.
pub(crate) fn answer_tokens(prompt: &RankingPrompt) -> usize {
    prompt.identifiers.iter().map(|identifier| identifier.len() + prompt.separator.len()).sum()
}

/// Checks what constrained decoding needs of a prompt.
pub(crate) fn check_forced(prompt: &RankingPrompt) -> Result<(), EvaluatorError> {
    check_prompt(prompt)?;
    check_separator(prompt)
}

/// Writes the ranking, after `text` and the `pending` tokens that it has not read yet (the opening at least, unless it was
/// read). `on_state` is given the state that each place but the last is chosen from, `[1, hidden]`. Returns the order and the tokens of
/// the answer, the opening among them.
pub(crate) fn write_ranking(
    text: &mut Continuation,
    prompt: &RankingPrompt,
    mut pending: Vec<i64>,
    on_state: &mut dyn FnMut(&Tensor),
) -> Result<(Vec<u16>, usize), EvaluatorError> {
    let n = prompt.identifiers.len();
    let tokens = prompt.identifiers.iter().flatten().chain(prompt.separator.first()).copied();
    let columns = OutputColumns::select(text.model, tokens);
    let mut unused: Vec<u16> = (0..n as u16).collect();
    let mut order = Vec::with_capacity(n);
    let mut new_tokens = prompt.opening.len();
    while !unused.is_empty() {
        let place = Place { prompt, columns: &columns, candidates: unused.clone() };
        let (chosen, ids) = place.choose(text, &mut pending, on_state)?;
        new_tokens += ids;
        unused.retain(|candidate| *candidate != chosen);
        order.push(chosen);
        if !unused.is_empty() {
            pending.extend(&prompt.separator);
            new_tokens += prompt.separator.len();
        }
    }
    Ok((order, new_tokens))
}

/// An identifier that is the start of another must not be followed by a separator that looks like the other's rest.
fn check_separator(prompt: &RankingPrompt) -> Result<(), EvaluatorError> {
    let bad = |reason| Err(EvaluatorError::BadPrompt { query_id: prompt.query_id.clone(), reason });
    for short in &prompt.identifiers {
        let mut rest = prompt.identifiers.iter().filter_map(|long| long.strip_prefix(short.as_slice()));
        match prompt.separator.first() {
            Some(separator) if rest.any(|rest| rest.first() == Some(separator)) => {
                return bad("an identifier goes on with the separator's first token");
            }
            None if rest.any(|rest| !rest.is_empty()) => {
                return bad("no separator, and an identifier is the start of another");
            }
            _ => {}
        }
    }
    Ok(())
}

/// One place of the ranking.
struct Place<'a> {
    prompt: &'a RankingPrompt,
    columns: &'a OutputColumns,
    /// Candidates that what was written at this place so far can still become, in input order.
    candidates: Vec<u16>,
}

impl Place<'_> {
    /// Chooses a candidate token by token; its identifier's tokens are left in `pending`. Returns it and their number.
    fn choose(
        mut self,
        text: &mut Continuation,
        pending: &mut Vec<i64>,
        on_state: &mut dyn FnMut(&Tensor),
    ) -> Result<(u16, usize), EvaluatorError> {
        let mut depth = 0;
        while self.candidates.len() > 1 {
            if !self.all_agree(depth) {
                let hidden = text.feed(pending);
                pending.clear();
                if depth == 0 {
                    on_state(&hidden);
                }
                let logits = self.columns.logits(&hidden, &self.prompt.query_id)?;
                let best = self.best_token(depth, &logits);
                self.candidates.retain(|candidate| next_token(self.prompt, *candidate, depth) == Some(best));
            }
            match self.prompt.identifiers[usize::from(self.candidates[0])].get(depth) {
                Some(token) => pending.push(*token),
                // the separator won: one candidate is left, whose identifier is complete
                None => break,
            }
            depth += 1;
        }
        let chosen = self.candidates[0];
        let rest = &self.prompt.identifiers[usize::from(chosen)][depth..];
        pending.extend(rest);
        Ok((chosen, depth + rest.len()))
    }

    /// True when there is one way to go on only.
    fn all_agree(&self, depth: usize) -> bool {
        let first = next_token(self.prompt, self.candidates[0], depth);
        self.candidates.iter().all(|candidate| next_token(self.prompt, *candidate, depth) == first)
    }

    /// Best next token; the first candidate's among equals.
    fn best_token(&self, depth: usize, logits: &ColumnLogits) -> i64 {
        let options = self.candidates.iter().filter_map(|candidate| next_token(self.prompt, *candidate, depth));
        let better =
            |best: (i64, f32), token: i64| if logits.of(token) > best.1 { (token, logits.of(token)) } else { best };
        options.fold((0, f32::NEG_INFINITY), better).0
    }
}

/// Token at `depth` of a candidate's identifier, the separator's first when the identifier ends there.
fn next_token(prompt: &RankingPrompt, candidate: u16, depth: usize) -> Option<i64> {
    prompt.identifiers[usize::from(candidate)].get(depth).or(prompt.separator.first()).copied()
}
