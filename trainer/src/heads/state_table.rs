//! What draft heads learn from: rankings and the model's states on the way through them.

use model::DraftHeads;
use tch::{Device, Kind, Tensor};

/// Rankings of lists of one length, and the state before each place.
#[derive(Debug)]
pub struct StateTable {
    /// `[lists, n, hidden]`, bfloat16 or float32: `[l, j]` is the hidden state of the last token before the identifier at place
    /// `j`. Those of the last two places may be anything: no place after them has to be guessed.
    pub states: Tensor,
    /// `[lists, n]` int64: `[l, j]` is the candidate **at** place `j`, best first, not the place of candidate `j`.
    pub orders: Tensor,
}

impl StateTable {
    /// Number of lists.
    #[must_use]
    pub fn num_lists(&self) -> i64 {
        self.orders.size().first().copied().unwrap_or(0)
    }

    /// Lists `index` (int64 `[batch]` on the CPU): float32 states `[batch, n, hidden]` and orders `[batch, n]` on `device`.
    pub(super) fn batch(&self, index: &[i64], device: Device) -> (Tensor, Tensor) {
        let index = Tensor::from_slice(index);
        let rows = |tensor: &Tensor| tensor.index_select(0, &index.to_device(tensor.device())).to_device(device);
        (rows(&self.states).to_kind(Kind::Float), rows(&self.orders))
    }

    /// What does not fit `heads`, one line each.
    pub(super) fn problems(&self, what: &str, heads: &dyn DraftHeads) -> Vec<String> {
        let n = heads.num_candidates() as i64;
        let (lists, states, orders) = (self.num_lists(), self.states.size(), self.orders.size());
        let mut problems = Vec::new();
        if lists == 0 {
            problems.push(format!("there are no {what} lists"));
        }
        if orders != [lists, n] || self.orders.kind() != Kind::Int64 {
            let kind = self.orders.kind();
            problems.push(format!("the orders of the {what} lists are {orders:?} {kind:?}, wanted [lists, {n}] Int64"));
        }
        let wanted = [lists, n, heads.hidden_size()];
        if states != wanted || !matches!(self.states.kind(), Kind::Float | Kind::BFloat16) {
            let kind = self.states.kind();
            problems.push(format!("the states of the {what} lists are {states:?} {kind:?}, wanted {wanted:?} float"));
        }
        if problems.is_empty() {
            let sorted = self.orders.sort(-1, false).0;
            let whole = sorted.eq_tensor(&Tensor::arange(n, (Kind::Int64, sorted.device()))).all();
            if whole.int64_value(&[]) == 0 {
                problems.push(format!("an order of the {what} lists is no permutation of 0..{n}"));
            }
        }
        problems
    }
}
