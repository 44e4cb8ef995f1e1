//! The fused operations spelled with libtorch's own: any device, any kind; autograd writes the backward.

use tch::{Kind, Reduction, Tensor};

/// See [`super::rms_norm`].
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    let inner = inner_kind(x);
    let wide = x.to_kind(inner);
    let mean_square = (&wide * &wide).mean_dim([-1i64].as_slice(), true, inner);
    (wide * (mean_square + eps).rsqrt()).to_kind(x.kind()) * weight
}

/// See [`super::silu_mul`].
pub(crate) fn silu_mul(gate_up: &Tensor) -> Tensor {
    let halves = gate_up.chunk(2, -1);
    halves[0].silu() * &halves[1]
}

/// See [`super::rope`].
pub(crate) fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Tensor {
    let inner = inner_kind(x);
    let halves = x.to_kind(inner).chunk(2, -1);
    let (cos, sin) = (cos.unsqueeze(2).to_kind(inner), sin.unsqueeze(2).to_kind(inner));
    let first = &halves[0] * &cos - &halves[1] * &sin;
    let second = &halves[1] * &cos + &halves[0] * &sin;
    Tensor::cat(&[first, second], -1).to_kind(x.kind())
}

/// See [`super::cross_entropy_sum`].
pub(crate) fn cross_entropy_sum(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.to_kind(inner_kind(logits)).cross_entropy_loss(labels, None::<Tensor>, Reduction::Sum, -100, 0.0)
}

/// See [`super::attention_counts`].
pub(crate) fn attention_counts(scores: &Tensor, taken: &Tensor, drop: Option<(f64, u64)>) -> Tensor {
    // finite, so that a softmax over nothing is no NaN
    const HIDDEN: f64 = -1e9;
    let weights = scores.masked_fill(&taken.logical_not().unsqueeze(-2), HIDDEN).softmax(-1, None::<Kind>);
    let weights =
        drop.map_or_else(|| weights.shallow_clone(), |(probability, seed)| super::dropout(&weights, probability, seed));
    let taken = taken.to_kind(weights.kind());
    (weights * taken.unsqueeze(-1)).sum_dim_intlist(-2, false, None::<Kind>) * &taken + taken
}

/// Half kinds compute in float32, float64 stays (the tests' oracle).
fn inner_kind(x: &Tensor) -> Kind {
    if x.kind() == Kind::Double { Kind::Double } else { Kind::Float }
}
