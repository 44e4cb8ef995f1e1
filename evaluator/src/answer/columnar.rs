//! All questions of a text in columns: one pass for the next token of every answer.
//!
//! Prompts are right-aligned, so that all answers start in the same column. The first tokens are chosen from the pass that reads the
//! prompts; every further pass reads each new token once, in its own column and at its own place in the linear order, as in training.

use model::{
    AttentionPattern, BranchAlignment, BranchLength, CausalLm, ColumnLayout, ColumnTokens, ColumnarPositions, KvCache,
};
use tch::{Tensor, no_grad};

use super::{AnswerOptions, AnswerPrompt, Answers, Cost, OnToken, Writing, check};
use crate::EvaluatorError;

/// Answers the questions of several texts, all of them side by side: a row of the batch each. Tokens are shared evenly, passes and seconds
/// are those of all together.
///
/// # Errors
/// Bad options, no questions, a text longer than the context, logits that are not finite.
pub fn answer_columns(
    model: &CausalLm,
    prompts: &[AnswerPrompt],
    options: &AnswerOptions,
    on_token: OnToken<'_>,
) -> Result<Vec<Answers>, EvaluatorError> {
    if prompts.is_empty() {
        return Ok(Vec::new());
    }
    let longest = prompts.iter().map(|prompt| room(prompt, options)).max().unwrap_or(0);
    let cost = Cost::begin();
    let cache = model.new_cache(prompts.len() as i64, longest as i64);
    Columns::begin(model, cache, prompts, options, false, cost)?.run(on_token).map(|(answers, _)| answers)
}

/// A text that was read once and is asked again and again.
pub struct ColumnarSession<'m> {
    model: &'m CausalLm,
    background: Vec<i64>,
    cache: Option<KvCache>,
}

impl<'m> ColumnarSession<'m> {
    /// Reads the background.
    ///
    /// # Errors
    /// A background longer than the context.
    pub fn new(model: &'m CausalLm, background: Vec<i64>) -> Result<Self, EvaluatorError> {
        crate::decode::check_context(model, "background", background.len() + 1)?;
        let mut cache = model.new_cache(1, background.len() as i64 + 64);
        if !background.is_empty() {
            let layout = ColumnLayout::new(background.len(), &[], BranchAlignment::Prompts);
            let pattern = AttentionPattern::Columnar { layouts: vec![layout.tokens(0..layout.len())] };
            let input = Tensor::from_slice(&background).unsqueeze(0).to_device(model.device());
            let last = [background.len() as i64 - 1];
            let _ = model.forward_rows(&input, &pattern, Some(&mut cache), &last);
        }
        Ok(Self { model, background, cache: Some(cache) })
    }

    /// Answers questions about the background, which is not read again.
    ///
    /// # Errors
    /// As [`answer_columns`].
    ///
    /// # Panics
    /// After an error: the session is spent.
    pub fn ask(
        &mut self,
        questions: Vec<Vec<i64>>,
        options: &AnswerOptions,
        on_token: &mut dyn FnMut(usize, i64),
    ) -> Result<Answers, EvaluatorError> {
        let prompt = AnswerPrompt { id: "questions".into(), background: self.background.clone(), questions };
        let cache = self.cache.take().expect("the session goes on");
        let prompts = [prompt];
        let columns = Columns::begin(self.model, cache, &prompts, options, true, Cost::begin())?;
        let (mut answers, mut cache) = columns.run(&mut |_, question, token| on_token(question, token))?;
        cache.truncate(self.background.len() as i64);
        self.cache = Some(cache);
        Ok(answers.remove(0))
    }
}

/// Positions that a text and its answers may take.
fn room(prompt: &AnswerPrompt, options: &AnswerOptions) -> usize {
    prompt.len() + prompt.questions.len() * options.max_new_tokens
}

/// The position behind the farthest one of a text and its answers: branches that stand apart reach farther than there are tokens.
fn reach(model: &CausalLm, prompt: &AnswerPrompt, options: &AnswerOptions) -> usize {
    let tokens = room(prompt, options);
    match &model.config.columnar_rope {
        Some(rope) if rope.positions == ColumnarPositions::BranchOffset => {
            let longest = prompt.questions.iter().map(Vec::len).max().unwrap_or(0);
            let apart = rope.branch_stride * prompt.questions.len().saturating_sub(1) as f64;
            tokens.max(prompt.background.len() + longest + options.max_new_tokens + apart as usize)
        }
        _ => tokens,
    }
}

/// A batch of texts on the way.
struct Columns<'a> {
    model: &'a CausalLm,
    cache: KvCache,
    prompts: &'a [AnswerPrompt],
    layouts: Vec<ColumnLayout>,
    /// Tokens of the background that the cache holds already.
    held: usize,
    writing: Vec<Writing<'a>>,
    /// Text of each row of the cache.
    rows: Vec<usize>,
    cost: Cost,
}

impl<'a> Columns<'a> {
    fn begin(
        model: &'a CausalLm,
        cache: KvCache,
        prompts: &'a [AnswerPrompt],
        options: &'a AnswerOptions,
        background_held: bool,
        cost: Cost,
    ) -> Result<Self, EvaluatorError> {
        for prompt in prompts {
            check(model, prompt, options, reach(model, prompt, options))?;
        }
        let layout = |prompt: &AnswerPrompt| {
            let branches: Vec<BranchLength> =
                prompt.questions.iter().map(|question| BranchLength { prompt: question.len(), answer: 0 }).collect();
            ColumnLayout::new(prompt.background.len(), &branches, BranchAlignment::Prompts)
        };
        Ok(Self {
            model,
            cache,
            prompts,
            layouts: prompts.iter().map(layout).collect(),
            held: if background_held { prompts[0].background.len() } else { 0 },
            writing: prompts.iter().map(|prompt| Writing::new(prompt, options)).collect(),
            rows: (0..prompts.len()).collect(),
            cost,
        })
    }

    fn run(mut self, on_token: OnToken<'_>) -> Result<(Vec<Answers>, KvCache), EvaluatorError> {
        let mut states = self.read_prompts();
        let mut column = 0;
        while let Some(rows) = states {
            for (text, open, states) in rows {
                let tell = |question, token| on_token(text, question, token);
                self.writing[text].add(self.model, &open, &states, tell)?;
            }
            states = self.read_column(column);
            column += 1;
        }
        let count = self.prompts.len();
        let Cost { started, passes, tokens } = self.cost;
        let share = |writing: Writing| writing.finish(Cost { started, passes, tokens: tokens / count as u64 });
        Ok((self.writing.into_iter().map(share).collect(), self.cache))
    }

    /// The pass over backgrounds and questions; the states that first tokens are chosen from, or nothing when no answer is wanted.
    fn read_prompts(&mut self) -> Option<Vec<States>> {
        let new = |text: usize| {
            let (layout, prompt) = (&self.layouts[text], &self.prompts[text]);
            let id = |branch: u32, index: u32| match branch {
                0 => prompt.background[index as usize],
                _ => prompt.questions[branch as usize - 1][index as usize],
            };
            let ids: Vec<i64> =
                layout.places()[self.held..].iter().map(|place| id(place.branch, place.index)).collect();
            (ids, layout.tokens(self.held..layout.len()))
        };
        let rows: Vec<(Vec<i64>, ColumnTokens)> = (0..self.prompts.len()).map(new).collect();
        // All questions end in the same column: their last tokens are the last ones in linear order.
        let open = |text: usize| self.writing[text].open();
        let last: Vec<Vec<usize>> = (0..rows.len())
            .map(|text| {
                let first = rows[text].0.len() - self.prompts[text].questions.len();
                open(text).into_iter().map(|question| first + question).collect()
            })
            .collect();
        if last.iter().all(Vec::is_empty) {
            return None;
        }
        Some(self.pass(rows, &last))
    }

    /// The pass over the newest token of every answer. One that has just ended is read too, as in training: the others' next tokens see it.
    fn read_column(&mut self, column: usize) -> Option<Vec<States>> {
        let kept: Vec<usize> =
            (0..self.rows.len()).filter(|row| !self.writing[self.rows[*row]].open().is_empty()).collect();
        if kept.is_empty() {
            return None;
        }
        if kept.len() < self.rows.len() {
            self.cache.select_rows(&kept);
            self.rows = kept.iter().map(|row| self.rows[*row]).collect();
        }
        let written = |text: &usize| self.writing[*text].with_token(column);
        let new = |text: &usize| {
            let (writing, written) = (&self.writing[*text], written(text));
            let column = (self.layouts[*text].answer_column() + column) as u32;
            let tokens = ColumnTokens {
                branches: written.iter().map(|question| *question as u32 + 1).collect(),
                columns: vec![column; written.len()],
            };
            (written.iter().map(|question| writing.last(*question)).collect(), tokens)
        };
        let rows: Vec<(Vec<i64>, ColumnTokens)> = self.rows.iter().map(new).collect();
        let open = |text: &usize| {
            let written = written(text).into_iter().enumerate();
            written.filter(|(_, question)| !self.writing[*text].ended[*question]).map(|(place, _)| place).collect()
        };
        let open: Vec<Vec<usize>> = self.rows.iter().map(open).collect();
        Some(self.pass(rows, &open))
    }

    /// Reads a row of new tokens for each text; the states of `wanted` tokens, with the questions that are open.
    fn pass(&mut self, rows: Vec<(Vec<i64>, ColumnTokens)>, wanted: &[Vec<usize>]) -> Vec<States> {
        let longest = rows.iter().map(|(ids, _)| ids.len()).max().unwrap_or(0);
        self.cost.pass(rows.iter().map(|(ids, _)| ids.len()).sum());
        let mut flat = Vec::with_capacity(rows.len() * longest);
        let mut layouts = Vec::with_capacity(rows.len());
        for (mut ids, tokens) in rows {
            ids.resize(longest, 0);
            flat.extend(ids);
            layouts.push(tokens);
        }
        let picked: Vec<i64> = wanted
            .iter()
            .enumerate()
            .flat_map(|(row, places)| places.iter().map(move |p| (row * longest + p) as i64))
            .collect();
        let pattern = AttentionPattern::Columnar { layouts };
        let states = no_grad(|| {
            let input = Tensor::from_slice(&flat).view([-1, longest as i64]).to_device(self.model.device());
            let cache = Some(&mut self.cache);
            match wanted {
                // one row: the last layer may leave out what is not read
                [places] => {
                    let places: Vec<i64> = places.iter().map(|place| *place as i64).collect();
                    self.model.forward_rows(&input, &pattern, cache, &places).squeeze_dim(0)
                }
                _ => {
                    let hidden = self.model.forward(&input, &pattern, cache); // [texts, longest, hidden]
                    hidden.flatten(0, 1).index_select(0, &Tensor::from_slice(&picked).to_device(hidden.device()))
                }
            }
        });
        let mut first = 0;
        let of_row = |(row, places): (usize, &Vec<usize>)| {
            let text = self.rows[row];
            let own = states.narrow(0, first, places.len() as i64);
            first += places.len() as i64;
            (text, self.writing[text].open(), own)
        };
        wanted.iter().enumerate().map(of_row).filter(|(_, open, _)| !open.is_empty()).collect()
    }
}

/// A text, its open questions, and the state of each, `[open, hidden]`.
type States = (usize, Vec<usize>, Tensor);
