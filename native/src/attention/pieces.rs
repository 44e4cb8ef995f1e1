//! What queries see, cut into pieces that libtorch's scaled dot-product attention computes without a mask, or with a small one.

use tch::{Device, Kind, Tensor};

use super::Visible;

/// Consecutive queries and the keys they are computed with.
#[derive(Debug)]
pub(super) struct Piece {
    /// First query, and how many.
    pub rows: (i64, i64),
    /// Ranges of keys, end to end: first key, and how many.
    pub keys: Vec<(i64, i64)>,
    /// Which of them.
    pub sees: Sees,
}

#[cfg(test)]
impl Piece {
    pub fn is_causal(&self) -> bool {
        matches!(self.sees, Sees::Causal)
    }
}

/// Which of a piece's keys its queries see.
#[derive(Debug)]
pub(super) enum Sees {
    /// Query i keys `0..=i`.
    Causal,
    /// All of them.
    All,
    /// None: there are no keys.
    Nothing,
    /// Those of a mask.
    Some {
        /// Bool `[batch or 1, 1, rows, keys]`. A softmax over nothing is NaN: queries that see nothing look at key 0.
        mask: Tensor,
        /// Bool `[batch or 1, rows, 1, 1]`: queries that see something; none where all do.
        keep: Option<Tensor>,
    },
}

/// Queries and keys of one attention, cut so that there is no dense square over prompts and trees or over packed sequences.
pub(super) fn pieces(visible: &Visible, k_len: i64, device: Device) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let rows = visible.start.size()[1];
    if let Some(prefix) = prefix_rows(visible, k_len) {
        // A prefix before a tree or columns needs no mask over them.
        let last = visible.end.narrow(1, 0, prefix).max().int64_value(&[]);
        let own_ranges = Visible::ranges(visible.start.narrow(1, 0, prefix), visible.end.narrow(1, 0, prefix));
        add_block(&mut pieces, &own_ranges, (0, prefix), &[(0, last)], device);
        add_behind(&mut pieces, &visible.narrow(prefix, rows - prefix), prefix, k_len, device);
    } else {
        add_behind(&mut pieces, visible, 0, k_len, device);
    }
    pieces
}

/// Queries from `first` on: trees one by one, each with the keys of its own prefix and its own, or all together.
fn add_behind(pieces: &mut Vec<Piece>, visible: &Visible, first: i64, k_len: i64, device: Device) {
    let rows = visible.start.size()[1];
    let Some(trees) = trees(visible, k_len) else {
        return add_block(pieces, visible, (first, rows), &[(0, k_len)], device);
    };
    for Tree { rows, prefix, columns } in trees {
        let own = visible.narrow(rows.0, rows.1);
        let extra = own.extra.as_ref().filter(|_| columns.1 > 0).map(|extra| extra.narrow(2, columns.0, columns.1));
        let width = visible.extra.as_ref().map_or(0, |extra| extra.size()[2]);
        let keys: Vec<_> =
            [prefix, (k_len - width + columns.0, columns.1)].into_iter().filter(|(_, keys)| *keys > 0).collect();
        let shifted = Visible { extra, ..Visible::ranges(own.start - prefix.0, own.end - prefix.0) };
        add_block(pieces, &shifted, (first + rows.0, rows.1), &keys, device);
    }
}

/// Queries of one block over its keys, which `visible` counts from the first of them; packed sequences among them one by one.
fn add_block(pieces: &mut Vec<Piece>, visible: &Visible, rows: (i64, i64), keys: &[(i64, i64)], device: Device) {
    let k_len = keys.iter().map(|(_, keys)| keys).sum();
    if k_len == 0 {
        return pieces.push(Piece { rows, keys: Vec::new(), sees: Sees::Nothing });
    }
    let ranges_only = visible.own.is_none() && visible.extra.is_none();
    if let ([(first, _)], true) = (keys, ranges_only)
        && let Some(bounds) = sequences(&visible.start, &visible.end, k_len)
    {
        let causal = |pair: &[i64]| Piece {
            rows: (rows.0 + pair[0], pair[1] - pair[0]),
            keys: vec![(first + pair[0], pair[1] - pair[0])],
            sees: Sees::Causal,
        };
        return pieces.extend(bounds.windows(2).map(causal));
    }
    let sees = if ranges_only && is_causal(&visible.start, &visible.end, k_len) {
        Sees::Causal
    } else if ranges_only && sees_all(&visible.start, &visible.end, k_len) {
        // A token behind a cache: a mask would say so in every layer of every step.
        Sees::All
    } else {
        masked(visible, k_len, device)
    };
    pieces.push(Piece { rows, keys: keys.to_vec(), sees });
}

fn masked(visible: &Visible, k_len: i64, device: Device) -> Sees {
    let mask = mask_of(visible, k_len);
    let sees_any = mask.any_dim(2, false);
    if sees_any.all().int64_value(&[]) != 0 {
        return Sees::Some { mask: mask.unsqueeze(1).to_device(device), keep: None };
    }
    let first_key = Tensor::arange(k_len, (Kind::Int64, Device::Cpu)).eq(0);
    let mask = mask.logical_or(&sees_any.logical_not().unsqueeze(2).logical_and(&first_key));
    let keep = sees_any.unsqueeze(2).unsqueeze(3).to_device(device);
    Sees::Some { mask: mask.unsqueeze(1).to_device(device), keep: Some(keep) }
}

/// Boolean `[batch or 1, q_len, k_len]` on the CPU.
pub(super) fn mask_of(visible: &Visible, k_len: i64) -> Tensor {
    let keys = Tensor::arange(k_len, (Kind::Int, Device::Cpu));
    let (start, end) = (visible.start.unsqueeze(2), visible.end.unsqueeze(2));
    let mut mask = keys.ge_tensor(&start).logical_and(&keys.lt_tensor(&end));
    if let Some(own) = &visible.own {
        mask = mask.logical_or(&keys.eq_tensor(&own.unsqueeze(2)));
    }
    match &visible.extra {
        Some(extra) => mask.logical_or(&extra.constant_pad_nd([k_len - extra.size()[2], 0])),
        None => mask,
    }
}

/// A shorter prefix, or a smaller tree, is not worth a call of its own.
const FEWEST_ROWS: i64 = 16;

/// Number of queries before the first one that sees more than its range, if their ranges leave out some keys at the end.
fn prefix_rows(visible: &Visible, k_len: i64) -> Option<i64> {
    let besides = match (&visible.own, &visible.extra) {
        (None, None) => return None,
        (Some(own), None) => own.ge(0),
        (None, Some(extra)) => extra.any_dim(2, false),
        (Some(own), Some(extra)) => own.ge(0).logical_or(&extra.any_dim(2, false)),
    };
    let besides = Vec::<bool>::try_from(besides.any_dim(0, false)).ok()?;
    let rows = besides.iter().position(|any| *any).unwrap_or(besides.len()) as i64;
    let last = (rows > 0).then(|| visible.end.narrow(1, 0, rows).max().int64_value(&[]))?;
    (rows >= FEWEST_ROWS && rows < besides.len() as i64 && last > 0 && last < k_len).then_some(rows)
}

/// Queries that see a part of one range, and besides some of a few neighbouring keys at the end.
struct Tree {
    /// First query, and how many.
    rows: (i64, i64),
    /// First key of the range, and how many.
    prefix: (i64, i64),
    /// First column of `extra`, and how many.
    columns: (i64, i64),
}

/// Runs of queries with one end of their ranges; none where there is one run only, where runs are short, or where the keys at the end
/// overlap with a range, which would count them twice.
fn trees(visible: &Visible, k_len: i64) -> Option<Vec<Tree>> {
    let extra = visible.extra.as_ref().filter(|extra| visible.own.is_none() && extra.size()[0] == 1)?;
    let (rows, width) = (extra.size()[1], extra.size()[2]);
    let ints = |bound: &Tensor| (bound.size()[0] == 1).then(|| Vec::<i32>::try_from(bound.reshape(-1)).ok()).flatten();
    let (starts, ends) = (ints(&visible.start)?, ints(&visible.end)?);
    let seen = Vec::<bool>::try_from(extra.reshape(-1)).ok()?;
    let mut trees = Vec::new();
    let mut first = 0;
    for run in ends.chunk_by(|one, next| one == next) {
        let own = first..first + run.len();
        let end = i64::from(run[0]).max(0).min(k_len);
        let start = starts[own.clone()].iter().map(|start| i64::from(*start)).min()?.max(0).min(end);
        let columns = seen[own.start * width as usize..own.end * width as usize].chunks(width.max(1) as usize);
        let seen_by = columns.filter_map(|row| Some((row.iter().position(|s| *s)?, row.iter().rposition(|s| *s)?)));
        let span = seen_by.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
        let columns = span.map_or((0, 0), |(low, high)| (low as i64, (high - low + 1) as i64));
        if columns.1 > 0 && k_len - width + columns.0 < end {
            return None;
        }
        trees.push(Tree { rows: (first as i64, run.len() as i64), prefix: (start, end - start), columns });
        first = own.end;
    }
    (trees.len() > 1 && trees.len() as i64 * FEWEST_ROWS <= rows).then_some(trees)
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
fn is_causal(start: &Tensor, end: &Tensor, k_len: i64) -> bool {
    if end.size()[1] != k_len {
        return false;
    }
    let ends = Tensor::arange_start(1, k_len + 1, (Kind::Int, Device::Cpu)).expand_as(end);
    start.count_nonzero(None::<i64>).int64_value(&[]) == 0 && end.equal(&ends)
}
