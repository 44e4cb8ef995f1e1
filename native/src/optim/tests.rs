use super::*;
use crate::draws;
use tch::{Device, Kind, Tensor};

fn step(number: i64) -> AdamWStep {
    AdamWStep { step: number, lr: 1e-2, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, grad_scale: 0.5 }
}

fn random(count: i64, kind: Kind) -> Tensor {
    draws::normal([count]).to_kind(kind)
}

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[])
}

/// Three steps of torch.optim.AdamW 2.11 (lr 1e-2, betas 0.9 and 0.95, eps 1e-8, weight decay 0.1) on [0.5, -1.25, 2, 0] with
/// gradients 0.5 * [i, -i^2, 0.25 i, 1e-3] for i = 1, 2, 3; tests/golden/native/adamw.py makes them.
const GOLDEN: [f32; 4] = [0.469_506_1, -1.219_054_1, 1.965_010_8, -0.029_969_41];

#[test]
fn equals_torch_adamw_in_float32() {
    let mut param = Tensor::from_slice(&[0.5f32, -1.25, 2.0, 0.0]);
    let (mut mean, mut square) = (param.zeros_like(), param.zeros_like());
    for i in 1..=3 {
        let n = i as f32;
        let grad = Tensor::from_slice(&[n, -n * n, 0.25 * n, 1e-3]);
        adamw_step(&mut param, None, &grad, &mut mean, &mut square, &step(i));
    }
    let got = Vec::<f32>::try_from(&param).unwrap();
    for (got, want) in got.iter().zip(GOLDEN) {
        assert!((got - want).abs() <= 2e-7 * want.abs().max(0.1), "{got} {want}");
    }
}

#[test]
fn equals_the_tensor_ops_for_every_mixture_of_kinds() {
    draws::seed(1);
    let count = 100_003;
    let kinds = [Kind::Float, Kind::BFloat16];
    for param_kind in kinds {
        for grad_kind in kinds {
            for moment_kind in kinds {
                for with_master in [false, true] {
                    let exact = random(count, Kind::Float);
                    let make = || {
                        (
                            exact.to_kind(param_kind).copy(),
                            exact.copy(),
                            Tensor::zeros([count], (moment_kind, Device::Cpu)),
                            Tensor::zeros([count], (moment_kind, Device::Cpu)),
                        )
                    };
                    let (mut p, mut w, mut m, mut s) = make();
                    let (mut p2, mut w2, mut m2, mut s2) = make();
                    for i in 1..=3 {
                        let grad = random(count, grad_kind);
                        adamw_step(&mut p, with_master.then_some(&mut w), &grad, &mut m, &mut s, &step(i));
                        by_tensor_ops::adamw_step(
                            &mut p2,
                            with_master.then_some(&mut w2),
                            &grad,
                            &mut m2,
                            &mut s2,
                            &step(i),
                        );
                    }
                    // A last bit of bf16 may fall either way.
                    let limit = if param_kind == Kind::Float && moment_kind == Kind::Float { 1e-6 } else { 4e-2 };
                    assert!(difference(&p, &p2) < limit);
                    assert!(difference(&m, &m2) < if moment_kind == Kind::Float { 1e-6 } else { 2e-2 });
                    if with_master && moment_kind == Kind::Float {
                        assert!(difference(&w, &w2) < 1e-6);
                    }
                }
            }
        }
    }
}

#[test]
fn strided_gradients_take_the_tensor_ops() {
    let mut param = Tensor::zeros([3, 4], (Kind::Float, Device::Cpu));
    let (mut m, mut s) = (param.zeros_like(), param.zeros_like());
    let grad = Tensor::ones([4, 3], (Kind::Float, Device::Cpu)).transpose(0, 1);
    adamw_step(&mut param, None, &grad, &mut m, &mut s, &step(1));
    assert!(difference(&param, &(param.ones_like() * -1e-2)) < 1e-7);
}

#[test]
fn sum_of_squares_of_mixed_tensors() {
    draws::seed(2);
    let tensors =
        [random(200_001, Kind::Float), random(77, Kind::BFloat16), Tensor::zeros([0], (Kind::Float, Device::Cpu))];
    let want: f64 = tensors.iter().map(|t| t.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[])).sum();
    assert!((sum_of_squares(&tensors) - want).abs() < 1e-6 * want);
    assert!((by_tensor_ops::sum_of_squares(&tensors) - want).abs() < 1e-6 * want);
    assert_eq!(sum_of_squares(&[]), 0.0);
    assert!(sum_of_squares(&[Tensor::from_slice(&[f32::NAN])]).is_nan());
}
