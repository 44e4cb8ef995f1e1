//! One transformer layer, norms first.

use tch::{Device, Kind, Tensor};

use crate::attention::{Attention, AttentionContext};
use crate::config::ModelConfig;
use crate::linear::DropoutSeed;
use crate::mlp::Mlp;
use crate::rms_norm::RmsNorm;

/// Attention and MLP, each behind a norm and added to the residual stream.
#[derive(Debug)]
pub struct Layer {
    /// Before the attention.
    pub input_layernorm: RmsNorm,
    /// Attention.
    pub self_attn: Attention,
    /// Before the MLP.
    pub post_attention_layernorm: RmsNorm,
    /// MLP.
    pub mlp: Mlp,
}

impl Layer {
    /// Uninitialised layer number `index`.
    pub fn new(config: &ModelConfig, index: usize, kind: Kind, device: Device) -> Self {
        let norm = || RmsNorm::new(config.hidden_size, config.rms_norm_eps, kind, device);
        Self {
            input_layernorm: norm(),
            self_attn: Attention::new(config, index, kind, device),
            post_attention_layernorm: norm(),
            mlp: Mlp::new(config, kind, device),
        }
    }

    /// Residual stream `[batch, seq, hidden]` -> `[batch, seq, hidden]`, or `[batch, rows, hidden]` where the context names rows.
    pub fn forward(&self, x: &Tensor, context: &mut AttentionContext, dropout: Option<DropoutSeed>) -> Tensor {
        let attended = self.self_attn.forward(&self.input_layernorm.forward(x), context, dropout);
        // both sums are new tensors that no backward formula reads, so the addition may be in place
        let x = match context.rows {
            Some(rows) => attended + x.index_select(1, &rows.to_device(x.device())),
            None => attended + x,
        };
        let projected = self.mlp.forward(&self.post_attention_layernorm.forward(&x), dropout);
        projected + x
    }
}
