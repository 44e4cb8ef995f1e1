//! Heads that guess places of a ranking ahead of the model's own next one.

use tch::{Device, Kind, Tensor, no_grad};

use crate::CausalLm;

/// Heads on the final hidden state. The state of place `j` is that of the last token before the identifier at place `j`: the
/// model's own output layer predicts place `j` from it, head `i` (counted from 1) place `j + i`.
pub trait DraftHeads {
    /// Number of heads.
    fn num_heads(&self) -> usize;

    /// Candidates of a list, N.
    fn num_candidates(&self) -> usize;

    /// Features of a state.
    fn hidden_size(&self) -> i64;

    /// Where the weights are.
    fn device(&self) -> Device;

    /// Logits of the N identifiers by every head, `[rows, heads, N]` float32, of `states` `[rows, hidden]` of any float kind.
    /// `[.., i - 1, ..]` is head `i`.
    fn logits(&self, states: &Tensor) -> Tensor;

    /// Trainable weights by name, sharing storage: for [`crate::head_folder`] and the optimiser.
    fn named_tensors(&self) -> Vec<(String, Tensor)>;
}

/// Rows of the output layer for `tokens` (one identifier each, in the order of the candidates): `[N, hidden]` float32, a copy
/// without gradient.
pub fn identifier_rows(model: &CausalLm, tokens: &[i64]) -> Tensor {
    no_grad(|| {
        let ids = Tensor::from_slice(tokens).to_device(model.device());
        model.output_weight().index_select(0, &ids).to_kind(Kind::Float)
    })
}
