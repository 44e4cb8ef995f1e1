//! Training passes that may recompute activations instead of keeping them (Chen et al. 2016).
//!
//! tch has no autograd function of one's own, so the tape is explicit: layers run without a graph and only their
//! inputs are kept; backwards, each layer runs again with a graph and passes its input's gradient on.

use tch::{Tensor, no_grad, with_grad};

use crate::AttentionPattern;
use crate::attention::{AttentionContext, SharedInputs};
use crate::causal_lm::CausalLm;
use crate::linear::DropoutSeed;

/// What a checkpointed forward pass leaves for its backward pass.
#[derive(Debug)]
pub struct CheckpointTape<'a> {
    model: &'a CausalLm,
    shared: SharedInputs,
    embeddings: Tensor,
    /// Tokens whose hidden states were computed; all when absent.
    rows: Option<Tensor>,
    /// Residual stream before each layer, and after the last.
    inputs: Vec<Tensor>,
    dropout: Vec<Option<DropoutSeed>>,
    /// What the loss was computed from.
    hidden: Tensor,
}

/// Hidden states for a loss, and the way back through the layers.
#[derive(Debug)]
pub struct TrainingPass<'a> {
    /// Final-norm hidden states `[batch, seq, hidden]`; zero where the pass was asked to leave tokens out.
    pub hidden: Tensor,
    tape: Option<CheckpointTape<'a>>,
}

impl TrainingPass<'_> {
    /// Gradients of the scalar `loss`, computed from [`Self::hidden`] and weights, added into all trainable weights.
    pub fn backward(self, loss: &Tensor) {
        loss.backward();
        if let Some(tape) = self.tape {
            tape.backward();
        }
    }
}

impl CausalLm {
    /// Forward pass for training from `embeddings` `[batch, seq, hidden]`, with or without checkpointing as
    /// [`Self::set_gradient_checkpointing`] says. Finish it with [`TrainingPass::backward`]. With `rows` (sorted, each once) only
    /// these tokens' hidden states are computed; the last layer does no more for the others than their keys and values.
    pub fn forward_training(
        &self,
        embeddings: &Tensor,
        pattern: &AttentionPattern,
        rows: Option<&[i64]>,
    ) -> TrainingPass<'_> {
        let rows = rows.map(|rows| Tensor::from_slice(rows).to_device(self.device()));
        let (hidden, tape) = if self.gradient_checkpointing() {
            let (hidden, tape) = self.forward_checkpointed(embeddings, pattern, rows.as_ref());
            (hidden, Some(tape))
        } else {
            (self.pass(embeddings, pattern, None, rows.as_ref()), None)
        };
        let hidden = match &rows {
            Some(rows) => {
                Tensor::zeros(embeddings.size(), (hidden.kind(), hidden.device())).index_copy(1, rows, &hidden)
            }
            None => hidden,
        };
        TrainingPass { hidden, tape }
    }

    /// Keeps one tensor a layer; the hidden states (of `rows`) are a leaf.
    fn forward_checkpointed(
        &self,
        embeddings: &Tensor,
        pattern: &AttentionPattern,
        rows: Option<&Tensor>,
    ) -> (Tensor, CheckpointTape<'_>) {
        let shared = self.shared_inputs(embeddings, pattern, None);
        let dropout: Vec<_> = (0..self.layers.len()).map(|index| self.layer_dropout(index)).collect();
        let (inputs, hidden) = no_grad(|| {
            let mut inputs = vec![embeddings.detach()];
            for (index, layer) in self.layers.iter().enumerate() {
                let rows = rows.filter(|_| index + 1 == self.layers.len());
                let context = &mut AttentionContext { shared: &shared, cache: None, rows };
                inputs.push(layer.forward(&inputs[index], context, dropout[index]));
            }
            let hidden = self.norm.forward(&inputs[inputs.len() - 1]);
            (inputs, hidden)
        });
        let hidden = hidden.set_requires_grad(true);
        let embeddings = embeddings.shallow_clone();
        let rows = rows.map(Tensor::shallow_clone);
        (hidden.shallow_clone(), CheckpointTape { model: self, shared, embeddings, rows, inputs, dropout, hidden })
    }
}

impl CheckpointTape<'_> {
    /// Pushes the gradient of the hidden states through norm, layers and embeddings. Does nothing when the loss did
    /// not depend on the hidden states.
    pub fn backward(mut self) {
        let gradient = self.hidden.grad();
        if !gradient.defined() {
            return;
        }
        // the last layer's output, the only kept tensor that is not a layer's input
        let last = self.inputs.pop().expect("a tape has one more input than layers");
        let mut gradient = recompute(&last, &gradient, |x| self.model.norm.forward(x));
        for (index, layer) in self.model.layers.iter().enumerate().rev() {
            let input = self.inputs.pop().expect("a tape has an input for every layer");
            gradient = recompute(&input, &gradient, |x| {
                let rows = self.rows.as_ref().filter(|_| index + 1 == self.model.layers.len());
                let context = &mut AttentionContext { shared: &self.shared, cache: None, rows };
                layer.forward(x, context, self.dropout[index])
            });
        }
        if self.embeddings.requires_grad() {
            push(&self.embeddings, &gradient);
        }
    }
}

/// Runs `segment` on `input` with a graph, pushes `gradient` through it and returns the input's gradient.
fn recompute(input: &Tensor, gradient: &Tensor, segment: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let leaf = input.detach().set_requires_grad(true);
    let output = with_grad(|| segment(&leaf));
    push(&output, gradient);
    leaf.grad()
}

/// Backward from a tensor with a given gradient: the derivative of sum(output * gradient) is exactly that gradient.
fn push(output: &Tensor, gradient: &Tensor) {
    with_grad(|| (output * gradient).sum(output.kind())).backward();
}
