//! AdamW and the gradient norm with libtorch's own operations: any device, any kind.

use super::AdamWStep;
use tch::{Kind, Tensor, no_grad};

/// See [`super::adamw_step`].
pub(crate) fn adamw_step(
    param: &mut Tensor,
    master: Option<&mut Tensor>,
    grad: &Tensor,
    exp_avg: &mut Tensor,
    exp_avg_sq: &mut Tensor,
    s: &AdamWStep,
) {
    no_grad(|| {
        let inner = if param.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let grad = grad.to_kind(inner) * s.grad_scale;
        let mean = exp_avg.to_kind(inner) * s.beta1 + &grad * (1.0 - s.beta1);
        let mean_square = exp_avg_sq.to_kind(inner) * s.beta2 + &grad * &grad * (1.0 - s.beta2);
        exp_avg.copy_(&mean);
        exp_avg_sq.copy_(&mean_square);
        let step = i32::try_from(s.step).unwrap_or(i32::MAX);
        let correction1 = 1.0 - s.beta1.powi(step);
        let correction2 = (1.0 - s.beta2.powi(step)).sqrt();
        let denominator = mean_square.sqrt() / correction2 + s.eps;
        let old = match &master {
            Some(master) => master.to_kind(inner),
            None => param.to_kind(inner),
        };
        let new = old * (1.0 - s.lr * s.weight_decay) - mean / denominator * (s.lr / correction1);
        if let Some(master) = master {
            master.copy_(&new);
        }
        param.copy_(&new);
    });
}

/// See [`super::sum_of_squares`].
pub(crate) fn sum_of_squares(tensors: &[Tensor]) -> f64 {
    no_grad(|| {
        tensors
            .iter()
            .map(|t| {
                let wide = t.to_kind(Kind::Float);
                (&wide * &wide).sum(Kind::Double).double_value(&[])
            })
            .sum()
    })
}
