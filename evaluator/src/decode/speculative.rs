//! Speculative decoding (Leviathan et al. 2023, arXiv:2211.17192) at temperature 0: something cheap proposes the next items,
//! the model reads them in one pass and keeps those it would have chosen itself.

use std::rc::Rc;

use data::prompt::RankingPrompt;
use model::CausalLm;

use super::continuation::{Continuation, OutputColumns};
use super::drafted_list::{DraftMethod, DraftedList, best_of, ranked};
use super::{Decoded, Decoder, LastPrompt, check_context, prompt_with_opening};
use crate::EvaluatorError;

/// What proposes items.
#[derive(Debug, Clone)]
pub enum Drafter {
    /// The first token's ranking of the items left: costs nothing.
    SelfDraft,
    /// A smaller model with the same tokenizer, greedily and with a cache of its own. Its passes and tokens are not counted,
    /// its time is.
    Model(Rc<CausalLm>),
}

/// Keeps drafted items while the model's best item agrees, and takes the model's own at the first that does not, or behind
/// them all. Nothing is drawn at random.
#[derive(Debug, Clone)]
pub struct Speculative {
    drafter: Drafter,
    num_draft: usize,
    n_step: Option<u32>,
}

impl Speculative {
    /// Items proposed for a pass where nothing else is said.
    pub const NUM_DRAFT: usize = 5;

    /// `num_draft` items a pass (0 decodes without drafts); at most `n_step` passes of the model, the prompt's included (0 counts
    /// as 1); `None`: until the list is the autoregressive one.
    #[must_use]
    pub fn new(drafter: Drafter, num_draft: usize, n_step: Option<u32>) -> Self {
        Self { drafter, num_draft, n_step }
    }
}

impl Decoder for Speculative {
    fn name(&self) -> &'static str {
        match self.drafter {
            Drafter::SelfDraft => "speculative",
            Drafter::Model(_) => "speculative_draft_model",
        }
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
        let list = DraftedList::start(model, prompt, 0, last)?;
        match &self.drafter {
            Drafter::SelfDraft => list.finish(self.n_step, &mut SelfDrafting { num_draft: self.num_draft }),
            Drafter::Model(draft) => {
                let mut drafting = ModelDrafting::new(draft, prompt, self.num_draft)?;
                list.finish(self.n_step, &mut drafting)
            }
        }
    }
}

struct SelfDrafting {
    num_draft: usize,
}

impl DraftMethod for SelfDrafting {
    fn advance(&mut self, list: &mut DraftedList<'_>) -> Result<(), EvaluatorError> {
        let mut draft = ranked(list.first_row(), list.undecided().collect());
        draft.truncate(self.num_draft);
        list.verify(&draft, 1)?;
        Ok(())
    }
}

/// A draft model and what it has read.
struct ModelDrafting<'a> {
    prompt: &'a RankingPrompt,
    num_draft: usize,
    text: Continuation<'a>,
    columns: OutputColumns,
    /// Items in its cache.
    written: Vec<u16>,
}

impl<'a> ModelDrafting<'a> {
    fn new(draft: &'a CausalLm, prompt: &'a RankingPrompt, num_draft: usize) -> Result<Self, EvaluatorError> {
        let vocab_size = draft.config.vocab_size;
        let answer = [&prompt.input_ids, &prompt.opening, &prompt.separator];
        let tokens = answer.into_iter().chain(&prompt.identifiers).flatten().copied();
        if let Some(token) = tokens.max().filter(|token| *token >= vocab_size) {
            return Err(EvaluatorError::DraftVocabulary { query_id: prompt.query_id.clone(), token, vocab_size });
        }
        let capacity = prompt.input_ids.len() + prompt.opening.len() + prompt.num_candidates() * item_tokens(prompt);
        check_context(draft, &prompt.query_id, capacity)?;
        let text = Continuation::new(draft, capacity);
        let columns = OutputColumns::select(draft, prompt.identifiers.iter().flatten().copied());
        Ok(Self { prompt, num_draft, text, columns, written: Vec::new() })
    }

    /// Its greedy continuation of the decided items.
    fn draft(&mut self, list: &DraftedList<'_>, count: usize) -> Result<Vec<u16>, EvaluatorError> {
        let mut drafted = Vec::with_capacity(count);
        let mut pending = self.catch_up(list);
        while drafted.len() < count {
            let hidden = self.text.feed(&pending);
            let logits = self.columns.logits(&hidden, &self.prompt.query_id)?;
            let row: Vec<f32> = self.prompt.identifiers.iter().map(|tokens| logits.of(tokens[0])).collect();
            let left = list.undecided().filter(|candidate| !drafted.contains(candidate));
            let Some(best) = best_of(&row, left) else { break };
            drafted.push(best);
            pending = list.tokens_of(&[best]);
        }
        // the last one was not read
        let read = drafted.len().saturating_sub(1);
        self.written = [list.decided(), &drafted[..read]].concat();
        Ok(drafted)
    }

    /// Forgets drafts that were refused; what is to be read before the next item.
    fn catch_up(&mut self, list: &DraftedList<'_>) -> Vec<i64> {
        let decided = list.decided();
        let mut pending = Vec::new();
        // at least one item is read anew: its last state is what the next item is chosen from
        let same = self.written.iter().zip(&decided[..decided.len() - 1]).take_while(|(a, b)| a == b).count();
        if self.text.passes == 0 {
            pending = prompt_with_opening(self.prompt);
        } else {
            let prompt = self.prompt.input_ids.len() + self.prompt.opening.len();
            self.text.cache.truncate((prompt + same * item_tokens(self.prompt)) as i64);
        }
        pending.extend(list.tokens_of(&decided[same..]));
        pending
    }
}

impl DraftMethod for ModelDrafting<'_> {
    fn advance(&mut self, list: &mut DraftedList<'_>) -> Result<(), EvaluatorError> {
        let count = self.num_draft.min(list.worth_drafting());
        let draft = if count == 0 { Vec::new() } else { self.draft(list, count)? };
        list.verify(&draft, 1)?;
        Ok(())
    }
}

/// Tokens of an item and the separator behind it.
fn item_tokens(prompt: &RankingPrompt) -> usize {
    1 + prompt.separator.len()
}
