//! Attention where every query row sees one contiguous range of key rows.

mod by_tensor_ops;

use tch::Tensor;

/// Attention over a range of keys for each query row, in one flash-style pass.
///
/// `q` `[batch, q_len, heads, head_dim]`, `k`, `v` `[batch, k_len, kv_heads, head_dim]` (any strides, last dim
/// contiguous; `heads` a multiple of `kv_heads`); `start`, `end` int32 on the CPU, `[batch or 1, q_len]`: query row i
/// sees keys `start[i] <= j < end[i]`. A row with an empty range gives zeros. Returns `[batch, q_len, heads, head_dim]`,
/// contiguous. Differentiable in q, k, v.
///
/// # Panics
/// When shapes or kinds do not fit, as tch's own operations do.
pub fn range_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    start: &Tensor,
    end: &Tensor,
    scale: f64,
) -> Tensor {
    by_tensor_ops::range_attention(q, k, v, start, end, scale)
}
