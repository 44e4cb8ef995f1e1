//! Who sees whom: attention as a value, lowered to one range of keys per query.

use tch::{Device, Tensor};

use crate::kv_cache::KvCache;

/// Pattern of one forward pass. Tree and Columnar join here (issues 3 and 4).
#[derive(Debug, Clone, PartialEq)]
pub enum AttentionPattern {
    /// Each row of the batch is one sequence; a token sees itself, everything before it and the whole cache.
    Causal,
    /// As causal, rows padded on the right: row b has `lengths[b]` real tokens. Hidden states of padding are
    /// meaningless; padding is not kept in the cache.
    Padded {
        /// Real tokens of each row, at least 1.
        lengths: Vec<i64>,
    },
    /// One row of several sequences end to end; `cu_seqlens` = `[0, l0, l0+l1, ..]`; positions restart at each.
    Packed {
        /// Boundaries, the last one the length of the row.
        cu_seqlens: Vec<i64>,
    },
}

/// A pattern as the kernels want it. `rows` is 1 when all rows of the batch are alike, else the batch.
#[derive(Debug)]
pub struct KeyRanges {
    rows: usize,
    seq: usize,
    /// Position in its sequence of every query, `[rows * seq]`.
    positions: Vec<i64>,
    /// First key of the query's sequence.
    starts: Vec<i32>,
    /// One past the query's own key.
    ends: Vec<i32>,
}

impl AttentionPattern {
    /// Ranges for `batch` rows of `seq` new tokens after what `cache` holds.
    ///
    /// # Panics
    /// When the pattern does not fit the batch, or a packed row is to continue a cache.
    pub fn key_ranges(&self, batch: i64, seq: i64, cache: Option<&KvCache>) -> KeyRanges {
        let no_cache = vec![0; batch as usize];
        let held = cache.map_or(no_cache.as_slice(), KvCache::row_lengths);
        assert_eq!(held.len(), batch as usize, "cache has {} rows, the batch {batch}", held.len());
        match self {
            Self::Causal if held.iter().all(|length| *length == held[0]) => {
                KeyRanges::from_rows(seq, &[(held[0], seq)])
            }
            Self::Causal => KeyRanges::from_rows(seq, &held.iter().map(|held| (*held, seq)).collect::<Vec<_>>()),
            Self::Padded { lengths } => {
                assert_eq!(lengths.len(), batch as usize, "{} lengths for {batch} rows", lengths.len());
                assert!(lengths.iter().all(|l| (1..=seq).contains(l)), "lengths {lengths:?} for rows of {seq}");
                KeyRanges::from_rows(seq, &held.iter().copied().zip(lengths.iter().copied()).collect::<Vec<_>>())
            }
            Self::Packed { cu_seqlens } => {
                assert!(
                    cache.is_none(),
                    "a packed row cannot continue a cache; decode its sequences as a padded batch"
                );
                assert_eq!(batch, 1, "a packed batch has one row");
                KeyRanges::packed(seq, cu_seqlens)
            }
        }
    }

    /// New tokens of each row that are real.
    pub(crate) fn real_lengths(&self, batch: i64, seq: i64) -> Vec<i64> {
        match self {
            Self::Padded { lengths } => lengths.clone(),
            _ => vec![seq; batch as usize],
        }
    }
}

impl KeyRanges {
    /// Rows of (tokens held, new tokens).
    fn from_rows(seq: i64, rows: &[(i64, i64)]) -> Self {
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

    fn packed(seq: i64, cu_seqlens: &[i64]) -> Self {
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

    fn empty(rows: usize, seq: usize) -> Self {
        let size = rows * seq;
        let (positions, starts, ends) = (Vec::with_capacity(size), Vec::with_capacity(size), Vec::with_capacity(size));
        Self { rows, seq, positions, starts, ends }
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
        let slide = |(start, end): (&i32, &i32)| (*start).max((i64::from(*end) - window).max(0) as i32);
        let starts: Vec<i32> = self.starts.iter().zip(&self.ends).map(slide).collect();
        self.shaped(Tensor::from_slice(&starts))
    }

    /// One past the last keys, int32 `[rows, seq]` on the CPU.
    pub fn ends(&self) -> Tensor {
        self.shaped(Tensor::from_slice(&self.ends))
    }

    fn shaped(&self, flat: Tensor) -> Tensor {
        flat.view([self.rows as i64, self.seq as i64])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn padding_sees_itself() {
        let ranges = AttentionPattern::Padded { lengths: vec![3, 1] }.key_ranges(2, 3, None);
        assert_eq!(ranges.starts, [0, 0, 0, 0, 1, 2]);
        assert_eq!(ranges.ends, [1, 2, 3, 1, 2, 3]);
    }
}
