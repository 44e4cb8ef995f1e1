//! Attention where every query row sees one contiguous range of key rows, and some keys at the end besides.

mod by_tensor_ops;
mod pieces;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;

use crate::{error::unwrap, ffi, kernels_run};
use pieces::Piece;
use tch::{Device, Kind, Tensor};

/// What each query row sees. All tensors are on the CPU; keys are counted from the first one.
#[derive(Debug)]
pub struct Visible {
    /// First key of a row's range, int32 `[batch or 1, q_len]`.
    pub start: Tensor,
    /// One past the last key of the range, the same shape. An empty range sees nothing.
    pub end: Tensor,
    /// One key that the row sees besides, the same shape; a negative number for none. A token that sees all earlier columns of a
    /// layout and itself is a range and one key.
    pub own: Option<Tensor>,
    /// Those of the last keys that the row sees besides, bool `[batch or 1, q_len, keys]`. A prefix with a tree behind it is a range and
    /// a small dense mask.
    pub extra: Option<Tensor>,
    /// As libtorch's operations want it, made once: the layers of a pass share it.
    pub lowered: Lowered,
}

/// Pieces for a number of keys on a device, where tensor operations were asked for; see [`Visible::lowered`].
#[derive(Debug, Default)]
pub struct Lowered(OnceCell<(i64, Device, Vec<Piece>)>);

impl Visible {
    /// Ranges alone.
    #[must_use]
    pub fn ranges(start: Tensor, end: Tensor) -> Self {
        Self { start, end, own: None, extra: None, lowered: Lowered::default() }
    }

    /// Of these query rows, int64 `[rows]` on the CPU.
    #[must_use]
    pub fn select(&self, rows: &Tensor) -> Self {
        self.map(|bound| bound.index_select(1, rows))
    }

    fn narrow(&self, first: i64, rows: i64) -> Self {
        self.map(|bound| bound.narrow(1, first, rows))
    }

    fn map(&self, of: impl Fn(&Tensor) -> Tensor) -> Self {
        Self {
            start: of(&self.start),
            end: of(&self.end),
            own: self.own.as_ref().map(&of),
            extra: self.extra.as_ref().map(&of),
            lowered: Lowered::default(),
        }
    }

    /// Calls `with` with the pieces for so many keys on this device.
    fn with_pieces<T>(&self, k_len: i64, device: Device, with: impl FnOnce(&[Piece]) -> T) -> T {
        let make = || (k_len, device, pieces::pieces(self, k_len, device));
        match self.lowered.0.get_or_init(make) {
            (keys, on, pieces) if (*keys, *on) == (k_len, device) => with(pieces),
            _ => with(&make().2),
        }
    }
}

/// Attention over a range of keys for each query row, and some keys besides, in one flash-style pass.
///
/// `q` `[batch, q_len, heads, head_dim]`, `k`, `v` `[batch, k_len, kv_heads, head_dim]` (any strides, last dim
/// contiguous; `heads` a multiple of `kv_heads`). A row that sees nothing gives zeros. Returns `[batch, q_len, heads, head_dim]`,
/// contiguous. Differentiable in q, k, v. Keys and values must be finite, seen or not.
///
/// # Panics
/// When shapes or kinds do not fit, as tch's own operations do.
#[allow(unsafe_code, reason = "calls the kernel")]
pub fn range_attention(q: &Tensor, k: &Tensor, v: &Tensor, visible: &Visible, scale: f64) -> Tensor {
    if let Err(problem) = fits(q, k, v, visible) {
        panic!("`range_attention`: {problem}");
    }
    let head_dim = q.size()[3];
    let by_kernel = kernels_run(q.kind(), q.device())
        && head_dim % 16 == 0
        && head_dim <= MAX_HEAD_DIM
        && q.size()[2] / k.size()[2] <= MAX_GROUP
        && scale > 0.0
        && q.numel() > 0
        && k.numel() > 0;
    if !by_kernel {
        return by_tensor_ops::range_attention(q, k, v, visible, scale);
    }
    let (q, k, v) = (q.as_ptr(), k.as_ptr(), v.as_ptr());
    let (start, end) = (visible.start.as_ptr(), visible.end.as_ptr());
    let pointer = |tensor: &Option<Tensor>| tensor.as_ref().map_or(std::ptr::null(), Tensor::as_ptr);
    let (own, extra) = (pointer(&visible.own), pointer(&visible.extra));
    // SAFETY: the pointers are live tensors whose shapes, kinds and device were checked above.
    let result = ffi::tensors("range_attention", |out| unsafe {
        ffi::monopass_range_attention(out, q, k, v, start, end, own, extra, scale)
    });
    let [out] = unwrap(result);
    out
}

/// Largest `head_dim` of the kernel.
const MAX_HEAD_DIM: i64 = 256;

/// Query heads of one key-value head that fit a tile of the kernel.
const MAX_GROUP: i64 = 96;

/// What is wrong with the arguments' shapes, kinds or devices.
fn fits(q: &Tensor, k: &Tensor, v: &Tensor, visible: &Visible) -> Result<(), String> {
    let (&[batch, q_len, heads, head_dim], &[k_batch, k_len, kv_heads, k_dim]) = (&q.size()[..], &k.size()[..]) else {
        return Err(format!("q {:?} and k {:?}, wanted four dimensions each", q.size(), k.size()));
    };
    if v.size() != k.size() || k_batch != batch || k_dim != head_dim {
        return Err(format!("q {:?}, k {:?}, v {:?} do not belong together", q.size(), k.size(), v.size()));
    }
    if kv_heads == 0 || heads % kv_heads != 0 {
        return Err(format!("{heads} query heads, wanted a multiple of the {kv_heads} key-value heads"));
    }
    if k.kind() != q.kind() || v.kind() != q.kind() {
        return Err(format!("kinds {:?}, {:?}, {:?} of q, k, v, wanted the same", q.kind(), k.kind(), v.kind()));
    }
    if k.device() != q.device() || v.device() != q.device() {
        return Err("q, k and v are on different devices".to_owned());
    }
    let rows_fit = |size: &[i64]| size.len() >= 2 && (size[0] == batch || size[0] == 1) && size[1] == q_len;
    let Visible { start, end, own, extra, .. } = visible;
    for (name, bound) in [("start", Some(start)), ("end", Some(end)), ("own", own.as_ref())] {
        let Some(bound) = bound else { continue };
        if bound.kind() != Kind::Int || bound.device() != Device::Cpu {
            return Err(format!("`{name}` is not int32 on the CPU"));
        }
        if bound.dim() != 2 || !rows_fit(&bound.size()) || bound.size() != start.size() {
            return Err(format!("`{name}` {:?}, wanted [{batch} or 1, {q_len}]", bound.size()));
        }
    }
    let Some(extra) = extra else { return Ok(()) };
    let size = extra.size();
    if extra.kind() != Kind::Bool
        || extra.device() != Device::Cpu
        || size.len() != 3
        || !rows_fit(&size)
        || size[2] > k_len
    {
        return Err(format!(
            "`extra` {:?} {size:?}, wanted bool on the CPU [{batch} or 1, {q_len}, at most {k_len}]",
            extra.kind()
        ));
    }
    Ok(())
}
