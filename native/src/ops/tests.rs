use super::*;
use crate::draws;
use tch::{Device, Kind, Tensor};

const KINDS: [Kind; 2] = [Kind::Float, Kind::BFloat16];

fn random(size: &[i64], kind: Kind) -> Tensor {
    draws::normal(size).to_kind(kind)
}

fn leaf(t: &Tensor) -> Tensor {
    t.detach().copy().set_requires_grad(true)
}

/// max |got - want| over max |want|.
fn difference(got: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(got.size(), want.size());
    let want = want.to_kind(Kind::Double);
    let top = want.abs().max().double_value(&[]).max(1e-6);
    (got.to_kind(Kind::Double) - want).abs().max().double_value(&[]) / top
}

/// Runs `ours` on `inputs` and `twin` on float64 copies; compares results and gradients of all inputs.
fn check(inputs: &[Tensor], kind: Kind, ours: impl Fn(&[Tensor]) -> Tensor, twin: impl Fn(&[Tensor]) -> Tensor) {
    let leaves: Vec<_> = inputs.iter().map(leaf).collect();
    let doubles: Vec<_> = inputs.iter().map(|t| leaf(&t.to_kind(Kind::Double))).collect();
    let (got, want) = (ours(&leaves), twin(&doubles));
    // Drawn once for both: the generator is the process's, and other tests draw from it meanwhile.
    let grad = random(&got.size(), kind);
    for out in [&got, &want] {
        (out * grad.to_kind(out.kind())).sum(Kind::Double).backward();
    }
    let limit = if kind == Kind::Float { 2e-6 } else { 1.6e-2 };
    let error = difference(&got, &want);
    assert!(error < limit, "output of {kind:?}: {error}");
    for (i, (got, want)) in leaves.iter().zip(&doubles).enumerate() {
        let error = difference(&got.grad(), &want.grad());
        assert!(error < limit, "gradient {i} of {kind:?}: {error}");
    }
}

#[test]
fn rms_norm_equals_its_twin() {
    draws::seed(1);
    for kind in KINDS {
        for (rows, hidden) in [(1, 16), (300, 576), (70, 50)] {
            let inputs = [random(&[2, rows, hidden], kind), random(&[hidden], kind) + 1.0];
            check(&inputs, kind, |t| rms_norm(&t[0], &t[1], 1e-5), |t| by_tensor_ops::rms_norm(&t[0], &t[1], 1e-5));
        }
        // The same roundings in the same places: bf16 results equal the twin's but for a last bit where float32 sums differ.
        let (x, w) = (random(&[64, 576], kind), random(&[576], kind));
        assert!(difference(&rms_norm(&x, &w, 1e-5), &by_tensor_ops::rms_norm(&x, &w, 1e-5)) < 4e-3);
    }
}

#[test]
fn rms_norm_of_strided_heads_and_frozen_weight() {
    draws::seed(2);
    let (base, weight) = (leaf(&random(&[2, 5, 96], Kind::Float)), random(&[16], Kind::Float));
    let heads = base.narrow(2, 16, 64).unflatten(2, [4, 16]);
    let out = rms_norm(&heads, &weight, 1e-6);
    assert!(difference(&out, &by_tensor_ops::rms_norm(&heads, &weight, 1e-6)) < 1e-6);
    out.sum(Kind::Float).backward();
    assert!(base.grad().narrow(2, 0, 16).abs().max().double_value(&[]) == 0.0);
}

#[test]
fn silu_mul_equals_its_twin() {
    draws::seed(3);
    for kind in KINDS {
        for width in [16, 1536, 42] {
            check(
                &[random(&[3, 20, 2 * width], kind) * 3.0],
                kind,
                |t| silu_mul(&t[0]),
                |t| by_tensor_ops::silu_mul(&t[0]),
            );
        }
    }
    let extremes = Tensor::from_slice(&[-1e4f32, 1e4, -90.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
    let got = Vec::<f32>::try_from(silu_mul(&extremes)).unwrap();
    assert_eq!(got, [0.0, 1e4, got[2], 0.0]);
    assert!(got[2].abs() < 1e-30);
}

#[test]
fn rope_equals_its_twin_for_views_of_a_fused_projection() {
    draws::seed(4);
    for kind in KINDS {
        for (batch, angles, dim) in [(1, 1, 64), (3, 3, 128), (2, 1, 20)] {
            let (seq, heads, kv) = (33, 3, 1);
            let angle = random(&[angles, seq, dim / 2], Kind::Float) * 10.0;
            let (cos, sin) = (angle.cos(), angle.sin());
            let qkv = random(&[batch, seq, (heads + 2 * kv) * dim], kind);
            let view = |t: &Tensor| t.narrow(2, 0, heads * dim).unflatten(2, [heads, dim]);
            check(
                &[qkv.shallow_clone()],
                kind,
                |t| rope(&view(&t[0]), &cos, &sin),
                |t| by_tensor_ops::rope(&view(&t[0]), &cos, &sin),
            );
            check(
                &[qkv],
                kind,
                |t| {
                    let (q, k, v) = rope_qkv(&t[0], &cos, &sin, heads, kv);
                    Tensor::cat(&[q, k, v], 2)
                },
                |t| {
                    let part =
                        |first: i64, count: i64| t[0].narrow(2, first * dim, count * dim).unflatten(2, [count, dim]);
                    let turn = |x: Tensor| by_tensor_ops::rope(&x, &cos, &sin);
                    Tensor::cat(&[turn(part(0, heads)), turn(part(heads, kv)), part(heads + kv, kv)], 2)
                },
            );
        }
    }
}

#[test]
fn rope_qkv_takes_a_gradient_of_one_part_only() {
    let qkv = leaf(&random(&[1, 4, 4 * 16], Kind::Float));
    let angle = random(&[1, 4, 8], Kind::Float);
    let (_, k, _) = rope_qkv(&qkv, &angle.cos(), &angle.sin(), 2, 1);
    k.square().sum(Kind::Float).backward();
    let grad = qkv.grad();
    assert!(difference(&grad.narrow(2, 32, 16), &(qkv.narrow(2, 32, 16) * 2.0)) < 1e-5);
    assert!(grad.narrow(2, 0, 32).abs().max().double_value(&[]) == 0.0);
    assert!(grad.narrow(2, 48, 16).abs().max().double_value(&[]) == 0.0);
}

#[test]
fn cross_entropy_equals_its_twin_and_ignores_unlabelled_rows() {
    draws::seed(5);
    for kind in KINDS {
        let labels = Tensor::from_slice(&[0i64, 999, -100, 17, 3]);
        check(
            &[random(&[5, 1000], kind) * 4.0],
            kind,
            |t| cross_entropy_sum(&t[0], &labels),
            |t| by_tensor_ops::cross_entropy_sum(&t[0], &labels),
        );
        let logits = leaf(&random(&[5, 1000], kind));
        cross_entropy_sum(&logits, &labels).backward();
        assert!(logits.grad().get(2).abs().max().double_value(&[]) == 0.0);
    }
}

/// A damaged row of the output layer must not look like a good loss.
#[test]
fn a_logit_that_is_no_number_makes_the_loss_none() {
    for column in [3, 999] {
        let logits = random(&[2, 1000], Kind::Float);
        let _ = logits.select(0, 0).select(0, column).fill_(f64::NAN);
        let logits = leaf(&logits);
        let loss = cross_entropy_sum(&logits, &Tensor::from_slice(&[5i64, 7]));
        assert!(loss.double_value(&[]).is_nan());
        loss.backward();
        assert!(logits.grad().double_value(&[0, 5]).is_nan() && !logits.grad().double_value(&[1, 5]).is_nan());
    }
}

#[test]
#[should_panic(expected = "label 1000 of row 1, wanted 0 <= label < 1000")]
fn cross_entropy_refuses_a_label_outside_the_vocabulary() {
    let _ = cross_entropy_sum(&random(&[2, 1000], Kind::Float), &Tensor::from_slice(&[1i64, 1000]));
}

#[test]
fn linear_equals_the_product() {
    draws::seed(6);
    for kind in KINDS {
        // Every kernel, with inputs that are no multiple of a vector and outputs that are none of a tile where it takes them.
        for (rows, input, output) in [
            (1, 576, 960),
            (1, 40, 5),
            (2, 33, 6),
            (3, 1536, 576),
            (4, 576, 33),
            (5, 576, 30),
            (7, 40, 5),
            (16, 33, 130),
            (17, 64, 64),
            (70, 33, 130),
            (256, 64, 128),
            (259, 192, 64),
            (1021, 128, 64),
        ] {
            let (x, w, b) = (random(&[1, rows, input], kind), random(&[output, input], kind), random(&[output], kind));
            let want = |b: Option<&Tensor>| {
                let wide = |t: &Tensor| t.to_kind(Kind::Double);
                wide(&x).linear(&wide(&w), b.map(wide).as_ref())
            };
            let limit = if kind == Kind::Float { 1e-6 } else { 8e-3 };
            assert!(difference(&linear(&x, &w, None), &want(None)) < limit);
            assert!(difference(&linear(&x, &w, Some(&b)), &want(Some(&b))) < limit);
        }
    }
}

#[test]
fn a_gated_product_has_the_bits_of_product_and_gate() {
    draws::seed(7);
    for kind in KINDS {
        for (rows, input, width) in [(1, 40, 12), (150, 64, 96), (301, 128, 64), (257, 192, 32), (140, 40, 20)] {
            let (x, w) = (random(&[1, rows, input], kind), random(&[2 * width, input], kind));
            let gated = tch::no_grad(|| gated_linear(&x, &w));
            assert_eq!(gated, silu_mul(&linear(&x, &w, None)), "{rows} {input} {width}");
            let (x, w) = (leaf(&x), leaf(&w));
            gated_linear(&x, &w).sum(kind).backward();
            assert_eq!((x.grad().size(), w.grad().size()), (x.size(), w.size()));
        }
    }
}

#[test]
fn linear_keeps_gradients() {
    let (x, w) = (leaf(&random(&[2, 8], Kind::Float)), leaf(&random(&[4, 8], Kind::Float)));
    linear(&x, &w, None).sum(Kind::Float).backward();
    assert!(difference(&w.grad(), &x.sum_dim_intlist([0i64].as_slice(), true, None).expand([4, 8], false)) < 1e-6);
    assert_eq!(x.grad().size(), [2, 8]);
}

#[test]
fn linear_of_many_rows_has_the_gradients_of_the_product() {
    draws::seed(8);
    // What the packed product takes, and what it does not.
    for (kind, rows, input, output) in
        KINDS.iter().flat_map(|kind| [(*kind, 80, 33, 24), (*kind, 150, 192, 128), (*kind, 163, 64, 448)])
    {
        let limit = if kind == Kind::Float { 1e-5 } else { 1e-2 };
        let tensors = [
            random(&[1, rows, input], kind),
            random(&[output, input], kind),
            random(&[output], kind),
            random(&[1, rows, output], kind),
        ];
        let gradients = |kind: Kind| {
            let [x, w, b] = [0, 1, 2].map(|i| leaf(&tensors[i].to_kind(kind)));
            (linear(&x, &w, Some(&b)) * tensors[3].to_kind(kind)).sum(kind).backward();
            [x.grad(), w.grad(), b.grad()]
        };
        for (own, wide) in gradients(kind).iter().zip(gradients(Kind::Double)) {
            assert!(own.kind() == kind && difference(own, &wide) < limit);
        }
        // A frozen weight gets none, and the input still does.
        let x = leaf(&tensors[0]);
        linear(&x, &tensors[1], None).sum(kind).backward();
        assert_eq!(x.grad().size(), x.size());
    }
}

/// As adapters add to a slice of a frozen layer's output.
#[test]
fn a_products_output_may_be_added_to_in_place() {
    draws::seed(10);
    let (x, w) = (leaf(&random(&[1, 150, 64], Kind::BFloat16)), random(&[128, 64], Kind::BFloat16));
    let delta = leaf(&random(&[1, 150, 64], Kind::BFloat16));
    let out = linear(&x, &w, None);
    let _ = out.narrow(-1, 64, 64).g_add_(&delta);
    out.sum(Kind::BFloat16).backward();
    assert_eq!(delta.grad(), delta.ones_like());
    let want = w.to_kind(Kind::Double).sum_dim_intlist([0i64].as_slice(), false, None);
    assert!(difference(&x.grad(), &want.expand([1, 150, 64], false)) < 1e-2);
}

#[test]
fn dropout_is_a_pure_function_of_its_seed() {
    let x = leaf(&Tensor::ones([100, 100], (Kind::Float, Device::Cpu)));
    let draws: Vec<Tensor> = std::thread::scope(|scope| {
        let threads: Vec<_> = [1, 2, 1, 2]
            .map(|seed| (seed, x.shallow_clone()))
            .into_iter()
            .map(|(seed, x)| scope.spawn(move || (0..20).fold(x.detach(), |_, _| dropout(&x, 0.25, seed))))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(draws[0], draws[2]);
    assert_eq!(draws[1], draws[3]);
    assert_ne!(draws[0], draws[1]);
    let kept = draws[0].count_nonzero(None).int64_value(&[]);
    assert!((7_200..7_800).contains(&kept), "{kept} of 10000 kept");
    draws[0].sum(Kind::Float).backward();
    assert_eq!(x.grad(), draws[0].detach(), "the gradient of ones is the mask");
}

/// Scores, rows taken (batch 0 none, batch 1 all) and a gradient of the counts.
fn attention_case() -> (Tensor, Tensor, Tensor) {
    draws::seed(9);
    let taken = random(&[2, 4, 7], Kind::Float).gt(0.0);
    let _ = (taken.get(0).get(0).fill_(0), taken.get(0).get(1).fill_(1));
    (random(&[2, 4, 7, 7], Kind::Float) * 20.0, taken, random(&[2, 4, 7], Kind::Float))
}

#[test]
fn attention_counts_are_those_of_a_masked_softmax_and_so_are_gradients() {
    let (scores, taken, weight) = attention_case();
    let run = |kind: Kind, call: &dyn Fn(&Tensor) -> Tensor| {
        let scores = leaf(&scores.to_kind(kind));
        let counts = call(&scores);
        (&counts * weight.to_kind(kind)).sum(kind).backward();
        (counts, scores.grad())
    };
    let (counts, grad) = run(Kind::Float, &|scores| attention_counts(scores, &taken, None));
    let (wanted, wanted_grad) = run(Kind::Double, &|scores| by_tensor_ops::attention_counts(scores, &taken, None));
    assert!(difference(&counts, &wanted) < 1e-6 && difference(&grad, &wanted_grad) < 1e-6);
    let numbers = taken.sum_dim_intlist(-1, false, Kind::Double);
    assert!(difference(&counts.sum_dim_intlist(-1, false, Kind::Double), &(numbers * 2.0)) < 1e-6);
}

#[test]
fn dropped_attention_is_missing_from_counts_and_gradients_alike() {
    let (_, taken, weight) = attention_case();
    let (taken, scores) = (taken.ones_like(), Tensor::zeros([2, 4, 7, 7], (Kind::Float, Device::Cpu)));
    let counts = |seed| attention_counts(&scores, &taken, Some((0.25, seed)));
    assert_eq!(counts(3), counts(3));
    assert_ne!(counts(3), counts(4));
    let share = (1..=200).map(|seed| counts(seed).mean(Kind::Double).double_value(&[]) - 1.0).sum::<f64>() / 200.0;
    assert!((share - 1.0).abs() < 0.02, "what is kept makes up for what is dropped: {share}");
    // The counts are linear in each score near 0: their slope is the gradient.
    let leaf = leaf(&scores);
    (attention_counts(&leaf, &taken, Some((0.25, 3))) * &weight).sum(Kind::Float).backward();
    for place in [[0, 0, 0, 0], [0, 2, 3, 6], [1, 3, 6, 1]] {
        let moved = |by: f64| {
            let scores = scores.copy();
            let _ = place.iter().fold(scores.shallow_clone(), |at, index| at.get(*index)).fill_(by);
            let counts = attention_counts(&scores, &taken, Some((0.25, 3)));
            (counts.to_kind(Kind::Double) * &weight).sum(Kind::Double).double_value(&[])
        };
        let slope = (moved(0.01) - moved(-0.01)) / 0.02;
        assert!((leaf.grad().double_value(&place) - slope).abs() < 1e-4, "{place:?}: {slope}");
    }
}

/// The processor decides on vectors and products; here every way that it has is taken, each in a process of its own.
#[test]
fn operations_and_attention_are_right_whichever_way_they_are_computed() {
    const VECTORS: &str = "MONOPASS_VECTORS";
    if std::env::var_os(VECTORS).is_some() {
        return;
    }
    for (vectors, products) in [
        ("none", "float32"),
        ("avx2", "float32"),
        ("avx2", "packed"),
        ("avx512f", "float32"),
        ("avx512", "libtorch"),
        ("avx512", "float32"),
        ("avx512", "packed"),
    ] {
        let mut tests = std::process::Command::new(std::env::current_exe().unwrap());
        tests.args(["ops::tests", "attention::tests", "optim::tests"]);
        let run = tests.env(VECTORS, vectors).env("MONOPASS_PRODUCTS", products).output().unwrap();
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(
            run.status.success() && text.contains("linear_equals_the_product ... ok"),
            "{vectors} {products}: {text}"
        );
    }
}
