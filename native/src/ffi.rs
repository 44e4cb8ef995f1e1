//! What the C++ files offer, and how their errors and tensors become ours.
#![allow(unsafe_code, reason = "calls into C++")]

use crate::{NativeError, error::unwrap};
use std::ffi::{CStr, c_char, c_int};
use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

unsafe extern "C" {
    fn monopass_kernels_run(half: c_int, run: *mut c_int) -> *mut c_char;
    pub(crate) fn monopass_kernels(vectors: *mut c_int, products: *mut c_int, tiles: *mut c_int) -> *mut c_char;
    pub(crate) fn monopass_range_attention(
        out: *mut *mut C_tensor,
        q: *const C_tensor,
        k: *const C_tensor,
        v: *const C_tensor,
        start: *const C_tensor,
        end: *const C_tensor,
        own: *const C_tensor,
        extra: *const C_tensor,
        scale: f64,
    ) -> *mut c_char;
    pub(crate) fn monopass_rms_norm(
        out: *mut *mut C_tensor,
        x: *const C_tensor,
        weight: *const C_tensor,
        eps: f64,
    ) -> *mut c_char;
    pub(crate) fn monopass_silu_mul(out: *mut *mut C_tensor, gate_up: *const C_tensor) -> *mut c_char;
    pub(crate) fn monopass_rope(
        out: *mut *mut C_tensor,
        x: *const C_tensor,
        cos: *const C_tensor,
        sin: *const C_tensor,
    ) -> *mut c_char;
    pub(crate) fn monopass_rope_qkv(
        out: *mut *mut C_tensor,
        qkv: *const C_tensor,
        cos: *const C_tensor,
        sin: *const C_tensor,
        heads: i64,
        kv_heads: i64,
    ) -> *mut c_char;
    pub(crate) fn monopass_cross_entropy_sum(
        out: *mut *mut C_tensor,
        logits: *const C_tensor,
        labels: *const C_tensor,
    ) -> *mut c_char;
    pub(crate) fn monopass_gating_pays(x: *const C_tensor, weight: *const C_tensor, pays: *mut c_int) -> *mut c_char;
    pub(crate) fn monopass_gated_linear(
        out: *mut *mut C_tensor,
        x: *const C_tensor,
        weight: *const C_tensor,
    ) -> *mut c_char;
    pub(crate) fn monopass_linear(
        out: *mut *mut C_tensor,
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
    ) -> *mut c_char;
    pub(crate) fn monopass_attention_counts(
        out: *mut *mut C_tensor,
        scores: *const C_tensor,
        taken: *const C_tensor,
        probability: f64,
        seed: u64,
    ) -> *mut c_char;
    pub(crate) fn monopass_dropout(
        out: *mut *mut C_tensor,
        x: *const C_tensor,
        probability: f64,
        seed: u64,
    ) -> *mut c_char;
    pub(crate) fn monopass_adamw(
        param: *const C_tensor,
        master: *const C_tensor,
        grad: *const C_tensor,
        mean: *const C_tensor,
        square: *const C_tensor,
        step: i64,
        lr: f64,
        beta1: f64,
        beta2: f64,
        eps: f64,
        weight_decay: f64,
        grad_scale: f64,
        done: *mut c_int,
    ) -> *mut c_char;
    pub(crate) fn monopass_cuda_memory(device: c_int, bytes: *mut i64) -> *mut c_char;
    pub(crate) fn monopass_cuda_reset_peak(device: c_int) -> *mut c_char;
    pub(crate) fn monopass_sum_of_squares(
        tensors: *const *const C_tensor,
        count: i64,
        sum: *mut f64,
        done: *mut c_int,
    ) -> *mut c_char;
}

/// Whether the fused kernels run here for tensors of `kind` on `device`; see [`crate::kernels::kernels`].
///
/// # Panics
/// When `MONOPASS_VECTORS` is none of its words.
pub fn kernels_run(kind: Kind, device: Device) -> bool {
    let half = match kind {
        Kind::Float => 0,
        Kind::BFloat16 => 1,
        _ => return false,
    };
    if device != Device::Cpu {
        return false;
    }
    let mut run = 0;
    // SAFETY: takes a plain number and writes one.
    unwrap(check("kernels_run", unsafe { monopass_kernels_run(half, &raw mut run) }));
    run != 0
}

/// The error a C++ function returned, if any; frees its text.
pub(crate) fn check(operation: &'static str, error: *mut c_char) -> Result<(), NativeError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: our C++ returns either null or a NUL-terminated text made by malloc that now belongs to us.
    let message = unsafe {
        let message = CStr::from_ptr(error).to_string_lossy().into_owned();
        libc::free(error.cast());
        message
    };
    Err(NativeError::Operation { operation, message })
}

/// Calls a function that writes `N` new tensors.
pub(crate) fn tensors<const N: usize>(
    operation: &'static str,
    call: impl FnOnce(*mut *mut C_tensor) -> *mut c_char,
) -> Result<[Tensor; N], NativeError> {
    let mut out = [std::ptr::null_mut::<C_tensor>(); N];
    check(operation, call(out.as_mut_ptr()))?;
    // SAFETY: on success every entry is a new tensor that nobody else owns.
    Ok(out.map(|pointer| unsafe { Tensor::from_ptr(pointer) }))
}
