//! Root-mean-square norm (Zhang & Sennrich 2019) with a learnt scale.

use tch::{Device, Kind, Tensor};

/// `x / rms(x) * weight`, float32 inside.
#[derive(Debug)]
pub struct RmsNorm {
    /// Scale `[width]`.
    pub weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// With a scale of ones.
    pub fn new(width: i64, eps: f64, kind: Kind, device: Device) -> Self {
        Self { weight: Tensor::ones([width], (kind, device)), eps }
    }

    /// Normalises the last dimension of `x` `[.., width]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        native::ops::rms_norm(x, &self.weight, self.eps)
    }
}
