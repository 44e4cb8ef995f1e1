//! What the C++ files offer, and how their errors and tensors become ours.
#![allow(unsafe_code, reason = "calls into C++")]

use crate::NativeError;
use std::ffi::{CStr, c_char, c_int};
use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

unsafe extern "C" {
    fn monopass_kernels_run(half: c_int) -> c_int;
    pub(crate) fn monopass_range_attention(
        out: *mut *mut C_tensor,
        q: *const C_tensor,
        k: *const C_tensor,
        v: *const C_tensor,
        start: *const C_tensor,
        end: *const C_tensor,
        extra: *const C_tensor,
        scale: f64,
    ) -> *mut c_char;
}

/// Whether the fused kernels run here for tensors of `kind` on `device`: float32 and bf16 on a processor with AVX-512
/// (and its bf16 part). The environment variable `MONOPASS_NO_KERNELS` turns them off.
pub fn kernels_run(kind: Kind, device: Device) -> bool {
    let half = match kind {
        Kind::Float => 0,
        Kind::BFloat16 => 1,
        _ => return false,
    };
    // SAFETY: takes and returns a plain number.
    device == Device::Cpu && unsafe { monopass_kernels_run(half) } != 0
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
