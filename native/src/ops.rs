//! Fused element-wise operations with their own backward.
use tch::Tensor;
/// Root-mean-square norm as Hugging Face's: float32 inside, cast to x's kind, times `weight`. `x` `[.., hidden]`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor { let _ = (x, weight, eps); unimplemented!() }
/// `silu(gate) * up` of `gate_up` `[.., 2 * intermediate]` (gate first). Returns `[.., intermediate]`.
pub fn silu_mul(gate_up: &Tensor) -> Tensor { let _ = gate_up; unimplemented!() }
/// Rotates `x` `[batch, seq, heads, head_dim]` (half-split convention of Hugging Face) by `cos`, `sin` float32 `[batch or 1, seq, head_dim / 2]`.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Tensor { let _ = (x, cos, sin); unimplemented!() }
/// Cross-entropy summed over rows of `logits` `[rows, vocab]` (any kind, float32 inside) with `labels` int64 `[rows]`. Scalar float32.
pub fn cross_entropy_sum(logits: &Tensor, labels: &Tensor) -> Tensor { let _ = (logits, labels); unimplemented!() }
