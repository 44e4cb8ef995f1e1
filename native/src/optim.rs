//! One fused AdamW step over many parameters.

pub(crate) mod by_tensor_ops;

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
pub fn adamw_step(
    param: &mut Tensor,
    master: Option<&mut Tensor>,
    grad: &Tensor,
    exp_avg: &mut Tensor,
    exp_avg_sq: &mut Tensor,
    s: &AdamWStep,
) {
    by_tensor_ops::adamw_step(param, master, grad, exp_avg, exp_avg_sq, s);
}

/// Sum of squares over all tensors, added in double. Zero for none.
pub fn sum_of_squares(tensors: &[Tensor]) -> f64 {
    by_tensor_ops::sum_of_squares(tensors)
}
