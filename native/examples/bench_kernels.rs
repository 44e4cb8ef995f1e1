//! Milliseconds of each fused operation beside the same work through libtorch's own operations, in one run.
//!
//! `cargo run --release -p monopass-native --example bench_kernels [-- FILTER]`; threads as `OMP_NUM_THREADS` says, else all
//! cores. Shapes are SmolLM2-135M's with a prompt of 1,500 and 80 label tokens. Each figure is the least (and the median)
//! of repeated runs.

use monopass_native::attention::Visible;
use monopass_native::{attention, ops, optim};
use std::time::Instant;
use tch::{Device, Kind, Tensor};

const SEQ: i64 = 1580;
const HIDDEN: i64 = 576;
const HEADS: i64 = 9;
const KV_HEADS: i64 = 3;
const DIM: i64 = 64;
const INTERMEDIATE: i64 = 1536;
const VOCAB: i64 = 49_152;

/// Milliseconds: least and median of at least `repeats` runs, after one to warm up.
fn time(repeats: usize, mut work: impl FnMut()) -> (f64, f64) {
    work();
    let mut seconds: Vec<f64> = (0..repeats)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    (seconds[0], seconds[seconds.len() / 2])
}

/// Prints a line for an operation and its twin, timed in turns so that both meet the same machine.
fn compare(filter: &str, name: &str, mut ours: impl FnMut(), mut theirs: impl FnMut()) {
    if !name.contains(filter) {
        return;
    }
    let (mut best, mut other) = ((f64::MAX, f64::MAX), (f64::MAX, f64::MAX));
    for _ in 0..3 {
        let (a, b) = (time(5, &mut ours), time(5, &mut theirs));
        best = (best.0.min(a.0), best.1.min(a.1));
        other = (other.0.min(b.0), other.1.min(b.1));
    }
    println!(
        "{name:<44} {:>9.3} ({:>9.3})   {:>9.3} ({:>9.3})   {:>6.2}x",
        best.0,
        best.1,
        other.0,
        other.1,
        other.0 / best.0
    );
}

fn bf16(size: &[i64]) -> Tensor {
    (Tensor::randn(size, (Kind::Float, Device::Cpu)) * 0.5).to_kind(Kind::BFloat16)
}

fn leaf(size: &[i64]) -> Tensor {
    bf16(size).set_requires_grad(true)
}

fn sdpa(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    let (q, k, v) = (q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2));
    let group = q.size()[1] / k.size()[1];
    let (k, v) = (k.repeat_interleave_self_int(group, 1, None), v.repeat_interleave_self_int(group, 1, None));
    Tensor::scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, true, None, false).transpose(1, 2)
}

/// Forward and backward from a fixed gradient.
fn train(make: &dyn Fn() -> Tensor, grad: &Tensor, leaves: &mut [Tensor]) {
    for leaf in leaves.iter_mut() {
        leaf.zero_grad();
    }
    (make() * grad).sum(Kind::Float).backward();
}

fn bench_attention(filter: &str) {
    let end = Tensor::arange_start(1, SEQ + 1, (Kind::Int, Device::Cpu)).unsqueeze(0);
    let start = end.zeros_like();
    let (q, k, v) = (leaf(&[1, SEQ, HEADS, DIM]), leaf(&[1, SEQ, KV_HEADS, DIM]), leaf(&[1, SEQ, KV_HEADS, DIM]));
    let scale = 1.0 / (DIM as f64).sqrt();
    let causal = Visible::ranges(start.shallow_clone(), end.shallow_clone());
    let ours = |q: &Tensor, k: &Tensor, v: &Tensor| attention::range_attention(q, k, v, &causal, scale);
    tch::no_grad(|| {
        compare(filter, "attention forward", || drop(ours(&q, &k, &v)), || drop(sdpa(&q, &k, &v)));
        for rows in [1, 4] {
            let at = SEQ - rows;
            let q = q.narrow(1, at, rows);
            let visible = Visible::ranges(start.narrow(1, at, rows), end.narrow(1, at, rows));
            let name = format!("attention decode, {rows} rows");
            compare(
                filter,
                &name,
                || drop(attention::range_attention(&q, &k, &v, &visible, scale)),
                || {
                    drop(Tensor::scaled_dot_product_attention(
                        &q.transpose(1, 2),
                        &k.transpose(1, 2),
                        &v.transpose(1, 2),
                        None::<Tensor>,
                        0.0,
                        false,
                        None,
                        true,
                    ));
                },
            );
        }
    });
    let grad = bf16(&[1, SEQ, HEADS, DIM]);
    let leaves = || [q.shallow_clone(), k.shallow_clone(), v.shallow_clone()];
    compare(
        filter,
        "attention forward and backward",
        || train(&|| ours(&q, &k, &v), &grad, &mut leaves()),
        || train(&|| sdpa(&q, &k, &v), &grad, &mut leaves()),
    );
}

fn bench_elementwise(filter: &str) {
    let (x, weight) = (leaf(&[SEQ, HIDDEN]), leaf(&[HIDDEN]));
    let plain_norm = || {
        let wide = x.to_kind(Kind::Float);
        let mean = (&wide * &wide).mean_dim([-1i64].as_slice(), true, Kind::Float);
        (wide * (mean + 1e-5).rsqrt()).to_kind(Kind::BFloat16) * &weight
    };
    let grad = bf16(&[SEQ, HIDDEN]);
    let leaves = || [x.shallow_clone(), weight.shallow_clone()];
    tch::no_grad(|| {
        compare(filter, "rms_norm forward", || drop(ops::rms_norm(&x, &weight, 1e-5)), || drop(plain_norm()))
    });
    compare(
        filter,
        "rms_norm forward and backward",
        || train(&|| ops::rms_norm(&x, &weight, 1e-5), &grad, &mut leaves()),
        || train(&plain_norm, &grad, &mut leaves()),
    );

    let gate_up = leaf(&[SEQ, 2 * INTERMEDIATE]);
    let plain_silu = || {
        let halves = gate_up.chunk(2, -1);
        halves[0].silu() * &halves[1]
    };
    let grad = bf16(&[SEQ, INTERMEDIATE]);
    tch::no_grad(|| compare(filter, "silu_mul forward", || drop(ops::silu_mul(&gate_up)), || drop(plain_silu())));
    compare(
        filter,
        "silu_mul forward and backward",
        || train(&|| ops::silu_mul(&gate_up), &grad, &mut [gate_up.shallow_clone()]),
        || train(&plain_silu, &grad, &mut [gate_up.shallow_clone()]),
    );

    let qkv = leaf(&[1, SEQ, (HEADS + 2 * KV_HEADS) * DIM]);
    let angles = Tensor::rand([1, SEQ, DIM / 2], (Kind::Float, Device::Cpu));
    let (cos, sin) = (angles.cos(), angles.sin());
    let plain_rope = || {
        let part = |at: i64, heads: i64| qkv.narrow(2, at * DIM, heads * DIM).unflatten(2, [heads, DIM]);
        let turn = |x: Tensor| {
            let halves = x.to_kind(Kind::Float).chunk(2, -1);
            let (cos, sin) = (cos.unsqueeze(2), sin.unsqueeze(2));
            Tensor::cat(&[&halves[0] * &cos - &halves[1] * &sin, &halves[1] * &cos + &halves[0] * &sin], -1)
                .to_kind(Kind::BFloat16)
        };
        (turn(part(0, HEADS)), turn(part(HEADS, KV_HEADS)), part(HEADS + KV_HEADS, KV_HEADS))
    };
    let join = |(q, k, v): (Tensor, Tensor, Tensor)| Tensor::cat(&[q, k, v], 2);
    let grad = bf16(&[1, SEQ, HEADS + 2 * KV_HEADS, DIM]);
    tch::no_grad(|| {
        compare(
            filter,
            "rope_qkv forward",
            || drop(ops::rope_qkv(&qkv, &cos, &sin, HEADS, KV_HEADS)),
            || drop(plain_rope()),
        )
    });
    compare(
        filter,
        "rope_qkv forward and backward",
        || train(&|| join(ops::rope_qkv(&qkv, &cos, &sin, HEADS, KV_HEADS)), &grad, &mut [qkv.shallow_clone()]),
        || train(&|| join(plain_rope()), &grad, &mut [qkv.shallow_clone()]),
    );

    let logits = leaf(&[80, VOCAB]);
    let labels = Tensor::randint(VOCAB, [80], (Kind::Int64, Device::Cpu));
    let plain =
        || logits.to_kind(Kind::Float).cross_entropy_loss(&labels, None::<Tensor>, tch::Reduction::Sum, -100, 0.0);
    let one = Tensor::ones([1], (Kind::Float, Device::Cpu));
    compare(
        filter,
        "cross_entropy_sum forward and backward",
        || train(&|| ops::cross_entropy_sum(&logits, &labels), &one, &mut [logits.shallow_clone()]),
        || train(&plain, &one, &mut [logits.shallow_clone()]),
    );
}

fn bench_optim(filter: &str) {
    let count = 20_000_000;
    let float = |kind: Kind| Tensor::rand([count], (Kind::Float, Device::Cpu)).to_kind(kind);
    let (mut param, grad) = (float(Kind::BFloat16), float(Kind::BFloat16));
    let (mut master, mut mean, mut square) = (float(Kind::Float), float(Kind::Float), float(Kind::Float));
    let (mut p, g) = (float(Kind::Float), float(Kind::Float));
    let (mut m, mut s) = (float(Kind::Float), float(Kind::Float));
    let step = optim::AdamWStep {
        step: 3,
        lr: 1e-5,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.01,
        grad_scale: 1.0,
    };
    compare(
        filter,
        "adamw_step, 20 M, bf16 with masters",
        || optim::adamw_step(&mut param, Some(&mut master), &grad, &mut mean, &mut square, &step),
        || {
            let _ = m.lerp_(&g, 0.1);
            s *= 0.999;
            s += &g * &g * 0.001;
            p -= &m / (s.sqrt() + 1e-8) * 1e-5;
        },
    );
    let grads = [grad];
    compare(
        filter,
        "sum_of_squares, 20 M bf16",
        || assert!(optim::sum_of_squares(&grads) > 0.0),
        || assert!(grads[0].to_kind(Kind::Float).square().sum(Kind::Double).double_value(&[]) > 0.0),
    );
}

fn bench_linear(filter: &str) {
    // One layer's weights of four layers in turn, so that they come from memory as in a real pass.
    let shapes = [(960, HIDDEN), (HIDDEN, HIDDEN), (2 * INTERMEDIATE, HIDDEN), (HIDDEN, INTERMEDIATE)];
    let layers: Vec<Tensor> = (0..30).flat_map(|_| shapes.map(|(o, i)| bf16(&[o, i]))).collect();
    for rows in [1, 2, 4, 5, 8, 16, 64, 128, 256, 480, 1500, 1980] {
        let inputs = [bf16(&[rows, HIDDEN]), bf16(&[rows, INTERMEDIATE])];
        let input = |w: &Tensor| if w.size()[1] == HIDDEN { &inputs[0] } else { &inputs[1] };
        let name = format!("linear, 30 layers (212 MB), {rows} rows");
        tch::no_grad(|| {
            compare(
                filter,
                &name,
                || layers.iter().for_each(|w| drop(ops::linear(input(w), w, None))),
                || layers.iter().for_each(|w| drop(input(w).linear(w, None::<Tensor>))),
            );
        });
    }
    let (w, x) = (bf16(&[VOCAB, HIDDEN]), bf16(&[1, HIDDEN]));
    tch::no_grad(|| {
        compare(
            filter,
            "linear, output layer, 1 row",
            || drop(ops::linear(&x, &w, None)),
            || drop(x.linear(&w, None::<Tensor>)),
        );
    });
}

fn main() {
    monopass_native::runtime::init();
    let filter = std::env::args().nth(1).unwrap_or_default();
    println!("{} threads; ms: least (median)", tch::get_num_threads());
    println!("{:<44} {:>21}   {:>21}   {:>7}", "", "monopass", "libtorch", "ratio");
    bench_attention(&filter);
    bench_elementwise(&filter);
    bench_optim(&filter);
    bench_linear(&filter);
}
