//! Fused element-wise operations with their own backward.

pub(crate) mod by_tensor_ops;
#[cfg(test)]
mod tests;

use crate::{error::unwrap, ffi, kernels_run};
use tch::{Device, Kind, Tensor};

/// Root-mean-square norm as Hugging Face's: float32 inside, cast to x's kind, times `weight`. `x` `[.., hidden]`,
/// `weight` `[hidden]`.
///
/// # Panics
/// When shapes do not fit, as tch's own operations do.
#[allow(unsafe_code, reason = "calls the kernel")]
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    let hidden = x.size().last().copied().unwrap_or(0);
    assert!(
        weight.size() == [hidden],
        "`rms_norm`: weight {:?} for x {:?}, wanted [{hidden}]",
        weight.size(),
        x.size()
    );
    if !kernels_run(x.kind(), x.device()) || weight.kind() != x.kind() || x.numel() == 0 {
        return by_tensor_ops::rms_norm(x, weight, eps);
    }
    // SAFETY: live tensors on the CPU of one supported kind, `weight` as long as x's rows.
    one("rms_norm", |out| unsafe { ffi::monopass_rms_norm(out, x.as_ptr(), weight.as_ptr(), eps) })
}

/// `silu(gate) * up` of `gate_up` `[.., 2 * intermediate]` (gate first). Returns `[.., intermediate]`.
///
/// # Panics
/// When the last dimension is odd.
#[allow(unsafe_code, reason = "calls the kernel")]
pub fn silu_mul(gate_up: &Tensor) -> Tensor {
    let width = gate_up.size().last().copied().unwrap_or(1);
    assert!(width % 2 == 0, "`silu_mul`: last dimension {width}, wanted an even one");
    if !kernels_run(gate_up.kind(), gate_up.device()) || gate_up.numel() == 0 {
        return by_tensor_ops::silu_mul(gate_up);
    }
    // SAFETY: a live tensor on the CPU of a supported kind with an even last dimension.
    one("silu_mul", |out| unsafe { ffi::monopass_silu_mul(out, gate_up.as_ptr()) })
}

/// Rotates `x` `[batch, seq, heads, head_dim]` (half-split convention of Hugging Face) by `cos`, `sin` float32
/// `[batch or 1, seq, head_dim / 2]`. Any strides; the result is contiguous.
///
/// # Panics
/// When shapes do not fit, as tch's own operations do.
#[allow(unsafe_code, reason = "calls the kernel")]
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Tensor {
    let &[batch, seq, _, head_dim] = &x.size()[..] else {
        panic!("`rope`: x {:?}, wanted [batch, seq, heads, head_dim]", x.size());
    };
    check_angles("rope", cos, sin, batch, seq, head_dim);
    if !kernels_run(x.kind(), x.device()) || !kernels_run(cos.kind(), cos.device()) || x.numel() == 0 {
        return by_tensor_ops::rope(x, cos, sin);
    }
    // SAFETY: live tensors on the CPU; x of a supported kind, the angles float32 of x's batch, length and half its width.
    one("rope", |out| unsafe { ffi::monopass_rope(out, x.as_ptr(), cos.as_ptr(), sin.as_ptr()) })
}

/// Cuts a fused projection and rotates its queries and keys, in one pass forward and one backward.
///
/// `qkv` `[batch, seq, (heads + 2 * kv_heads) * head_dim]` (queries, then keys, then values), `cos`, `sin` float32
/// `[batch or 1, seq, head_dim / 2]`. Returns contiguous q `[batch, seq, heads, head_dim]` and k, v
/// `[batch, seq, kv_heads, head_dim]`.
///
/// # Panics
/// When shapes do not fit, as tch's own operations do.
#[allow(unsafe_code, reason = "calls the kernel")]
pub fn rope_qkv(qkv: &Tensor, cos: &Tensor, sin: &Tensor, heads: i64, kv_heads: i64) -> (Tensor, Tensor, Tensor) {
    let &[batch, seq, width] = &qkv.size()[..] else {
        panic!("`rope_qkv`: qkv {:?}, wanted [batch, seq, width]", qkv.size());
    };
    let parts = heads + 2 * kv_heads;
    assert!(
        heads > 0 && kv_heads > 0 && width % parts == 0,
        "`rope_qkv`: width {width}, wanted a multiple of {heads} + 2 * {kv_heads} heads"
    );
    let head_dim = width / parts;
    check_angles("rope_qkv", cos, sin, batch, seq, head_dim);
    if !kernels_run(qkv.kind(), qkv.device()) || !kernels_run(cos.kind(), cos.device()) || qkv.numel() == 0 {
        let part =
            |first: i64, count: i64| qkv.narrow(2, first * head_dim, count * head_dim).unflatten(2, [count, head_dim]);
        return (
            by_tensor_ops::rope(&part(0, heads), cos, sin),
            by_tensor_ops::rope(&part(heads, kv_heads), cos, sin),
            part(heads + kv_heads, kv_heads).contiguous(),
        );
    }
    // SAFETY: live tensors on the CPU; qkv of a supported kind and width, the angles float32 of its batch, length and half a head.
    let result = ffi::tensors("rope_qkv", |out| unsafe {
        ffi::monopass_rope_qkv(out, qkv.as_ptr(), cos.as_ptr(), sin.as_ptr(), heads, kv_heads)
    });
    let [q, k, v] = unwrap(result);
    (q, k, v)
}

/// Cross-entropy summed over rows of `logits` `[rows, vocab]` (any kind, float32 inside) with `labels` int64 `[rows]`;
/// rows labelled -100 count nothing. Scalar float32.
///
/// # Panics
/// When shapes do not fit or a label is outside the vocabulary.
#[allow(unsafe_code, reason = "calls the kernel")]
pub fn cross_entropy_sum(logits: &Tensor, labels: &Tensor) -> Tensor {
    let size = logits.size();
    assert!(
        size.len() == 2 && labels.size() == size[..1] && labels.kind() == Kind::Int64,
        "`cross_entropy_sum`: logits {size:?} and labels {:?} {:?}, wanted [rows, vocab] and int64 [rows]",
        labels.kind(),
        labels.size()
    );
    if labels.device() == Device::Cpu {
        check_labels(labels, size[1]);
    }
    if !kernels_run(logits.kind(), logits.device()) || labels.device() != Device::Cpu || logits.numel() == 0 {
        return by_tensor_ops::cross_entropy_sum(logits, labels);
    }
    // SAFETY: live tensors on the CPU, logits of a supported kind with two dimensions, one int64 label a row, which is one of its columns.
    one("cross_entropy_sum", |out| unsafe { ffi::monopass_cross_entropy_sum(out, logits.as_ptr(), labels.as_ptr()) })
}

/// Panics at the first label that is no column; libtorch's own message names no row, and on a GPU stops the process.
fn check_labels(labels: &Tensor, vocab: i64) {
    let labels = Vec::<i64>::try_from(labels).expect("labels are int64, checked above");
    let wrong = labels.iter().enumerate().find(|(_, label)| **label != IGNORED && !(0..vocab).contains(*label));
    if let Some((row, label)) = wrong {
        panic!("label {label} of row {row}, wanted 0 <= label < {vocab} (or {IGNORED} for none)");
    }
}

/// Label of a row that counts nothing.
const IGNORED: i64 = -100;

/// `x` `[.., in]` times the transpose of `weight` `[out, in]`, plus `bias` `[out]`. At most 16 rows without a gradient (decoding)
/// take a kernel that reads the weights once at the speed of memory; more rows a product of packed weights on AMD (of float32 with AVX2 only),
/// bf16 one in float32 on Intel without AMX; everything else is libtorch's own product.
///
/// # Panics
/// When shapes or kinds do not fit, as tch's own operations do.
#[allow(unsafe_code, reason = "calls the kernel")]
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    assert!(
        weight.dim() == 2 && bias.is_none_or(|bias| bias.size() == weight.size()[..1]),
        "`linear`: weight {:?} and bias {:?}, wanted [out, in] and [out]",
        weight.size(),
        bias.map(Tensor::size)
    );
    let bias = bias.map_or(std::ptr::null(), Tensor::as_ptr);
    // SAFETY: live tensors; shapes were checked above, and the kernel's own conditions are checked behind the call.
    one("linear", |out| unsafe { ffi::monopass_linear(out, x.as_ptr(), weight.as_ptr(), bias) })
}

/// [`silu_mul`] of [`linear`] without a bias: `x` `[.., in]`, `weight` `[2 * intermediate, in]` (gate first). Returns `[.., intermediate]`.
/// The same bits; where a kernel of ours multiplies and nothing wants a gradient, the product is gated before it is written.
///
/// # Panics
/// As they do.
#[allow(unsafe_code, reason = "calls the kernel")]
pub fn gated_linear(x: &Tensor, weight: &Tensor) -> Tensor {
    assert!(weight.dim() == 2, "`gated_linear`: weight {:?}, wanted [2 * intermediate, in]", weight.size());
    let mut pays = 0;
    // SAFETY: live tensors, the weight with two dimensions, and a place for the answer.
    let error = unsafe { ffi::monopass_gating_pays(x.as_ptr(), weight.as_ptr(), &raw mut pays) };
    unwrap(ffi::check("gated_linear", error));
    if pays == 0 {
        return silu_mul(&linear(x, weight, None));
    }
    // SAFETY: live tensors that the kernel has just said to take.
    one("gated_linear", |out| unsafe { ffi::monopass_gated_linear(out, x.as_ptr(), weight.as_ptr()) })
}

/// `x` with each value zeroed with `probability` in [0, 1) and the others divided by `1 - probability`; a pure function of
/// its arguments: the process's generator is neither read nor reseeded, so concurrent passes cannot disturb each other.
///
/// # Panics
/// When `probability` is outside [0, 1).
#[allow(unsafe_code, reason = "calls C++")]
pub fn dropout(x: &Tensor, probability: f64, seed: u64) -> Tensor {
    assert!((0.0..1.0).contains(&probability), "`dropout`: probability {probability}, wanted 0 <= probability < 1");
    // SAFETY: a live tensor; any kind and device that libtorch draws for, an error otherwise.
    one("dropout", |out| unsafe { ffi::monopass_dropout(out, x.as_ptr(), probability, seed) })
}

/// How often pooled self-attention counts each row: for `scores` float32 `[.., rows, rows]` and the rows that `taken` (bool `[.., rows]`)
/// names, `Σ_i softmax(scores_i) + 1` over and among those rows, zeros elsewhere: `[.., rows]`. `drop` is the probability of dropping a
/// weight of the softmax, in [0, 1), and the seed that it is a pure function of.
///
/// # Panics
/// When shapes do not fit or the probability is outside [0, 1).
#[allow(unsafe_code, reason = "calls the kernel")]
pub fn attention_counts(scores: &Tensor, taken: &Tensor, drop: Option<(f64, u64)>) -> Tensor {
    let (size, rows) = (scores.size(), taken.size().last().copied().unwrap_or(0));
    assert!(
        taken.kind() == Kind::Bool && size == [taken.size(), vec![rows]].concat(),
        "`attention_counts`: scores {size:?} and taken {:?} {:?}, wanted [.., rows, rows] and bool [.., rows]",
        taken.kind(),
        taken.size()
    );
    let (probability, seed) = drop.unwrap_or((0.0, 0));
    assert!(
        (0.0..1.0).contains(&probability),
        "`attention_counts`: probability {probability}, wanted 0 <= probability < 1"
    );
    let on_cpu = [scores, taken].iter().all(|tensor| tensor.device() == Device::Cpu);
    if !on_cpu || scores.kind() != Kind::Float || scores.numel() == 0 {
        return by_tensor_ops::attention_counts(scores, taken, drop);
    }
    // SAFETY: live tensors on the CPU, scores float32 and taken bool, shaped as the kernel walks them.
    one("attention_counts", |out| unsafe {
        ffi::monopass_attention_counts(out, scores.as_ptr(), taken.as_ptr(), probability, seed)
    })
}

/// Calls an operation that makes one tensor.
fn one(operation: &'static str, call: impl FnOnce(*mut *mut torch_sys::C_tensor) -> *mut std::ffi::c_char) -> Tensor {
    let [out] = unwrap(ffi::tensors(operation, call));
    out
}

fn check_angles(operation: &str, cos: &Tensor, sin: &Tensor, batch: i64, seq: i64, head_dim: i64) {
    for angles in [cos, sin] {
        let size = angles.size();
        assert!(
            head_dim % 2 == 0
                && size.len() == 3
                && (size[0] == 1 || size[0] == batch)
                && size[1..] == [seq, head_dim / 2]
                && cos.size() == size
                && angles.kind() == Kind::Float,
            "`{operation}`: angles {:?} {size:?}, wanted float32 [{batch} or 1, {seq}, {}]",
            angles.kind(),
            head_dim / 2
        );
    }
}
