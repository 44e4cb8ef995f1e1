use super::*;
use crate::draws;
use tch::{Device, Kind, Tensor};

/// Softmax attention in float64, written out.
pub(crate) fn oracle(q: &Tensor, k: &Tensor, v: &Tensor, visible: &Visible, scale: f64) -> Tensor {
    let group = q.size()[2] / k.size()[2];
    let wide = |t: &Tensor| t.to_kind(Kind::Double).transpose(1, 2);
    let (q, k, v) = (
        wide(q),
        wide(k).repeat_interleave_self_int(group, 1, None),
        wide(v).repeat_interleave_self_int(group, 1, None),
    );
    let mask = pieces::mask_of(visible, k.size()[2]).unsqueeze(1);
    let scores = (q.matmul(&k.transpose(2, 3)) * scale).masked_fill(&mask.logical_not(), -1e300);
    let weights = scores.softmax(-1, Kind::Double) * mask.to_kind(Kind::Double);
    weights.matmul(&v).transpose(1, 2).contiguous()
}

struct Case {
    batch: i64,
    q_len: i64,
    k_len: i64,
    heads: i64,
    kv_heads: i64,
    dim: i64,
    kind: Kind,
    own: bool,
    extra: i64,
    seed: i64,
}

/// Relative error of the largest kind: max |a - b| over max |b|.
fn difference(got: &Tensor, want: &Tensor) -> f64 {
    let want = want.to_kind(Kind::Double);
    let top = want.abs().max().double_value(&[]).max(0.05);
    (got.to_kind(Kind::Double) - want).abs().max().double_value(&[]) / top
}

fn leaf(t: &Tensor) -> Tensor {
    t.detach().copy().set_requires_grad(true)
}

/// Compares output and the three gradients with the oracle's.
fn check(case: &Case, start: &Tensor, end: &Tensor) {
    let Case { batch, q_len, k_len, heads, kv_heads, dim, kind, .. } = *case;
    draws::seed(case.seed);
    let random = |len: i64, heads: i64| draws::normal([batch, len, heads * dim + 32]).to_kind(kind);
    // Slices of wider rows: strides as a fused projection has them.
    let bases = [leaf(&random(q_len, heads)), leaf(&random(k_len, kv_heads)), leaf(&random(k_len, kv_heads))];
    let views = |bases: &[Tensor; 3]| {
        let cut = |t: &Tensor, h: i64| t.narrow(2, 16, h * dim).unflatten(2, [h, dim]);
        [cut(&bases[0], heads), cut(&bases[1], kv_heads), cut(&bases[2], kv_heads)]
    };
    let own = case.own.then(|| draws::integers(-5, k_len, start.size()));
    let extra = (case.extra > 0).then(|| draws::chance([1, q_len, case.extra], 0.3));
    let scale = 1.0 / (dim as f64).sqrt();
    let grad = draws::normal([batch, q_len, heads, dim]).to_kind(kind);

    let [q, k, v] = views(&bases);
    let visible = Visible { own, extra, ..Visible::ranges(start.shallow_clone(), end.shallow_clone()) };
    let out = range_attention(&q, &k, &v, &visible, scale);
    (&out * &grad).sum(Kind::Float).backward();
    let doubles = [0, 1, 2].map(|i: usize| leaf(&bases[i].to_kind(Kind::Double)));
    let [q, k, v] = views(&doubles);
    let want = oracle(&q, &k, &v, &visible, scale);
    (&want * &grad.to_kind(Kind::Double)).sum(Kind::Double).backward();

    let limit = if kind == Kind::Float { 1e-5 } else { 2e-2 };
    assert!(out.is_contiguous() && out.kind() == kind);
    let errors = [
        difference(&out, &want),
        difference(&bases[0].grad(), &doubles[0].grad()),
        difference(&bases[1].grad(), &doubles[1].grad()),
        difference(&bases[2].grad(), &doubles[2].grad()),
    ];
    assert!(
        errors.iter().all(|error| error.is_finite() && *error < limit),
        "errors {errors:?} (out, dq, dk, dv) for {batch}x{q_len}x{k_len} heads {heads}/{kv_heads} dim {dim} {kind:?} extra {}",
        case.extra
    );
}

fn causal(q_len: i64, k_len: i64) -> (Tensor, Tensor) {
    let end = Tensor::arange_start(k_len - q_len + 1, k_len + 1, (Kind::Int, Device::Cpu)).unsqueeze(0);
    (end.zeros_like(), end)
}

fn random_ranges(batch: i64, q_len: i64, k_len: i64, seed: i64) -> (Tensor, Tensor) {
    draws::seed(seed);
    let a = draws::integers(0, k_len + 1, [batch, q_len]);
    let b = draws::integers(0, k_len + 1, [batch, q_len]);
    (a.minimum(&b), a.maximum(&b))
}

#[test]
fn causal_lengths_groups_and_head_sizes() {
    let cases = [
        (1, 1, 1, 1, 1, 16),
        (1, 7, 7, 2, 1, 32),
        (2, 65, 65, 9, 3, 64),
        (1, 130, 400, 4, 4, 64),
        (1, 300, 300, 14, 2, 64),
        (1, 97, 333, 8, 1, 128),
        (2, 40, 50, 3, 3, 80),
    ];
    for (seed, (batch, q_len, k_len, heads, kv_heads, dim)) in cases.into_iter().enumerate() {
        for kind in [Kind::Float, Kind::BFloat16] {
            let (start, end) = causal(q_len, k_len);
            let seed = seed as i64;
            check(&Case { batch, q_len, k_len, heads, kv_heads, dim, kind, own: false, extra: 0, seed }, &start, &end);
        }
    }
}

#[test]
fn random_ranges_with_and_without_extra_keys() {
    for seed in 0..12 {
        let (batch, q_len, k_len) = (1 + seed % 2, 20 + 17 * seed, 150 + 31 * seed);
        let (start, end) = random_ranges(batch, q_len, k_len, seed);
        // Some rows see nothing by range.
        let end = end.where_self(&draws::chance([batch, q_len], 0.9), &start);
        for kind in [Kind::Float, Kind::BFloat16] {
            check(
                &Case {
                    batch,
                    q_len,
                    k_len,
                    heads: 6,
                    kv_heads: 2,
                    dim: 64,
                    kind,
                    own: seed % 4 > 1,
                    extra: (seed % 3) * 37,
                    seed,
                },
                &start,
                &end,
            );
        }
    }
}

#[test]
fn a_prefix_and_a_tree_behind_it() {
    draws::seed(5);
    let (prefix, tree) = (40, 23);
    let make = |heads: i64| draws::normal([1, prefix + tree, heads, 32]);
    let (q, k, v) = (make(4), make(2), make(2));
    let end = Tensor::arange_start(1, prefix + tree + 1, (Kind::Int, Device::Cpu)).clamp_max(prefix).unsqueeze(0);
    let start = end.zeros_like();
    let behind = draws::chance([1, tree, tree], 0.3);
    let behind = behind.logical_or(&Tensor::eye(tree, (Kind::Bool, Device::Cpu)));
    let extra = Tensor::cat(&[Tensor::zeros([1, prefix, tree], (Kind::Bool, Device::Cpu)), behind], 1);
    let visible = Visible { extra: Some(extra), ..Visible::ranges(start, end) };
    let want = oracle(&q, &k, &v, &visible, 0.2);
    let by_ops = by_tensor_ops::range_attention(&q, &k, &v, &visible, 0.2);
    let by_kernel = range_attention(&q, &k, &v, &visible, 0.2);
    assert!(difference(&by_ops, &want) < 1e-5 && difference(&by_kernel, &want) < 1e-5);
}

#[test]
fn earlier_columns_and_the_own_key() {
    draws::seed(6);
    let (background, branches, columns) = (30, 3, 9);
    let len = background + branches * columns;
    let make = |heads: i64| draws::normal([1, len, heads, 32]);
    let (q, k, v) = (make(4), make(2), make(2));
    let rows: Vec<i32> = (0..len as i32).collect();
    let end: Vec<i32> = rows.iter().map(|i| if *i < 30 { i + 1 } else { 30 + (i - 30) / 3 * 3 }).collect();
    let own: Vec<i32> = rows.iter().map(|i| if *i < 30 { -1 } else { *i }).collect();
    let int = |values: &[i32]| Tensor::from_slice(values).unsqueeze(0);
    let (end, own) = (int(&end), int(&own));
    let start = end.zeros_like();
    let visible = Visible { own: Some(own), ..Visible::ranges(start, end) };
    let want = oracle(&q, &k, &v, &visible, 0.2);
    let by_ops = by_tensor_ops::range_attention(&q, &k, &v, &visible, 0.2);
    let by_kernel = range_attention(&q, &k, &v, &visible, 0.2);
    assert!(difference(&by_ops, &want) < 1e-5 && difference(&by_kernel, &want) < 1e-5);
}

#[test]
fn rows_that_see_nothing_are_zero_and_give_no_gradient() {
    for kind in [Kind::Float, Kind::BFloat16, Kind::Double] {
        let make = |heads: i64| leaf(&draws::normal([1, 5, heads, 16]).to_kind(kind));
        let (q, k, v) = (make(2), make(1), make(1));
        let start = Tensor::from_slice(&[0i32, 2, 3, 5, 0]).unsqueeze(0);
        let end = Tensor::from_slice(&[5i32, 2, 1, 9, 3]).unsqueeze(0);
        let out = range_attention(&q, &k, &v, &Visible::ranges(start, end), 0.25);
        out.sum(Kind::Float).backward();
        for (row, empty) in [false, true, true, true, false].into_iter().enumerate() {
            let row = row as i64;
            assert_eq!(out.select(1, row).abs().max().double_value(&[]) == 0.0, empty);
            assert_eq!(q.grad().select(1, row).abs().max().double_value(&[]) == 0.0, empty);
        }
        assert!(k.grad().isfinite().all().int64_value(&[]) == 1);
    }
}

#[test]
fn decoding_against_a_long_cache_equals_the_whole_pass() {
    let (start, end) = causal(600, 600);
    for kind in [Kind::Float, Kind::BFloat16] {
        draws::seed(3);
        let make = |heads: i64| draws::normal([1, 600, heads, 64]).to_kind(kind);
        let (q, k, v) = (make(9), make(3), make(3));
        let whole = range_attention(&q, &k, &v, &Visible::ranges(start.shallow_clone(), end.shallow_clone()), 0.125);
        for rows in [1, 4, 8] {
            let at = 600 - rows;
            let part = range_attention(
                &q.narrow(1, at, rows),
                &k,
                &v,
                &Visible::ranges(start.narrow(1, at, rows), end.narrow(1, at, rows)),
                0.125,
            );
            let limit = if kind == Kind::Float { 1e-6 } else { 1e-2 };
            let difference = difference(&part, &whole.narrow(1, at, rows));
            assert!(difference < limit, "{kind:?}, {rows} rows: {difference}");
        }
    }
}

#[test]
fn wrong_shapes_say_what_was_wanted() {
    let q = Tensor::zeros([1, 3, 4, 16], (Kind::Float, Device::Cpu));
    let k = Tensor::zeros([1, 3, 3, 16], (Kind::Float, Device::Cpu));
    let (start, end) = causal(3, 3);
    let problem = fits(&q, &k, &k, &Visible::ranges(start, end)).unwrap_err();
    assert_eq!(problem, "4 query heads, wanted a multiple of the 3 key-value heads");
}

#[test]
fn packed_sequences_by_tensor_operations_need_no_common_mask() {
    draws::seed(11);
    let lengths = [5i64, 1, 9];
    let len: i64 = lengths.iter().sum();
    let random = |heads: i64| draws::normal([1, len, heads, 16]);
    let (q, k, v) = (random(4), random(2), random(2));
    let mut starts = Vec::new();
    for length in lengths {
        let first = starts.len() as i32;
        starts.extend(std::iter::repeat_n(first, length as usize));
    }
    let start = Tensor::from_slice(&starts).view([1, len]);
    let end = Tensor::arange_start(1, len + 1, (Kind::Int, Device::Cpu)).view([1, len]);
    let visible = Visible::ranges(start, end.shallow_clone());
    let got = by_tensor_ops::range_attention(&q, &k, &v, &visible, 0.25);
    assert!(difference(&got, &oracle(&q, &k, &v, &visible, 0.25)) < 1e-5);
    // A window that slides is no packing: the mask is there.
    let start = (end.shallow_clone() - 3).clamp_min(0);
    let visible = Visible::ranges(start, end);
    let got = by_tensor_ops::range_attention(&q, &k, &v, &visible, 0.25);
    assert!(difference(&got, &oracle(&q, &k, &v, &visible, 0.25)) < 1e-5);
}

/// What a batch of ONE-PASS's prompts reads: prompts, then a tree of each, which sees its own prompt and its ancestors.
#[test]
fn trees_of_several_prompts_by_tensor_operations_need_no_common_mask() {
    draws::seed(12);
    let (prompts, trees) = ([40i64, 30, 50], [33i64, 20, 17]);
    let (read, behind): (i64, i64) = (prompts.iter().sum(), trees.iter().sum());
    let (mut starts, mut ends, mut extra) = (Vec::new(), Vec::new(), Vec::new());
    let mut first = 0;
    for prompt in prompts {
        starts.extend((0..prompt).map(|_| first as i32));
        ends.extend((0..prompt).map(|i| (first + i + 1) as i32));
        extra.push(Tensor::zeros([prompt, behind], (Kind::Bool, Device::Cpu)));
        first += prompt;
    }
    let (mut first, mut column) = (0, 0);
    for (prompt, tree) in prompts.into_iter().zip(trees) {
        starts.extend((0..tree).map(|_| first as i32));
        ends.extend((0..tree).map(|_| (first + prompt) as i32));
        let own = draws::chance([tree, tree], 0.3).logical_or(&Tensor::eye(tree, (Kind::Bool, Device::Cpu)));
        extra.push(own.constant_pad_nd([column, behind - column - tree, 0, 0]));
        (first, column) = (first + prompt, column + tree);
    }
    let row = |bound: &[i32]| Tensor::from_slice(bound).unsqueeze(0);
    let extra = Tensor::cat(&extra, 0).unsqueeze(0);
    let len = read + behind;
    let make = |heads: i64| draws::normal([1, len, heads, 32]);
    let (q, k, v) = (make(4), make(2), make(2));
    let visible = Visible { extra: Some(extra), ..Visible::ranges(row(&starts), row(&ends)) };
    let want = oracle(&q, &k, &v, &visible, 0.2);
    let cut = |visible: &Visible, keys: i64| -> Vec<(i64, i64, bool)> {
        let of = |piece: &Piece| (piece.rows.1, piece.keys.iter().map(|keys| keys.1).sum(), piece.is_causal());
        visible.with_pieces(keys, Device::Cpu, |pieces| pieces.iter().map(of).collect())
    };
    for _ in 0..2 {
        // The second layer takes the pieces of the first.
        let got = by_tensor_ops::range_attention(&q, &k, &v, &visible, 0.2);
        assert!(difference(&got, &want) < 1e-5 && got.size() == q.size());
    }
    let causal = prompts.map(|prompt| (prompt, prompt, true));
    let masked: Vec<_> = prompts.iter().zip(trees).map(|(prompt, tree)| (tree, prompt + tree, false)).collect();
    assert_eq!(cut(&visible, len), [&causal[..], &masked].concat());
    // Some rows alone, as the last layer computes them, and more keys than the pieces were made for.
    let rows = Tensor::arange_start_step(read, len, 2, (Kind::Int64, Device::Cpu));
    let some = visible.select(&rows);
    let got = by_tensor_ops::range_attention(&q.index_select(1, &rows), &k, &v, &some, 0.2);
    assert!(difference(&got, &want.index_select(1, &rows)) < 1e-5);
    let longer = |t: &Tensor| Tensor::cat(&[draws::normal([1, 7, 2, 32]), t.shallow_clone()], 1);
    let (k, v) = (longer(&k), longer(&v));
    let got = by_tensor_ops::range_attention(&q, &k, &v, &visible, 0.2);
    assert!(difference(&got, &oracle(&q, &k, &v, &visible, 0.2)) < 1e-5);
    // A sliding window begins later in deeper rows: what it leaves out is in the trees' own masks.
    let start = &visible.start + Tensor::arange(len, (Kind::Int, Device::Cpu)).remainder(5).unsqueeze(0);
    let slid = Visible {
        extra: visible.extra.as_ref().map(Tensor::shallow_clone),
        ..Visible::ranges(start, visible.end.shallow_clone())
    };
    let (k, v) = (k.narrow(1, 7, len), v.narrow(1, 7, len));
    let got = by_tensor_ops::range_attention(&q, &k, &v, &slid, 0.2);
    assert!(difference(&got, &oracle(&q, &k, &v, &slid, 0.2)) < 1e-5);
    assert_eq!(cut(&slid, len).len(), 4, "prompts together, trees one by one");
}
