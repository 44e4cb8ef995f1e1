//! Attention where every query row sees one contiguous range of key rows.
use tch::Tensor;
/// `q` `[batch, q_len, heads, head_dim]`, `k`, `v` `[batch, k_len, kv_heads, head_dim]` (any strides, last dim contiguous);
/// `start`, `end` int32 on the CPU, `[batch or 1, q_len]`: query row i sees keys `start[i] <= j < end[i]`.
/// Returns `[batch, q_len, heads, head_dim]`, contiguous. Differentiable in q, k, v.
pub fn range_attention(q: &Tensor, k: &Tensor, v: &Tensor, start: &Tensor, end: &Tensor, scale: f64) -> Tensor {
    let _ = (q, k, v, start, end, scale);
    unimplemented!()
}
