//! One fused AdamW step over many parameters.

pub(crate) mod by_tensor_ops;
#[cfg(test)]
mod tests;

use crate::{error::unwrap, ffi};
use std::ffi::c_int;
use tch::Tensor;

/// Hyper-parameters of one step (decoupled weight decay, Loshchilov & Hutter 2019).
#[derive(Debug, Clone, Copy)]
pub struct AdamWStep {
    /// Step, counted from 1.
    pub step: i64,
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the gradient's running mean.
    pub beta1: f64,
    /// Decay of the squared gradient's running mean.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, times `lr`.
    pub weight_decay: f64,
    /// Gradients are multiplied by this first (clipping).
    pub grad_scale: f64,
}

/// Updates `param` in place from `grad`. `master` (float32) is the precise copy when `param` is bf16. `exp_avg`,
/// `exp_avg_sq` any float kind; the arithmetic is float32.
///
/// # Panics
/// When shapes do not fit, as tch's own operations do.
#[allow(unsafe_code, reason = "calls the kernel")]
pub fn adamw_step(
    param: &mut Tensor,
    master: Option<&mut Tensor>,
    grad: &Tensor,
    exp_avg: &mut Tensor,
    exp_avg_sq: &mut Tensor,
    s: &AdamWStep,
) {
    let mut done: c_int = 0;
    let precise = master.as_ref().map_or(std::ptr::null(), |t| t.as_ptr());
    // SAFETY: live tensors; the kernel checks kinds, sizes, device and layout itself and else leaves them alone.
    let error = unsafe {
        ffi::monopass_adamw(
            param.as_ptr(),
            precise,
            grad.as_ptr(),
            exp_avg.as_ptr(),
            exp_avg_sq.as_ptr(),
            s.step,
            s.lr,
            s.beta1,
            s.beta2,
            s.eps,
            s.weight_decay,
            s.grad_scale,
            &raw mut done,
        )
    };
    unwrap(ffi::check("adamw_step", error));
    if done == 0 {
        by_tensor_ops::adamw_step(param, master, grad, exp_avg, exp_avg_sq, s);
    }
}

/// Sum of squares over all tensors, added in double. Zero for none.
#[allow(unsafe_code, reason = "calls the kernel")]
pub fn sum_of_squares(tensors: &[Tensor]) -> f64 {
    let pointers: Vec<_> = tensors.iter().map(Tensor::as_ptr).collect();
    let count = i64::try_from(pointers.len()).expect("a slice's length fits an i64");
    let (mut sum, mut done): (f64, c_int) = (0.0, 0);
    // SAFETY: `count` live tensors; the kernel checks kinds, device and layout itself.
    let error = unsafe { ffi::monopass_sum_of_squares(pointers.as_ptr(), count, &raw mut sum, &raw mut done) };
    unwrap(ffi::check("sum_of_squares", error));
    if done == 0 {
        return by_tensor_ops::sum_of_squares(tensors);
    }
    sum
}
