//! Range attention through libtorch's scaled dot-product attention: any device, any kind.

use tch::{Device, Kind, Tensor};

use super::Visible;
use super::pieces::{Piece, Sees};

/// See [`super::range_attention`].
pub(super) fn range_attention(q: &Tensor, k: &Tensor, v: &Tensor, visible: &Visible, scale: f64) -> Tensor {
    let k_len = k.size()[1];
    if q.numel() == 0 || k_len == 0 {
        return q * 0.0;
    }
    let attended: Vec<Tensor> = visible
        .with_pieces(k_len, q.device(), |pieces| pieces.iter().map(|piece| attend(q, k, v, piece, scale)).collect());
    match <[Tensor; 1]>::try_from(attended) {
        Ok([whole]) => whole,
        Err(parts) => Tensor::cat(&parts, 1),
    }
}

/// A piece's queries: `[batch, rows, heads, head_dim]`, contiguous.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, piece: &Piece, scale: f64) -> Tensor {
    let q = part(q, piece.rows);
    let (mask, keep, causal) = match &piece.sees {
        Sees::Nothing => return q * 0.0,
        Sees::Causal => (None, None, true),
        Sees::All => (None, None, false),
        Sees::Some { mask, keep } => (Some(mask), keep.as_ref(), false),
    };
    let heads_per_kv = q.size()[2] / k.size()[2];
    let half_on_gpu = q.device() != Device::Cpu && matches!(q.kind(), Kind::BFloat16 | Kind::Half);
    // Only the GPU's flash kernel shares key and value heads itself; the masked kernels would fall back to a slow path.
    let share_heads = heads_per_kv > 1 && half_on_gpu && mask.is_none();
    let own_keys = |t: &Tensor| {
        let parts: Vec<Tensor> = piece.keys.iter().map(|keys| part(t, *keys)).collect();
        let keys = if let [one] = &parts[..] { one.shallow_clone() } else { Tensor::cat(&parts, 1) };
        let keys = if share_heads || heads_per_kv == 1 {
            keys
        } else {
            keys.repeat_interleave_self_int(heads_per_kv, 2, None)
        };
        keys.transpose(1, 2)
    };
    let (q, k, v) = (q.transpose(1, 2), own_keys(k), own_keys(v));
    let attended =
        Tensor::scaled_dot_product_attention(&q, &k, &v, mask, 0.0, causal, scale, share_heads).transpose(1, 2);
    match keep {
        Some(keep) => (attended * keep.to_kind(q.kind())).contiguous(),
        None => attended.contiguous(),
    }
}

fn part(t: &Tensor, (first, length): (i64, i64)) -> Tensor {
    if (first, length) == (0, t.size()[1]) { t.shallow_clone() } else { t.narrow(1, first, length) }
}
