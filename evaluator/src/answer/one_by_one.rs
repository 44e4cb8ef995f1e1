//! One question after the other, as an ordinary model answers.

use model::CausalLm;

use super::{AnswerOptions, AnswerPrompt, Answers, Cost, OnToken, Writing, check};
use crate::EvaluatorError;
use crate::decode::Continuation;

/// Answers the questions of a text one after the other; each is read behind the background alone. With `reuse_background` the
/// background is read once and its keys and values are kept; else it is read anew for every question.
///
/// # Errors
/// As [`super::answer_columns`].
pub fn answer_one_by_one(
    model: &CausalLm,
    prompt: &AnswerPrompt,
    options: &AnswerOptions,
    reuse_background: bool,
    on_token: OnToken<'_>,
) -> Result<Answers, EvaluatorError> {
    let longest = prompt.questions.iter().map(Vec::len).max().unwrap_or(0);
    let room = prompt.background.len() + longest + options.max_new_tokens;
    check(model, prompt, options, room)?;
    let mut cost = Cost::begin();
    let mut writing = Writing::new(prompt, options);
    let mut text = Continuation::new(model, room);
    if reuse_background && !prompt.background.is_empty() {
        let _ = text.feed(&prompt.background);
    }
    for (number, question) in prompt.questions.iter().enumerate() {
        let held = if reuse_background { prompt.background.len() } else { 0 };
        text.cache.truncate(held as i64);
        let mut pending = [&prompt.background[held..], question].concat();
        while !writing.ended[number] {
            let state = text.feed(&pending);
            writing.add(model, &[number], &state, |_, token| on_token(0, number, token))?;
            pending = vec![writing.last(number)];
        }
    }
    (cost.passes, cost.tokens) = (text.passes, text.tokens);
    Ok(writing.finish(cost))
}
