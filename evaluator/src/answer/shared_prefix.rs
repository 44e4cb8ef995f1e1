//! All questions as a batch of ordinary texts that share the background: the strongest baseline of columnar decoding.

use model::{AttentionPattern, CausalLm};
use tch::{Tensor, no_grad};

use super::{AnswerOptions, AnswerPrompt, Answers, Cost, OnToken, Writing, check};
use crate::EvaluatorError;
use crate::decode::Continuation;

/// Answers the questions of a text as rows of a batch: the background is read once and copied to every row, then all questions, then the
/// next token of all answers in each pass. Answers that ended leave the batch.
///
/// # Errors
/// As [`super::answer_columns`].
pub fn answer_shared_prefix(
    model: &CausalLm,
    prompt: &AnswerPrompt,
    options: &AnswerOptions,
    on_token: OnToken<'_>,
) -> Result<Answers, EvaluatorError> {
    let longest = prompt.questions.iter().map(Vec::len).max().unwrap_or(0);
    let room = prompt.background.len() + longest + options.max_new_tokens;
    check(model, prompt, options, room)?;
    let mut cost = Cost::begin();
    let mut writing = Writing::new(prompt, options);
    let mut open = writing.open();
    if open.is_empty() {
        return Ok(writing.finish(cost));
    }
    let mut text = Continuation::new(model, room);
    if !prompt.background.is_empty() {
        let _ = text.feed(&prompt.background);
        cost.pass(prompt.background.len());
    }
    let mut cache = text.cache.repeat_first_row(open.len() as i64);
    let lengths: Vec<i64> = prompt.questions.iter().map(|question| question.len() as i64).collect();
    cost.pass(lengths.iter().sum::<i64>() as usize);
    let padded = |question: &Vec<i64>| {
        let mut ids = question.clone();
        ids.resize(longest, 0);
        ids
    };
    let ids: Vec<i64> = prompt.questions.iter().flat_map(padded).collect();
    let mut states = no_grad(|| {
        let input = Tensor::from_slice(&ids).view([-1, longest as i64]).to_device(model.device()); // [questions, longest]
        let pattern = AttentionPattern::Padded { lengths: lengths.clone() };
        let hidden = model.forward(&input, &pattern, Some(&mut cache)); // [questions, longest, hidden]
        let last: Vec<i64> = lengths.iter().enumerate().map(|(row, len)| (row * longest) as i64 + len - 1).collect();
        hidden.flatten(0, 1).index_select(0, &Tensor::from_slice(&last).to_device(hidden.device()))
    });
    loop {
        writing.add(model, &open, &states, |question, token| on_token(0, question, token))?;
        let still: Vec<usize> = (0..open.len()).filter(|row| !writing.ended[open[*row]]).collect();
        if still.is_empty() {
            return Ok(writing.finish(cost));
        }
        if still.len() < open.len() {
            cache.select_rows(&still);
            open = still.iter().map(|row| open[*row]).collect();
        }
        let newest: Vec<i64> = open.iter().map(|question| writing.last(*question)).collect();
        cost.pass(newest.len());
        states = no_grad(|| {
            let input = Tensor::from_slice(&newest).view([-1, 1]).to_device(model.device());
            model.forward(&input, &AttentionPattern::Causal, Some(&mut cache)).select(1, 0) // [open, hidden]
        });
    }
}
