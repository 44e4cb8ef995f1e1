//! All questions as ordinary texts that share the background: the strongest baseline of columnar decoding.

use model::{AttentionPattern, CausalLm, KvCache};
use tch::{Tensor, no_grad};

use super::{AnswerOptions, AnswerPrompt, Answers, Cost, OnToken, Writing, check};
use crate::EvaluatorError;

/// Answers the questions of a text as its continuations: one pass reads the background and all questions, every further one the newest token of
/// all answers. Each token sees the background and its own continuation, as in a text of its own; nothing is held twice, and nothing padded.
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
    check(model, prompt, options, prompt.background.len() + longest + options.max_new_tokens)?;
    let cost = Cost::begin();
    let mut writing = Writing::new(prompt, options);
    let mut open = writing.open();
    if open.is_empty() {
        return Ok(writing.finish(cost));
    }
    let room = prompt.len() + prompt.questions.len() * options.max_new_tokens;
    let mut beside = Continuations {
        model,
        text: prompt.background.len(),
        owners: Vec::new(),
        cache: model.new_cache(1, room as i64),
        cost,
    };
    let mut states = beside.read_prompt(prompt, &open);
    loop {
        writing.add(model, &open, &states, |question, token| on_token(0, question, token))?;
        open.retain(|question| !writing.ended[*question]);
        if open.is_empty() {
            return Ok(writing.finish(beside.cost));
        }
        let newest: Vec<i64> = open.iter().map(|question| writing.last(*question)).collect();
        let wanted: Vec<i64> = (0..newest.len() as i64).collect();
        states = beside.read(&newest, open.iter().map(|question| *question as u32), &wanted);
    }
}

/// A text and what stands behind it.
struct Continuations<'m> {
    model: &'m CausalLm,
    /// Tokens of the text.
    text: usize,
    /// Question of every token behind the text.
    owners: Vec<u32>,
    cache: KvCache,
    cost: Cost,
}

impl Continuations<'_> {
    /// The pass over text and questions; states of the last tokens of `open` questions, `[open, hidden]`.
    fn read_prompt(&mut self, prompt: &AnswerPrompt, open: &[usize]) -> Tensor {
        let ids: Vec<i64> = prompt.background.iter().chain(prompt.questions.iter().flatten()).copied().collect();
        let mut end = prompt.background.len();
        let ends: Vec<i64> = prompt
            .questions
            .iter()
            .map(|question| {
                end += question.len();
                end as i64 - 1
            })
            .collect();
        let owners = prompt.questions.iter().enumerate();
        let owners: Vec<u32> = owners.flat_map(|(number, ids)| std::iter::repeat_n(number as u32, ids.len())).collect();
        let wanted: Vec<i64> = open.iter().map(|question| ends[*question]).collect();
        self.read(&ids, owners.into_iter(), &wanted)
    }

    /// A pass over new tokens, the text's too where it was not read before; states of those at `wanted`, `[wanted, hidden]`.
    fn read(&mut self, ids: &[i64], owners: impl Iterator<Item = u32>, wanted: &[i64]) -> Tensor {
        self.owners.extend(owners);
        self.cost.pass(ids.len());
        let pattern = AttentionPattern::Continuations { text: self.text as i64, owners: self.owners.clone() };
        no_grad(|| {
            let input = Tensor::from_slice(ids).unsqueeze(0).to_device(self.model.device()); // [1, new]
            self.model.forward_rows(&input, &pattern, Some(&mut self.cache), wanted).squeeze_dim(0)
        })
    }
}
