//! Range attention through libtorch's scaled dot-product attention: any device, any kind.

use tch::{Device, Kind, Tensor};

/// See [`super::range_attention_with_extra`].
pub(super) fn range_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    start: &Tensor,
    end: &Tensor,
    extra: Option<&Tensor>,
    scale: f64,
) -> Tensor {
    let (q_len, k_len) = (q.size()[1], k.size()[1]);
    if q.numel() == 0 || k_len == 0 {
        return q * 0.0;
    }
    if let Some((extra, rows)) = extra.and_then(|extra| Some((extra, prefix_rows(end, extra, k_len)?))) {
        // A prefix before a tree or columns needs no mask over them: there is no dense square of the two together.
        let prefix = |t: &Tensor| t.narrow(1, 0, rows);
        let rest = |t: &Tensor| t.narrow(1, rows, q_len - rows);
        let own_keys = |t: &Tensor| t.narrow(1, 0, k_len - extra.size()[2]);
        let before = range_attention(&prefix(q), &own_keys(k), &own_keys(v), &prefix(start), &prefix(end), None, scale);
        let behind = range_attention(&rest(q), k, v, &rest(start), &rest(end), Some(&rest(extra)), scale);
        return Tensor::cat(&[before, behind], 1);
    }
    let heads_per_kv = q.size()[2] / k.size()[2];
    let half_on_gpu = q.device() != Device::Cpu && matches!(q.kind(), Kind::BFloat16 | Kind::Half);
    let causal = extra.is_none() && is_causal(start, end, q_len, k_len);
    // Only the GPU's flash kernel shares key and value heads itself; the masked kernels would fall back to a slow path.
    let share_heads = heads_per_kv > 1 && causal && half_on_gpu;
    let (k, v) = if heads_per_kv > 1 && !share_heads {
        (k.repeat_interleave_self_int(heads_per_kv, 2, None), v.repeat_interleave_self_int(heads_per_kv, 2, None))
    } else {
        (k.shallow_clone(), v.shallow_clone())
    };
    let (q, k, v) = (q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2));
    let attend = |mask: Option<&Tensor>, causal: bool| {
        Tensor::scaled_dot_product_attention(&q, &k, &v, mask, 0.0, causal, scale, share_heads)
    };
    if causal {
        return attend(None, true).transpose(1, 2).contiguous();
    }
    let mask = visible(start, end, extra, k_len);
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
pub(super) fn visible(start: &Tensor, end: &Tensor, extra: Option<&Tensor>, k_len: i64) -> Tensor {
    let keys = Tensor::arange(k_len, (Kind::Int, Device::Cpu));
    let range = keys.ge_tensor(&start.unsqueeze(2)).logical_and(&keys.lt_tensor(&end.unsqueeze(2)));
    match extra {
        Some(extra) => {
            let columns = extra.size()[2];
            range.logical_or(&extra.constant_pad_nd([k_len - columns, 0]))
        }
        None => range,
    }
}

/// Number of queries before the first one that sees a key of `extra`, if their ranges end before those keys too.
fn prefix_rows(end: &Tensor, extra: &Tensor, k_len: i64) -> Option<i64> {
    let sees_extra = Vec::<bool>::try_from(extra.any_dim(2, false).any_dim(0, false)).ok()?;
    let rows = sees_extra.iter().position(|any| *any).filter(|rows| *rows > 0)? as i64;
    let last = end.narrow(1, 0, rows).max().int64_value(&[]);
    (last <= k_len - extra.size()[2]).then_some(rows)
}

/// Whether query i sees exactly keys `0..=i`, for every row and as many keys as queries.
fn is_causal(start: &Tensor, end: &Tensor, q_len: i64, k_len: i64) -> bool {
    if q_len != k_len {
        return false;
    }
    let ends = Tensor::arange_start(1, q_len + 1, (Kind::Int, Device::Cpu)).expand_as(end);
    start.count_nonzero(None::<i64>).int64_value(&[]) == 0 && end.equal(&ends)
}
