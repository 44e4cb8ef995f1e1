//! Random weights that are the same on every machine and with every version of libtorch.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tch::{Tensor, no_grad};

use crate::causal_lm::CausalLm;

/// Standard deviation of fresh weights, `initializer_range` of the supported families.
const STANDARD_DEVIATION: f32 = 0.02;

/// Fills the weights: matrices normal, norms one, biases zero. Values depend on the Hugging Face names' order only.
pub(crate) fn fill(model: &CausalLm, seed: u64) {
    no_grad(|| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for mut tensor in model.file_tensors() {
            if tensor.view.dim() > 1 {
                let values = normal(&mut rng, tensor.view.numel());
                tensor.view.copy_(&Tensor::from_slice(&values).view_as(&tensor.view));
            } else {
                let _ = tensor.view.fill_(if tensor.name.ends_with(".bias") { 0.0 } else { 1.0 });
            }
        }
    });
}

/// `count` values of N(0, 0.02), by Box and Muller.
fn normal(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let radius = (-2.0 * (1.0 - uniform(rng)).ln()).sqrt() * STANDARD_DEVIATION;
        let (sin, cos) = (2.0 * std::f32::consts::PI * uniform(rng)).sin_cos();
        values.push(radius * cos);
        values.push(radius * sin);
    }
    values.truncate(count);
    values
}

/// Uniform in [0, 1), 24 bits.
fn uniform(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / (1u32 << 24) as f32
}

/// `[rows, columns]` uniform in [-bound, bound): the start of an adapter's A.
pub(crate) fn uniform_matrix(rng: &mut ChaCha8Rng, rows: i64, columns: i64, bound: f32) -> Tensor {
    let values: Vec<f32> = (0..rows * columns).map(|_| (2.0 * uniform(rng) - 1.0) * bound).collect();
    Tensor::from_slice(&values).view([rows, columns])
}
