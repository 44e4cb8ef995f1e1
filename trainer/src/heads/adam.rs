//! Adam (Kingma & Ba 2015, arXiv:1412.6980) over a few tensors: for heads, which need no decay and no masters.

use native::optim::{AdamWStep, adamw_step};
use tch::Tensor;

/// State of all parameters.
#[derive(Debug)]
pub struct Adam {
    parameters: Vec<Moments>,
    lr: f64,
    betas: [f64; 2],
    eps: f64,
    updates: i64,
}

#[derive(Debug)]
struct Moments {
    /// Shares storage and gradient with the caller's.
    parameter: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
}

impl Adam {
    /// Moments zero. Parameters become trainable; they share storage with the caller's tensors.
    #[must_use]
    pub fn new(parameters: Vec<Tensor>, lr: f64, betas: [f64; 2], eps: f64) -> Self {
        let moments = |parameter: Tensor| {
            let parameter = parameter.set_requires_grad(true);
            let zeros = || parameter.detach().zeros_like();
            Moments { exp_avg: zeros(), exp_avg_sq: zeros(), parameter }
        };
        Self { parameters: parameters.into_iter().map(moments).collect(), lr, betas, eps, updates: 0 }
    }

    /// One update from the parameters' gradients. A parameter without one stays as it is.
    pub fn step(&mut self) {
        self.updates += 1;
        let step = AdamWStep {
            step: self.updates,
            lr: self.lr,
            beta1: self.betas[0],
            beta2: self.betas[1],
            eps: self.eps,
            weight_decay: 0.0,
            grad_scale: 1.0,
        };
        tch::no_grad(|| {
            for state in &mut self.parameters {
                let gradient = state.parameter.grad();
                if gradient.defined() {
                    let (mean, square) = (&mut state.exp_avg, &mut state.exp_avg_sq);
                    adamw_step(&mut state.parameter, None, &gradient, mean, square, &step);
                }
            }
        });
    }

    /// Forgets gradients.
    pub fn zero_grad(&mut self) {
        for state in &mut self.parameters {
            state.parameter.zero_grad();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_those_of_the_paper() {
        let x = Tensor::from_slice(&[1.0f32, -2.0]);
        let mut adam = Adam::new(vec![x.shallow_clone()], 0.1, [0.9, 0.999], 1e-8);
        let (mut m, mut v, mut wanted) = ([0.0f64; 2], [0.0f64; 2], [1.0f64, -2.0]);
        for t in 1..=5 {
            adam.zero_grad();
            (&x * &x).sum(tch::Kind::Float).backward();
            adam.step();
            for i in 0..2 {
                let g = 2.0 * wanted[i];
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let (m_hat, v_hat) = (m[i] / (1.0 - 0.9f64.powi(t)), v[i] / (1.0 - 0.999f64.powi(t)));
                wanted[i] -= 0.1 * m_hat / (v_hat.sqrt() + 1e-8);
            }
        }
        let got = Vec::<f32>::try_from(x.detach()).unwrap();
        for (got, wanted) in got.iter().zip(wanted) {
            // float32 against double
            assert!((f64::from(*got) - wanted).abs() < 1e-5, "{got} {wanted}");
        }
    }
}
