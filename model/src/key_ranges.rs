//! A pattern of attention lowered to what the kernels want: a range of keys per query, and some keys besides.

use std::collections::BTreeMap;

use tch::{Device, Tensor};

use crate::column_layout::ColumnTokens;
use crate::token_tree::TokenTree;

/// A pattern as the kernels want it. `rows` is 1 when all rows of the batch are alike, else the batch.
#[derive(Debug)]
pub struct KeyRanges {
    rows: usize,
    seq: usize,
    /// Position in its sequence of every query, `[rows * seq]`.
    positions: Vec<i64>,
    /// First key of the query's sequence.
    starts: Vec<i32>,
    /// One past the last key of the range: the query's own key, or the last one of a tree's prefix.
    ends: Vec<i32>,
    /// Trees whose tokens are the last keys; their queries see ancestors besides the range.
    trees: Vec<TokenTree>,
    /// Continuation of each of the last keys; queries among them see the earlier ones of their own besides the range.
    owners: Vec<u32>,
    /// Of columns: branch and column of every query, and its own key where that lies outside its range.
    grid: Option<Grid>,
}

/// Where the queries of a columnar pattern stand.
#[derive(Debug, Default)]
struct Grid {
    branches: Vec<f32>,
    columns: Vec<f32>,
    /// -1 where the range holds it.
    own: Vec<i32>,
}

impl Grid {
    fn push(&mut self, branch: u32, column: u32, own: i64) {
        self.branches.push(branch as f32);
        self.columns.push(column as f32);
        self.own.push(own as i32);
    }
}

impl KeyRanges {
    /// Rows of (tokens held, new tokens).
    pub(crate) fn from_rows(seq: i64, rows: &[(i64, i64)]) -> Self {
        let mut ranges = Self::empty(rows.len(), seq as usize);
        for (held, new) in rows {
            for i in 0..seq {
                // padding sees itself alone: the cheapest range that is not empty
                let start = if i < *new { 0 } else { held + i };
                ranges.push(held + i, start, held + i + 1);
            }
        }
        ranges
    }

    pub(crate) fn packed(seq: i64, cu_seqlens: &[i64]) -> Self {
        let whole = cu_seqlens.first() == Some(&0) && cu_seqlens.last() == Some(&seq);
        assert!(whole && cu_seqlens.is_sorted(), "cu_seqlens {cu_seqlens:?} for a row of {seq}");
        let mut ranges = Self::empty(1, seq as usize);
        for pair in cu_seqlens.windows(2) {
            for i in pair[0]..pair[1] {
                ranges.push(i - pair[0], pair[0], i + 1);
            }
        }
        ranges
    }

    /// Prefixes after `held` tokens of a cache, then their trees.
    pub(crate) fn trees(seq: i64, held: i64, cu_seqlens: &[i64], trees: &[TokenTree]) -> Self {
        assert_eq!(cu_seqlens.len(), trees.len() + 1, "one tree for each prefix");
        let read = cu_seqlens[trees.len()];
        let columns: usize = trees.iter().map(TokenTree::len).sum();
        assert_eq!(read + columns as i64, seq, "prefixes and trees for a row of {seq}");
        let mut ranges = Self::packed(read, cu_seqlens);
        ranges.seq = seq as usize;
        for (position, end) in ranges.positions.iter_mut().zip(&mut ranges.ends) {
            *position += held;
            *end += held as i32;
        }
        for (tree, prefix) in trees.iter().zip(cu_seqlens.windows(2)) {
            for depth in tree.depths() {
                ranges.push(held + prefix[1] - prefix[0] + i64::from(*depth), prefix[0], held + prefix[1]);
            }
        }
        ranges.trees = trees.to_vec();
        ranges
    }

    /// A text and its continuations, of which `held` tokens are in the cache.
    pub(crate) fn continuations(seq: i64, held: i64, text: i64, owners: &[u32]) -> Self {
        let all = text + owners.len() as i64;
        assert_eq!(
            held + seq,
            all,
            "a text of {text} and {} tokens behind it for {held} held and {seq} new",
            owners.len()
        );
        let mut ranges = Self::empty(1, seq as usize);
        for i in held..text {
            ranges.push(i, 0, i + 1);
        }
        let mut lengths: BTreeMap<u32, i64> = BTreeMap::new();
        for (place, owner) in (text..).zip(owners) {
            let length = lengths.entry(*owner).or_default();
            if place >= held {
                ranges.push(text + *length, 0, text);
            }
            *length += 1;
        }
        ranges.owners = owners.to_vec();
        ranges
    }

    /// Layouts one after the other (one row), or each in a row of its own behind what the cache holds; `rows` are (held, new).
    pub(crate) fn columnar(layouts: &[ColumnTokens], rows: &[(i64, i64)]) -> Self {
        let seq = rows[0].1;
        let mut ranges = Self::empty(rows.len(), seq as usize);
        let mut grid = Grid::default();
        let packed = rows.len() < layouts.len();
        let mut first = 0; // of the layout in its row
        for (index, layout) in layouts.iter().enumerate() {
            let held = if packed { 0 } else { rows[index].0 };
            assert!(layout.columns.is_sorted(), "columns {:?} are not in linear order", layout.columns);
            let mut earlier = 0;
            for (i, (branch, column)) in layout.branches.iter().zip(&layout.columns).enumerate() {
                if i > 0 && layout.columns[i - 1] < *column {
                    earlier = i as i64;
                }
                let own = held + first + i as i64;
                // The first token of a column sees all before it and itself: a range holds both, and where every column has one token no mask
                // is made.
                let alone = earlier == i as i64;
                ranges.push(held + i as i64, first, if alone { own + 1 } else { held + first + earlier });
                grid.push(*branch, *column, if alone { -1 } else { own });
            }
            first += layout.len() as i64;
            if !packed {
                for i in first..seq {
                    ranges.push(held + i, held + i, held + i);
                    grid.push(0, 0, held + i);
                }
                first = 0;
            }
        }
        assert_eq!(ranges.ends.len(), rows.len() * seq as usize, "layouts for {} rows of {seq}", rows.len());
        ranges.grid = Some(grid);
        ranges
    }

    fn empty(rows: usize, seq: usize) -> Self {
        let size = rows * seq;
        let (positions, starts, ends) = (Vec::with_capacity(size), Vec::with_capacity(size), Vec::with_capacity(size));
        Self { rows, seq, positions, starts, ends, trees: Vec::new(), owners: Vec::new(), grid: None }
    }

    fn push(&mut self, position: i64, start: i64, end: i64) {
        self.positions.push(position);
        self.starts.push(start as i32);
        self.ends.push(end as i32);
    }

    /// Positions float32 `[rows, seq]`.
    pub fn positions(&self, device: Device) -> Tensor {
        let positions: Vec<f32> = self.positions.iter().map(|p| *p as f32).collect();
        self.shaped(Tensor::from_slice(&positions)).to_device(device)
    }

    /// First keys, int32 `[rows, seq]` on the CPU, within a sliding `window` if there is one.
    pub fn starts(&self, window: Option<i64>) -> Tensor {
        let Some(window) = window else { return self.shaped(Tensor::from_slice(&self.starts)) };
        // The window ends at the query's own place, which for a token of a tree lies beyond its range.
        let slide = |(start, position): (&i32, &i64)| start + (position + 1 - window).max(0) as i32;
        let starts: Vec<i32> = self.starts.iter().zip(&self.positions).map(slide).collect();
        self.shaped(Tensor::from_slice(&starts))
    }

    /// One past the last keys, int32 `[rows, seq]` on the CPU.
    pub fn ends(&self) -> Tensor {
        self.shaped(Tensor::from_slice(&self.ends))
    }

    /// Keys at the end that queries see besides their range, bool `[1, seq, keys]` on the CPU: of a tree's token its nearest
    /// ancestors, of a continuation's its nearest tokens, as many as the sliding `window` holds. `None` when there are none.
    pub fn extra(&self, window: Option<i64>) -> Option<Tensor> {
        let nearest = window.map_or(usize::MAX, |window| window as usize);
        if self.owners.is_empty() { self.ancestors(nearest) } else { Some(self.own_continuations(nearest)) }
    }

    fn own_continuations(&self, nearest: usize) -> Tensor {
        let columns = self.owners.len();
        let mut visible = vec![false; self.seq * columns];
        for place in columns.saturating_sub(self.seq)..columns {
            let row = self.seq + place - columns;
            let own = (0..=place).rev().filter(|key| self.owners[*key] == self.owners[place]);
            own.take(nearest).for_each(|key| visible[row * columns + key] = true);
        }
        Tensor::from_slice(&visible).view([1, self.seq as i64, columns as i64])
    }

    fn ancestors(&self, nearest: usize) -> Option<Tensor> {
        let columns: usize = self.trees.iter().map(TokenTree::len).sum();
        if columns == 0 {
            return None;
        }
        let mut visible = vec![false; self.seq * columns];
        let (mut row, mut first) = (self.seq - columns, 0);
        for tree in &self.trees {
            for index in 0..tree.len() as u32 {
                for ancestor in tree.path(index).take(nearest) {
                    visible[row * columns + first + ancestor as usize] = true;
                }
                row += 1;
            }
            first += tree.len();
        }
        Some(Tensor::from_slice(&visible).view([1, self.seq as i64, columns as i64]))
    }

    /// The key of each query's own token, int32 `[rows, seq]` on the CPU, -1 where its range holds it; `None` where all ranges do.
    pub fn own(&self) -> Option<Tensor> {
        let besides = self.grid.as_ref().filter(|grid| grid.own.iter().any(|own| *own >= 0));
        besides.map(|grid| self.shaped(Tensor::from_slice(&grid.own)))
    }

    /// Branch and column of every query, float32 `[rows, seq]` each; `None` when the pattern has no columns.
    pub fn grid(&self, device: Device) -> Option<(Tensor, Tensor)> {
        let shaped = |values: &[f32]| self.shaped(Tensor::from_slice(values)).to_device(device);
        self.grid.as_ref().map(|grid| (shaped(&grid.branches), shaped(&grid.columns)))
    }

    fn shaped(&self, flat: Tensor) -> Tensor {
        flat.view([self.rows as i64, self.seq as i64])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AttentionPattern;

    #[test]
    fn packed_sequences_do_not_see_each_other() {
        let ranges = AttentionPattern::Packed { cu_seqlens: vec![0, 2, 5] }.key_ranges(1, 5, None);
        assert_eq!(ranges.positions, [0, 1, 0, 1, 2]);
        assert_eq!(ranges.starts, [0, 0, 2, 2, 2]);
        assert_eq!(ranges.ends, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_window_slides_inside_its_sequence() {
        let ranges = AttentionPattern::Packed { cu_seqlens: vec![0, 1, 5] }.key_ranges(1, 5, None);
        assert_eq!(Vec::<i32>::try_from(ranges.starts(Some(2)).view(-1)).unwrap(), [0, 1, 1, 2, 3]);
    }

    #[test]
    fn trees_see_their_prefix_and_their_ancestors() {
        let tree = |parents: &[Option<u32>]| {
            let mut tree = TokenTree::default();
            parents.iter().for_each(|parent| {
                tree.push(0, *parent);
            });
            tree
        };
        let trees = vec![tree(&[None, Some(0), None]), tree(&[None, Some(0)])];
        let ranges = AttentionPattern::Trees { cu_seqlens: vec![0, 2, 3], trees }.key_ranges(1, 8, None);
        assert_eq!(ranges.positions, [0, 1, 0, 2, 3, 2, 1, 2]);
        assert_eq!(ranges.starts, [0, 0, 2, 0, 0, 0, 2, 2]);
        assert_eq!(ranges.ends, [1, 2, 3, 2, 2, 2, 3, 3]);
        let seen = Vec::<bool>::try_from(ranges.extra(None).unwrap().narrow(1, 3, 5).contiguous().view(-1)).unwrap();
        let row = |place: usize| seen[5 * place..5 * place + 5].iter().map(|seen| u8::from(*seen)).collect::<Vec<_>>();
        assert_eq!(
            [row(0), row(1), row(2), row(3), row(4)],
            [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]
        );
        let windowed = Vec::<i32>::try_from(ranges.starts(Some(2)).view(-1)).unwrap();
        assert_eq!(windowed, [0, 0, 2, 1, 2, 1, 2, 3], "the last two places before and with its own");
    }

    #[test]
    fn continuations_see_the_text_and_themselves() {
        // A text of two, of which one is held; then all of a longer row but its last two tokens.
        let begun = KeyRanges::continuations(4, 1, 2, &[0, 0, 1]);
        assert_eq!(begun.positions, [1, 2, 3, 2]);
        assert_eq!(begun.starts, [0; 4]);
        assert_eq!(begun.ends, [2, 2, 2, 2]);
        let later = KeyRanges::continuations(2, 5, 2, &[0, 0, 1, 0, 1]);
        assert_eq!(later.positions, [4, 3]);
        let seen = |ranges: &KeyRanges, window: Option<i64>| {
            let extra = ranges.extra(window).unwrap();
            let columns = extra.size()[2] as usize;
            let seen = Vec::<bool>::try_from(extra.contiguous().view(-1)).unwrap();
            seen.chunks(columns).map(|row| row.iter().map(|seen| u8::from(*seen)).collect()).collect::<Vec<Vec<u8>>>()
        };
        assert_eq!(seen(&begun, None), [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1]]);
        assert_eq!(seen(&later, None), [[1, 1, 0, 1, 0], [0, 0, 1, 0, 1]]);
        assert_eq!(seen(&later, Some(2)), [[0, 1, 0, 1, 0], [0, 0, 1, 0, 1]]);
        assert_eq!(Vec::<i32>::try_from(later.starts(Some(3)).view(-1)).unwrap(), [2, 1], "three places with its own");
    }

    #[test]
    fn padding_sees_itself() {
        let ranges = AttentionPattern::Padded { lengths: vec![3, 1] }.key_ranges(2, 3, None);
        assert_eq!(ranges.starts, [0, 0, 0, 0, 1, 2]);
        assert_eq!(ranges.ends, [1, 2, 3, 1, 2, 3]);
    }
}
