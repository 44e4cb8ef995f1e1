//! A linear layer, its slices and the adapters on them.

use tch::{Device, Kind, Tensor};

/// Seed of one forward pass's adapter dropout. Masks are a pure function of it, the layer and the module, so that a
/// recomputed layer drops the same values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropoutSeed(pub u64);

impl DropoutSeed {
    /// Seed of a layer.
    pub fn of_layer(self, layer: usize) -> Self {
        Self(mix(self.0, layer as u64))
    }

    /// Seed of a module inside a layer.
    pub fn of_module(self, module: u64) -> Self {
        Self(mix(self.0, 1000 + module))
    }
}

/// One step of splitmix64 over the pair.
fn mix(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A low-rank addition to a slice of a layer's output (Hu et al. 2021): `scale * b(a(x))`.
#[derive(Debug)]
pub struct LowRank {
    /// Hugging Face name of the projection: `q_proj`, `gate_proj`, ..
    pub projection: &'static str,
    /// First output row it adds to.
    pub start: i64,
    /// `[r, in]`.
    pub a: Tensor,
    /// `[rows, r]`.
    pub b: Tensor,
    /// Multiplies the product.
    pub scale: f64,
    /// Probability of dropping a value of `x`, in training.
    pub dropout: f64,
}

impl LowRank {
    /// `[.., in]` -> `[.., rows]`.
    fn forward(&self, x: &Tensor, seed: Option<DropoutSeed>) -> Tensor {
        let low = match seed {
            Some(seed) if self.dropout > 0.0 => {
                let seed = mix(seed.0, self.start as u64);
                native::ops::dropout(x, self.dropout, seed).linear::<&Tensor>(&self.a, None)
            }
            _ => x.linear::<&Tensor>(&self.a, None),
        }; // [.., r]
        low.linear::<&Tensor>(&self.b, None) * self.scale
    }

    /// What it adds to the weight: `[rows, in]`, float32.
    pub fn delta_weight(&self) -> Tensor {
        self.b.to_kind(Kind::Float).matmul(&self.a.to_kind(Kind::Float)) * self.scale
    }
}

/// `x W^T + b`, plus adapters.
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Option<Tensor>,
    /// Adapters on slices of the output, in order of their rows.
    pub adapters: Vec<LowRank>,
}

impl Linear {
    /// Uninitialised weight, zero bias.
    pub fn new(inputs: i64, outputs: i64, bias: bool, kind: Kind, device: Device) -> Self {
        Self {
            weight: Tensor::empty([outputs, inputs], (kind, device)),
            bias: bias.then(|| Tensor::zeros([outputs], (kind, device))),
            adapters: Vec::new(),
        }
    }

    /// `[.., in]` -> `[.., out]`. `dropout` drops inputs of the adapters; `None` outside training.
    pub fn forward(&self, x: &Tensor, dropout: Option<DropoutSeed>) -> Tensor {
        let out = native::ops::linear(x, &self.weight, self.bias.as_ref()); // [.., out]
        for adapter in &self.adapters {
            let delta = adapter.forward(x, dropout);
            let rows = adapter.b.size()[0];
            let _ = out.narrow(-1, adapter.start, rows).g_add_(&delta);
        }
        out
    }
}
