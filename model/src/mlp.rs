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
        let gate_up = self.gate_up_proj.forward(x, dropout.map(|seed| seed.of_module(2))); // [.., 2 * intermediate]
        let activated = native::ops::silu_mul(&gate_up); // [.., intermediate]
        self.down_proj.forward(&activated, dropout.map(|seed| seed.of_module(3)))
    }
}
