//! What the drafting decoders share: a list of which a prefix is certain, and passes that check a draft of the rest.
//!
//! The *state* of place `j` is the hidden state of the last token before the identifier at place `j`, its *row* the logits of
//! the N identifiers there. The first pass reads the prompt and so decides place 0. Each further pass reads the tokens of the
//! items decided since, and of a draft behind them: the draft's items are kept as long as the model's rows agree, and the row
//! where they stop agreeing (or the draft ends) decides one item more. Only what agreed stays in the cache.

use std::cmp::Ordering;

use data::prompt::RankingPrompt;
use model::{AttentionPattern, CausalLm, TokenTree};
use tch::{Tensor, no_grad};

use super::continuation::{Continuation, OutputColumns};
use super::{Decoded, LastPrompt, RepairCounts, check_context, check_prompt, prompt_with_opening, single_tokens};
use crate::EvaluatorError;

/// How a decoder drafts.
pub(crate) trait DraftMethod {
    /// One pass of the model, by [`DraftedList::verify`] or [`DraftedList::verify_tree`]. At least two items are undecided.
    fn advance(&mut self, list: &mut DraftedList<'_>) -> Result<(), EvaluatorError>;

    /// The undecided items when no further pass may be made. Default: by the row that decided the last item.
    fn rest(&self, list: &DraftedList<'_>) -> Vec<u16> {
        ranked(list.row(), list.undecided().collect())
    }
}

/// A list in the making.
pub(crate) struct DraftedList<'a> {
    prompt: &'a RankingPrompt,
    text: Continuation<'a>,
    columns: OutputColumns,
    /// One a candidate.
    tokens: Vec<i64>,
    decided: Vec<u16>,
    /// Decided items whose tokens are in the cache: never the last one, which no pass has read yet.
    cached: usize,
    /// State and row that decided the last item.
    state: Tensor,
    row: Vec<f32>,
    first_row: Vec<f32>,
}

impl<'a> DraftedList<'a> {
    /// The prompt's pass. `tree_items` is the largest number of items a tree will have.
    ///
    /// # Errors
    /// A prompt that does not fit the model, identifiers of several tokens, logits that are not finite.
    pub fn start(
        model: &'a CausalLm,
        prompt: &'a RankingPrompt,
        tree_items: usize,
        last: &LastPrompt,
    ) -> Result<Self, EvaluatorError> {
        check_prompt(prompt)?;
        let tokens = single_tokens(prompt)?;
        let ids = prompt_with_opening(prompt);
        let (n, item) = (tokens.len(), 1 + prompt.separator.len());
        check_context(model, &prompt.query_id, ids.len() + n * item)?;
        let (text, state) = last.read(model, &ids, ids.len() + (n + tree_items) * item);
        let columns = OutputColumns::select(model, tokens.iter().copied());
        let (decided, row) = (Vec::with_capacity(n), Vec::new());
        let mut list = Self { prompt, text, columns, tokens, decided, cached: 0, state, first_row: Vec::new(), row };
        list.row = list.score(&list.state)?.swap_remove(0);
        list.first_row.clone_from(&list.row);
        list.decided.extend(best_of(&list.row, list.undecided()));
        Ok(list)
    }

    /// Passes until the order is certain or `n_step` passes are made in all, then the order.
    pub fn finish(mut self, n_step: Option<u32>, method: &mut dyn DraftMethod) -> Result<Decoded, EvaluatorError> {
        while self.undecided().count() > 1 && n_step.is_none_or(|limit| self.text.passes < limit) {
            method.advance(&mut self)?;
        }
        let rest = method.rest(&self);
        let later_passes = self.text.passes - 1;
        let decided_later = (self.decided.len() - 1) as f32;
        // an item that is left over is written without a pass
        let written = if rest.len() == 1 { self.tokens.len() } else { self.decided.len() };
        let separators = self.prompt.separator.len() * (written - 1);
        Ok(Decoded {
            order: [self.decided.as_slice(), &rest].concat(),
            scores: None,
            forward_passes: self.text.passes,
            new_tokens: (self.prompt.opening.len() + written + separators) as u32,
            tokens_computed: self.text.tokens,
            seconds: self.text.seconds(),
            repair: RepairCounts::default(),
            text: None,
            accepted_per_pass: (later_passes > 0).then(|| decided_later / later_passes as f32),
            seconds_after_model: None,
        })
    }

    /// One pass over a draft of the places after the decided ones. With a `top_k` of 1 a drafted item is kept when it
    /// is what the model itself would have chosen there, above 1 when it is among the best so many of all items. Returns the rows of the places from
    /// the first undecided one on, as far as they were read: each counts on the draft before it.
    pub fn verify(&mut self, draft: &[u16], top_k: usize) -> Result<Vec<Vec<f32>>, EvaluatorError> {
        let first = self.decided.len();
        // the last place is left over, so the last row wanted is that of the place before it
        let read = draft.len().min(self.tokens.len() - 2 - first);
        let items = [&self.decided[self.cached..], &draft[..read]].concat();
        let ids = self.tokens_of(&items);
        let hidden = pass(&mut self.text, &ids, &AttentionPattern::Causal);
        let length = 1 + self.prompt.separator.len() as i64;
        let states = hidden.view([items.len() as i64, length, -1]).select(1, -1); // [items, hidden]
        let states = states.slice(0, (first - self.cached) as i64 - 1, None, 1); // [1 + read, hidden]
        let rows = self.score(&states)?;
        let mut last = 0;
        for (place, row) in rows.iter().enumerate() {
            last = place;
            if let Some(item) = draft.get(place)
                && among_best(row, &self.decided, *item, top_k)
            {
                self.decided.push(*item);
                continue;
            }
            self.decided.extend(best_of(row, self.undecided()));
            break;
        }
        self.cached = self.decided.len() - 1;
        self.text.cache.truncate(self.tokens_before() + self.cached as i64 * length);
        self.decided_by(&states, last, &rows);
        Ok(rows)
    }

    /// One pass over a tree of drafts: the longest path on which the model itself would have gone is kept, and one item more. The
    /// tree's tokens do not stay in the cache; those that were kept are read again with the next pass.
    pub fn verify_tree(&mut self, tree: &ItemTree) -> Result<(), EvaluatorError> {
        let prefix = self.tokens_of(&self.decided[self.cached..]);
        let (tokens, ends) = tree.tokens(|item| self.tokens_of(&[item]));
        let ids = [prefix.as_slice(), tokens.ids()].concat();
        let pattern = AttentionPattern::Trees { cu_seqlens: vec![0, prefix.len() as i64], trees: vec![tokens] };
        let hidden = pass(&mut self.text, &ids, &pattern);
        // the state behind the prefix, then that behind each node
        let behind = std::iter::once(prefix.len() as i64 - 1).chain(ends.iter().map(|end| prefix.len() as i64 + end));
        let behind = Tensor::from_slice(&behind.collect::<Vec<_>>()).to_device(hidden.device());
        let states = no_grad(|| hidden.index_select(0, &behind)); // [1 + nodes, hidden]
        self.cached = self.decided.len();
        let rows = self.score(&states)?;
        let mut node = None;
        loop {
            let row = node.map_or(0, |node| node + 1);
            self.decided_by(&states, row, &rows);
            let Some(best) = best_of(&rows[row], self.undecided()) else { return Ok(()) };
            self.decided.push(best);
            node = tree.child(node, best);
            if node.is_none() {
                return Ok(());
            }
        }
    }

    /// Items that are certain, best first.
    pub fn decided(&self) -> &[u16] {
        &self.decided
    }

    /// The other ones, in input order.
    pub fn undecided(&self) -> impl Iterator<Item = u16> + '_ {
        (0..self.tokens.len() as u16).filter(|candidate| !self.decided.contains(candidate))
    }

    /// State that decided the last item, `[1, hidden]`.
    pub fn state(&self) -> &Tensor {
        &self.state
    }

    /// Row that decided the last item.
    pub fn row(&self) -> &[f32] {
        &self.row
    }

    /// Row of place 0.
    pub fn first_row(&self) -> &[f32] {
        &self.first_row
    }

    /// Number of candidates.
    pub fn num_candidates(&self) -> usize {
        self.tokens.len()
    }

    /// Items after the decided ones that are worth drafting: those whose state leads to a place with a choice.
    pub fn worth_drafting(&self) -> usize {
        (self.tokens.len() - self.decided.len()).saturating_sub(2)
    }

    /// Tokens of items in the answer, each with the separator behind it.
    pub fn tokens_of(&self, items: &[u16]) -> Vec<i64> {
        let token = |item: &u16| std::iter::once(self.tokens[usize::from(*item)]).chain(self.prompt.separator.clone());
        items.iter().flat_map(token).collect()
    }

    /// Tokens of prompt and opening.
    fn tokens_before(&self) -> i64 {
        (self.prompt.input_ids.len() + self.prompt.opening.len()) as i64
    }

    /// Rows by candidate after `states` `[rows, hidden]`.
    fn score(&self, states: &Tensor) -> Result<Vec<Vec<f32>>, EvaluatorError> {
        let by_candidate = |logits: &super::continuation::ColumnLogits<'_>| {
            self.tokens.iter().map(|token| logits.of(*token)).collect()
        };
        Ok(self.columns.rows(states, &self.prompt.query_id)?.iter().map(by_candidate).collect())
    }

    fn decided_by(&mut self, states: &Tensor, index: usize, rows: &[Vec<f32>]) {
        self.state = states.narrow(0, index as i64, 1);
        self.row.clone_from(&rows[index]);
    }
}

/// Whether the model would have placed `item` next, by its `row` of scores: the best of the items that are not `decided`, which is the forced
/// order; or with a `top_k` above 1 one of the best so many of all items, as the published script has it.
fn among_best(row: &[f32], decided: &[u16], item: u16, top_k: usize) -> bool {
    let own = row[usize::from(item)];
    let counts = |other: &u16| top_k > 1 || !decided.contains(other);
    let ahead = |other: &u16| row[usize::from(*other)] > own || (row[usize::from(*other)] == own && *other < item);
    let better = (0..row.len() as u16).filter(|other| counts(other) && ahead(other)).count();
    !decided.contains(&item) && better < top_k
}

/// Items that hang on the decided ones as a tree, parents before children.
#[derive(Debug, Default)]
pub(crate) struct ItemTree {
    nodes: Vec<(u16, Option<usize>)>,
}

impl ItemTree {
    /// Adds an item under a node, or at the root; its node.
    pub fn push(&mut self, item: u16, parent: Option<usize>) -> usize {
        self.nodes.push((item, parent));
        self.nodes.len() - 1
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn child(&self, parent: Option<usize>, item: u16) -> Option<usize> {
        self.nodes.iter().position(|node| *node == (item, parent))
    }

    /// The tokens, and of each node the index of its last one.
    fn tokens(&self, tokens_of: impl Fn(u16) -> Vec<i64>) -> (TokenTree, Vec<i64>) {
        let mut tree = TokenTree::default();
        let mut ends: Vec<u32> = Vec::with_capacity(self.nodes.len());
        for (item, parent) in &self.nodes {
            let end = tree.push_chain(&tokens_of(*item), parent.map(|parent| ends[parent]));
            ends.push(end.expect("an item has an identifier"));
        }
        (tree, ends.into_iter().map(i64::from).collect())
    }
}

/// Reads `ids` behind a text; final hidden states `[seq, hidden]`.
fn pass(text: &mut Continuation, ids: &[i64], pattern: &AttentionPattern) -> Tensor {
    text.passes += 1;
    text.tokens += ids.len() as u64;
    no_grad(|| {
        let input = Tensor::from_slice(ids).unsqueeze(0).to_device(text.model.device()); // [1, seq]
        text.model.forward(&input, pattern, Some(&mut text.cache)).squeeze_dim(0)
    })
}

/// The best of `candidates`; the earlier one among equals.
pub(crate) fn best_of(row: &[f32], candidates: impl IntoIterator<Item = u16>) -> Option<u16> {
    let better = |best: u16, other: u16| if row[usize::from(other)] > row[usize::from(best)] { other } else { best };
    candidates.into_iter().reduce(better)
}

/// `candidates` (in input order), best first; the earlier one among equals, as [`best_of`] has it. No logit is NaN
/// ([`super::continuation::OutputColumns::logits`] sees to that).
pub(crate) fn ranked(row: &[f32], mut candidates: Vec<u16>) -> Vec<u16> {
    candidates.sort_by(|a, b| by_logit(row[usize::from(*a)], row[usize::from(*b)]));
    candidates
}

/// Greater first; 0.0 and -0.0 are equal, as they are to `>`.
pub(super) fn by_logit(a: f32, b: f32) -> Ordering {
    b.partial_cmp(&a).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::{among_best, best_of, ranked};

    #[test]
    fn zeros_of_either_sign_are_equals() {
        let row = [-0.0, 0.0, -1.0];
        assert_eq!(best_of(&row, 0..3), Some(0));
        assert_eq!(ranked(&row, vec![0, 1, 2]), [0, 1, 2]);
    }

    #[test]
    fn an_item_is_accepted_among_those_left_or_laxly_among_all() {
        let row = [0.9, 0.8, 0.7, 0.1, 0.7];
        let accepted = |decided: &[u16], top_k: usize| -> Vec<u16> {
            (0..5).filter(|item| among_best(&row, decided, *item, top_k)).collect()
        };
        assert_eq!(accepted(&[], 1), [0]);
        assert_eq!(accepted(&[0, 1], 1), [2], "equals go to the first");
        assert_eq!(accepted(&[], 3), [0, 1, 2]);
        assert_eq!(accepted(&[0, 1], 3), [2], "decided items keep their places among all");
        assert_eq!(accepted(&[0, 1], 2), [0u16; 0]);
        assert_eq!(accepted(&[0, 1], 5), [2, 3, 4]);
    }
}
