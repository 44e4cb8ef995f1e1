//! Fused element-wise operations with their own backward.

pub(crate) mod by_tensor_ops;

use tch::Tensor;

/// Root-mean-square norm as Hugging Face's: float32 inside, cast to x's kind, times `weight`. `x` `[.., hidden]`,
/// `weight` `[hidden]`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    by_tensor_ops::rms_norm(x, weight, eps)
}

/// `silu(gate) * up` of `gate_up` `[.., 2 * intermediate]` (gate first). Returns `[.., intermediate]`.
pub fn silu_mul(gate_up: &Tensor) -> Tensor {
    by_tensor_ops::silu_mul(gate_up)
}

/// Rotates `x` `[batch, seq, heads, head_dim]` (half-split convention of Hugging Face) by `cos`, `sin` float32
/// `[batch or 1, seq, head_dim / 2]`. Any strides; the result is contiguous.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Tensor {
    by_tensor_ops::rope(x, cos, sin)
}

/// Cross-entropy summed over rows of `logits` `[rows, vocab]` (any kind, float32 inside) with `labels` int64 `[rows]`;
/// rows labelled -100 count nothing. Scalar float32.
pub fn cross_entropy_sum(logits: &Tensor, labels: &Tensor) -> Tensor {
    by_tensor_ops::cross_entropy_sum(logits, labels)
}
