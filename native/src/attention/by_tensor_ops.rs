//! Range attention through libtorch's scaled dot-product attention: any device, any kind.

use tch::{Device, Kind, Tensor};

use super::Visible;

/// See [`super::range_attention`].
pub(super) fn range_attention(q: &Tensor, k: &Tensor, v: &Tensor, visible: &Visible, scale: f64) -> Tensor {
    let (q_len, k_len) = (q.size()[1], k.size()[1]);
    if q.numel() == 0 || k_len == 0 {
        return q * 0.0;
    }
    if let Some(rows) = prefix_rows(visible, k_len) {
        // A prefix before a tree or columns needs no mask over them: there is no dense square of the two together.
        let before = |t: &Tensor| t.narrow(1, 0, rows);
        let behind = |t: &Tensor| t.narrow(1, rows, q_len - rows);
        let last = visible.end.narrow(1, 0, rows).max().int64_value(&[]);
        let own_keys = |t: &Tensor| t.narrow(1, 0, last);
        let (start, end) = (before(visible.start), before(visible.end));
        let head = range_attention(&before(q), &own_keys(k), &own_keys(v), &Visible::ranges(&start, &end), scale);
        let (start, end) = (behind(visible.start), behind(visible.end));
        let (own, extra) = (visible.own.map(behind), visible.extra.map(behind));
        let rest = Visible { start: &start, end: &end, own: own.as_ref(), extra: extra.as_ref() };
        return Tensor::cat(&[head, range_attention(&behind(q), k, v, &rest, scale)], 1);
    }
    let ranges_only = visible.own.is_none() && visible.extra.is_none();
    if let Some(bounds) = sequences(visible.start, visible.end, k_len).filter(|bounds| ranges_only && bounds.len() > 2)
    {
        // Packed sequences one by one: each is causal, and no mask holds the squares of them all.
        let parts = bounds.windows(2).map(|pair| {
            let own = |t: &Tensor| t.narrow(1, pair[0], pair[1] - pair[0]);
            let (start, end) = (own(visible.start) - pair[0], own(visible.end) - pair[0]);
            range_attention(&own(q), &own(k), &own(v), &Visible::ranges(&start, &end), scale)
        });
        return Tensor::cat(&parts.collect::<Vec<_>>(), 1);
    }
    let heads_per_kv = q.size()[2] / k.size()[2];
    let half_on_gpu = q.device() != Device::Cpu && matches!(q.kind(), Kind::BFloat16 | Kind::Half);
    let causal = ranges_only && is_causal(visible.start, visible.end, q_len, k_len);
    // A token behind a cache sees all keys, a mask would say so in every layer of every step.
    let all = ranges_only && !causal && sees_all(visible.start, visible.end, k_len);
    // Only the GPU's flash kernel shares key and value heads itself; the masked kernels would fall back to a slow path.
    let share_heads = heads_per_kv > 1 && (causal || all) && half_on_gpu;
    let (k, v) = if heads_per_kv > 1 && !share_heads {
        (k.repeat_interleave_self_int(heads_per_kv, 2, None), v.repeat_interleave_self_int(heads_per_kv, 2, None))
    } else {
        (k.shallow_clone(), v.shallow_clone())
    };
    let (q, k, v) = (q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2));
    let attend = |mask: Option<&Tensor>, causal: bool| {
        Tensor::scaled_dot_product_attention(&q, &k, &v, mask, 0.0, causal, scale, share_heads)
    };
    if causal || all {
        return attend(None, causal).transpose(1, 2).contiguous();
    }
    let mask = mask_of(visible, k_len);
    let sees_any = mask.any_dim(2, false);
    if sees_any.all().int64_value(&[]) != 0 {
        let mask = mask.unsqueeze(1).to_device(q.device());
        return attend(Some(&mask), false).transpose(1, 2).contiguous();
    }
    // A softmax over nothing is NaN: rows that see nothing look at key 0 instead, and their result is zeroed.
    let first_key = Tensor::arange(k_len, (Kind::Int64, Device::Cpu)).eq(0);
    let mask = mask
        .logical_or(&sees_any.logical_not().unsqueeze(2).logical_and(&first_key))
        .unsqueeze(1)
        .to_device(q.device());
    let keep = sees_any.unsqueeze(2).unsqueeze(3).to_device(q.device()).to_kind(q.kind());
    (attend(Some(&mask), false).transpose(1, 2) * keep).contiguous()
}

/// Boolean `[batch or 1, q_len, k_len]` on the CPU.
pub(super) fn mask_of(visible: &Visible, k_len: i64) -> Tensor {
    let keys = Tensor::arange(k_len, (Kind::Int, Device::Cpu));
    let (start, end) = (visible.start.unsqueeze(2), visible.end.unsqueeze(2));
    let mut mask = keys.ge_tensor(&start).logical_and(&keys.lt_tensor(&end));
    if let Some(own) = visible.own {
        mask = mask.logical_or(&keys.eq_tensor(&own.unsqueeze(2)));
    }
    match visible.extra {
        Some(extra) => mask.logical_or(&extra.constant_pad_nd([k_len - extra.size()[2], 0])),
        None => mask,
    }
}

/// A shorter prefix is not worth a call of its own.
const SHORTEST_PREFIX: i64 = 16;

/// Number of queries before the first one that sees more than its range, if their ranges leave out some keys at the end.
fn prefix_rows(visible: &Visible, k_len: i64) -> Option<i64> {
    let besides = match (visible.own, visible.extra) {
        (None, None) => return None,
        (Some(own), None) => own.ge(0),
        (None, Some(extra)) => extra.any_dim(2, false),
        (Some(own), Some(extra)) => own.ge(0).logical_or(&extra.any_dim(2, false)),
    };
    let besides = Vec::<bool>::try_from(besides.any_dim(0, false)).ok()?;
    let rows = besides.iter().position(|any| *any).unwrap_or(besides.len()) as i64;
    let last = (rows > 0).then(|| visible.end.narrow(1, 0, rows).max().int64_value(&[]))?;
    (rows >= SHORTEST_PREFIX && rows < besides.len() as i64 && last > 0 && last < k_len).then_some(rows)
}

/// Where packed sequences begin, and the end of the last: none unless every row sees its own sequence up to itself.
fn sequences(start: &Tensor, end: &Tensor, k_len: i64) -> Option<Vec<i64>> {
    if start.size() != [1, k_len] {
        return None;
    }
    let rows = |bound: &Tensor| Vec::<i32>::try_from(bound.reshape(-1)).ok();
    let mut bounds = Vec::new();
    for (row, (start, end)) in rows(start)?.into_iter().zip(rows(end)?).enumerate() {
        if i64::from(end) != row as i64 + 1 {
            return None;
        }
        if i64::from(start) == row as i64 {
            bounds.push(i64::from(start));
        } else if bounds.last() != Some(&i64::from(start)) {
            return None;
        }
    }
    bounds.push(k_len);
    Some(bounds)
}

/// Whether every query sees every key.
fn sees_all(start: &Tensor, end: &Tensor, k_len: i64) -> bool {
    start.max().int64_value(&[]) == 0 && end.min().int64_value(&[]) == k_len
}

/// Whether query i sees exactly keys `0..=i`, for every row and as many keys as queries.
fn is_causal(start: &Tensor, end: &Tensor, q_len: i64, k_len: i64) -> bool {
    if q_len != k_len {
        return false;
    }
    let ends = Tensor::arange_start(1, q_len + 1, (Kind::Int, Device::Cpu)).expand_as(end);
    start.count_nonzero(None::<i64>).int64_value(&[]) == 0 && end.equal(&ends)
}
