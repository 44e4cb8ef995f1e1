//! One fused AdamW step over many parameters.
use tch::Tensor;
/// Hyper-parameters of one step (decoupled weight decay, Loshchilov & Hutter 2019).
#[derive(Debug, Clone, Copy)]
pub struct AdamWStep { /// step counted from 1
 pub step: i64, /// learning rate
 pub lr: f64, /// betas
 pub beta1: f64, /// betas
 pub beta2: f64, /// epsilon
 pub eps: f64, /// decay
 pub weight_decay: f64, /// gradients are multiplied by this first (clipping)
 pub grad_scale: f64 }
/// Updates `param` in place from `grad`. `master` (float32) is the precise copy when `param` is bf16. `exp_avg`, `exp_avg_sq` any float kind.
pub fn adamw_step(param: &mut Tensor, master: Option<&mut Tensor>, grad: &Tensor, exp_avg: &mut Tensor, exp_avg_sq: &mut Tensor, s: &AdamWStep) { let _ = (param, master, grad, exp_avg, exp_avg_sq, s); unimplemented!() }
/// Sum of squares over all tensors, in float32/double. Scalar.
pub fn sum_of_squares(tensors: &[Tensor]) -> f64 { let _ = tensors; unimplemented!() }
