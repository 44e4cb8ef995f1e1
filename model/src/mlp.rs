//! The gated MLP (SwiGLU, Shazeer 2020).

use tch::{Device, Kind, Tensor};

use crate::config::ModelConfig;
use crate::linear::{DropoutSeed, Linear};

/// `down(silu(gate(x)) * up(x))`.
#[derive(Debug)]
pub struct Mlp {
    /// Gate rows first, then up: `[2 * intermediate, hidden]`.
    pub gate_up_proj: Linear,
    /// `[hidden, intermediate]`.
    pub down_proj: Linear,
}

impl Mlp {
    /// Uninitialised.
    pub fn new(config: &ModelConfig, kind: Kind, device: Device) -> Self {
        let (hidden, intermediate, bias) = (config.hidden_size, config.intermediate_size, config.mlp_bias);
        Self {
            gate_up_proj: Linear::new(hidden, 2 * intermediate, bias, kind, device),
            down_proj: Linear::new(intermediate, hidden, bias, kind, device),
        }
    }

    /// `[.., hidden]` -> `[.., hidden]`.
    pub fn forward(&self, x: &Tensor, dropout: Option<DropoutSeed>) -> Tensor {
        let activated = self.activated(x, dropout.map(|seed| seed.of_module(2))); // [.., intermediate]
        self.down_proj.forward(&activated, dropout.map(|seed| seed.of_module(3)))
    }

    /// `silu(gate(x)) * up(x)`, in one operation where nothing is added to the product.
    fn activated(&self, x: &Tensor, dropout: Option<DropoutSeed>) -> Tensor {
        let projection = &self.gate_up_proj;
        if projection.bias.is_none() && projection.adapters.is_empty() {
            return native::ops::gated_linear(x, &projection.weight);
        }
        native::ops::silu_mul(&projection.forward(x, dropout))
    }
}
