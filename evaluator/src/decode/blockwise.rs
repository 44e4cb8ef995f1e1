//! Blockwise parallel decoding (Stern, Shazeer & Uszkoreit 2018): heads guess the places ahead, the next pass checks them all.

use std::rc::Rc;

use data::prompt::RankingPrompt;
use model::{BlockwiseHeads, CausalLm, DraftHeads};
use tch::{Device, Tensor, no_grad};

use super::drafted_list::{DraftMethod, DraftedList, best_of};
use super::{Decoded, Decoder, LastPrompt};
use crate::EvaluatorError;

/// The prompt's pass drafts the list: place 0 by the model's own row, place `i` by head `i`, each the best item not used before
/// it. A further pass keeps the drafted items on which the model agrees and takes its own at the first on which it does not;
/// the heads at that place draft the rest anew.
#[derive(Debug, Clone)]
pub struct Blockwise {
    heads: Rc<BlockwiseHeads>,
    accept_top_k: usize,
    n_step: Option<u32>,
}

impl Blockwise {
    /// At most `n_step` passes, the prompt's included (0 counts as 1); `None`: until every item is decided.
    ///
    /// A drafted item is accepted when it is the model's best of the items left (`accept_top_k` 1, which 0 counts as): the autoregressive order. Above 1
    /// it is accepted among the best so many of all items, as the published script has it with 5, which gives another order.
    #[must_use]
    pub fn new(heads: Rc<BlockwiseHeads>, accept_top_k: usize, n_step: Option<u32>) -> Self {
        Self { heads, accept_top_k: accept_top_k.max(1), n_step }
    }
}

impl Decoder for Blockwise {
    fn name(&self) -> &'static str {
        "blockwise"
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
        check_heads(self.heads.as_ref(), prompt, "blockwise")?;
        let list = DraftedList::start(model, prompt, 0, last)?;
        list.finish(self.n_step, &mut Block { heads: &self.heads, accept_top_k: self.accept_top_k })
    }
}

struct Block<'a> {
    heads: &'a BlockwiseHeads,
    accept_top_k: usize,
}

impl DraftMethod for Block<'_> {
    fn advance(&mut self, list: &mut DraftedList<'_>) -> Result<(), EvaluatorError> {
        let mut draft = Vec::new();
        for row in head_rows(self.heads, list.state())? {
            let left = list.undecided().filter(|candidate| !draft.contains(candidate));
            let Some(best) = best_of(&row, left) else { break };
            draft.push(best);
        }
        list.verify(&draft, self.accept_top_k)?;
        Ok(())
    }
}

/// Refuses heads for another number of candidates.
pub(super) fn check_heads(
    heads: &dyn DraftHeads,
    prompt: &RankingPrompt,
    decoder: &'static str,
) -> Result<(), EvaluatorError> {
    let (got, wanted) = (prompt.num_candidates(), heads.num_candidates());
    if got != wanted {
        let query_id = prompt.query_id.clone();
        return Err(EvaluatorError::HeadCandidates { query_id, decoder, got, wanted });
    }
    Ok(())
}

/// Logits of each head after `state` `[1, hidden]`. That they are finite is not asked: a draft may be wrong.
pub(super) fn head_rows(heads: &dyn DraftHeads, state: &Tensor) -> Result<Vec<Vec<f32>>, EvaluatorError> {
    // one copy from the device, not one a head
    let logits = no_grad(|| heads.logits(state).squeeze_dim(0).to_device(Device::Cpu)); // [heads, N]
    Ok(Vec::<Vec<f32>>::try_from(&logits)?)
}
