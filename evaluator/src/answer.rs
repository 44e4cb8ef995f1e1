//! Several questions about one text, answered side by side in columns, or one after the other: the baselines.
//!
//! All ways answer the same token ids: a background and questions behind it, greedily or by sampling, to an end token or a limit.

mod bench;
mod columnar;
mod config;
mod evaluate;
mod memory;
mod one_by_one;
mod result;
mod runs;
mod shared_prefix;
#[cfg(test)]
mod tests;

use std::time::Instant;

use data::random::Stream;
use model::CausalLm;
use tch::Tensor;

pub use bench::{AnswerBench, AnswerTiming, answer_bench};
pub use columnar::{ColumnarSession, answer_columns};
pub use config::{AnswerBaseline, AnswerConfig, AnswerDecoder, AnswerNormalisation, AnswerSystem};
pub use evaluate::{
    AnswerJob, AnswerLine, AnswerProgress, DecodedAnswers, answer_share, answer_with, evaluate_answers, merge_answers,
    score,
};
pub use memory::measure_answer_memory;
pub use one_by_one::answer_one_by_one;
pub use result::{AnswerEvaluation, AnswerRow, TextScores, answers_table};
pub use runs::{AnsweredRun, answered_runs_table, best_answered_pairs};
pub use shared_prefix::answer_shared_prefix;

use crate::EvaluatorError;
use crate::decode::check_context;
use crate::sampling::Sampling;

/// A text and questions about it, as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerPrompt {
    /// Names it in messages.
    pub id: String,
    /// The text.
    pub background: Vec<i64>,
    /// Each from its first token to the one after which the answer is read.
    pub questions: Vec<Vec<i64>>,
}

/// When an answer ends, and how its tokens are chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerOptions {
    /// Tokens of an answer at most.
    pub max_new_tokens: usize,
    /// Tokens that end an answer.
    pub end_tokens: Vec<i64>,
    /// Choice of tokens.
    pub sampling: Sampling,
}

/// Answers to a prompt's questions and what they cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// Token ids of each answer, the end token included.
    pub answers: Vec<Vec<i64>>,
    /// Passes of the model.
    pub forward_passes: u32,
    /// Tokens that went through the model.
    pub tokens_computed: u64,
    /// Wall clock.
    pub seconds: f64,
}

/// Told of every token: prompt, question, token.
pub type OnToken<'a> = &'a mut dyn FnMut(usize, usize, i64);

impl AnswerPrompt {
    /// Tokens of the text and the questions.
    fn len(&self) -> usize {
        self.background.len() + self.questions.iter().map(Vec::len).sum::<usize>()
    }
}

/// Answers in the making.
struct Writing<'o> {
    options: &'o AnswerOptions,
    id: String,
    /// Of each question: what was read before and the answer, for the repetition penalty.
    seen: Vec<Vec<i64>>,
    answers: Vec<Vec<i64>>,
    ended: Vec<bool>,
    streams: Vec<Stream>,
}

impl<'o> Writing<'o> {
    fn new(prompt: &AnswerPrompt, options: &'o AnswerOptions) -> Self {
        let count = prompt.questions.len();
        Self {
            options,
            id: prompt.id.clone(),
            seen: prompt.questions.iter().map(|question| [prompt.background.as_slice(), question].concat()).collect(),
            answers: vec![Vec::new(); count],
            ended: vec![options.max_new_tokens == 0; count],
            streams: (0..count).map(|question| options.sampling.stream_of_question(&prompt.id, question)).collect(),
        }
    }

    /// Questions whose answer goes on, in order.
    fn open(&self) -> Vec<usize> {
        (0..self.ended.len()).filter(|question| !self.ended[*question]).collect()
    }

    /// Questions whose answer got a token of this number, from 0, and none after it.
    fn with_token(&self, number: usize) -> Vec<usize> {
        (0..self.answers.len()).filter(|question| self.answers[*question].len() == number + 1).collect()
    }

    /// Adds the next token of the `open` questions from their states `[open, hidden]`.
    fn add(
        &mut self,
        model: &CausalLm,
        open: &[usize],
        states: &Tensor,
        mut on_token: impl FnMut(usize, i64),
    ) -> Result<(), EvaluatorError> {
        let logits = tch::no_grad(|| model.logits(states, None)); // [open, vocab]
        let seen: Vec<&[i64]> = open.iter().map(|question| self.seen[*question].as_slice()).collect();
        let wanted = self.streams.iter_mut().enumerate().filter(|(question, _)| open.contains(question));
        let mut streams: Vec<&mut Stream> = wanted.map(|(_, stream)| stream).collect();
        let tokens = self.options.sampling.choose(&logits, &seen, &mut streams, &self.id)?;
        for (question, token) in open.iter().zip(tokens) {
            self.answers[*question].push(token);
            self.seen[*question].push(token);
            let long = self.answers[*question].len() >= self.options.max_new_tokens;
            self.ended[*question] = long || self.options.end_tokens.contains(&token);
            on_token(*question, token);
        }
        Ok(())
    }

    /// Last token of an answer.
    fn last(&self, question: usize) -> i64 {
        *self.answers[question].last().expect("a token was added")
    }

    fn finish(self, cost: Cost) -> Answers {
        Answers {
            answers: self.answers,
            forward_passes: cost.passes,
            tokens_computed: cost.tokens,
            seconds: cost.started.elapsed().as_secs_f64(),
        }
    }
}

/// What a way of answering has cost so far.
struct Cost {
    started: Instant,
    passes: u32,
    tokens: u64,
}

impl Cost {
    fn begin() -> Self {
        Self { started: Instant::now(), passes: 0, tokens: 0 }
    }

    fn pass(&mut self, tokens: usize) {
        self.passes += 1;
        self.tokens += tokens as u64;
    }
}

/// Checks what all ways need; `longest` is the number of positions a text will take.
fn check(
    model: &CausalLm,
    prompt: &AnswerPrompt,
    options: &AnswerOptions,
    longest: usize,
) -> Result<(), EvaluatorError> {
    let problems = options.sampling.validate();
    if !problems.is_empty() {
        return Err(EvaluatorError::Config { problems });
    }
    let bad = |reason| EvaluatorError::BadPrompt { query_id: prompt.id.clone(), reason };
    if prompt.questions.is_empty() {
        return Err(bad("no questions"));
    }
    if prompt.questions.iter().any(Vec::is_empty) {
        return Err(bad("a question without tokens"));
    }
    check_context(model, &prompt.id, longest)
}
