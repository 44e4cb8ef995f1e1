//! Parallel (Jacobi) decoding: a whole list is guessed, and every pass improves all its places at once.
//!
//! Greedy decoding is the solution of the triangular system `y_j = best(prompt, y_1..y_{j-1})`; Jacobi's iteration solves it in
//! at most N steps, often in fewer (Santilli et al. 2023, arXiv:2305.10427).

use data::prompt::RankingPrompt;
use model::CausalLm;

use super::drafted_list::{DraftMethod, DraftedList, best_of};
use super::{Decoded, Decoder, LastPrompt};
use crate::EvaluatorError;

/// Starts from the first token's ranking. A pass reads the list of the pass before, and each place, from left to right, takes
/// its best item that no place before it has. After k passes at least the first k places are the autoregressive ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct Jacobi {
    n_step: Option<u32>,
}

impl Jacobi {
    /// At most `n_step` passes, the prompt's included (0 counts as 1); `None`: until the list is the autoregressive one.
    #[must_use]
    pub fn new(n_step: Option<u32>) -> Self {
        Self { n_step }
    }
}

impl Decoder for Jacobi {
    fn name(&self) -> &'static str {
        "jacobi"
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
        // place 0's row stands for all places: what it gives is the first token's ranking
        let mut iteration = Iteration { first_place: 0, rows: vec![list.row().to_vec()] };
        list.finish(self.n_step, &mut iteration)
    }
}

/// What the last pass read.
struct Iteration {
    /// Place of `rows[0]`.
    first_place: usize,
    rows: Vec<Vec<f32>>,
}

impl DraftMethod for Iteration {
    fn advance(&mut self, list: &mut DraftedList<'_>) -> Result<(), EvaluatorError> {
        let draft = self.rest(list);
        self.first_place = list.decided().len();
        self.rows = list.verify(&draft, 1)?;
        Ok(())
    }

    /// The updated list behind the decided items.
    fn rest(&self, list: &DraftedList<'_>) -> Vec<u16> {
        let mut left: Vec<u16> = list.undecided().collect();
        let mut rest = Vec::with_capacity(left.len());
        for place in list.decided().len()..list.num_candidates() {
            // the last place has no row of its own, and nothing to choose
            let row = &self.rows[(place - self.first_place).min(self.rows.len() - 1)];
            rest.extend(best_of(row, left.iter().copied()));
            left.retain(|candidate| !rest.contains(candidate));
        }
        rest
    }
}
