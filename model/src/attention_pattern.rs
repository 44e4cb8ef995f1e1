//! Who sees whom: attention as a value.

use crate::column_layout::ColumnTokens;
use crate::key_ranges::KeyRanges;
use crate::kv_cache::KvCache;
use crate::token_tree::TokenTree;

/// Pattern of one forward pass.
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
    /// One row: prefixes end to end (each causal), then the tokens of the trees, the first tree hanging on the first prefix
    /// and so on. With a cache there is one tree: the prefix (which may be empty) continues the cache, the tree hangs on
    /// both, and only the prefix stays in the cache.
    Trees {
        /// Boundaries of the prefixes, `[0, l0, l0+l1, ..]`.
        cu_seqlens: Vec<i64>,
        /// One for each prefix.
        trees: Vec<TokenTree>,
    },
    /// One row: a text, and behind it the tokens of its continuations, in any order. A token of the text is causal; one of a continuation sees
    /// the text, its own continuation so far and itself, and stands where it would in a text of its own. All stay in the cache, which may hold
    /// the text, or a part of it, or some tokens of continuations too.
    Continuations {
        /// Tokens of the text, held and new ones.
        text: i64,
        /// Continuation of every token behind the text, held ones first.
        owners: Vec<u32>,
    },
    /// Branches side by side: a token sees the tokens of earlier columns and itself. Without a cache there may be one row of several
    /// layouts end to end; else one layout a row, padded on the right, all of whose columns lie behind those in the cache.
    Columnar {
        /// New tokens of each layout.
        layouts: Vec<ColumnTokens>,
    },
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
            Self::Trees { cu_seqlens, trees } => {
                assert_eq!(batch, 1, "a batch of trees has one row");
                assert!(cache.is_none() || trees.len() == 1, "{} trees on one cache", trees.len());
                KeyRanges::trees(seq, held[0], cu_seqlens, trees)
            }
            Self::Continuations { text, owners } => {
                assert_eq!(batch, 1, "a text with its continuations is one row");
                KeyRanges::continuations(seq, held[0], *text, owners)
            }
            Self::Columnar { layouts } if batch == 1 && layouts.len() > 1 => {
                assert!(cache.is_none(), "packed layouts cannot continue a cache");
                KeyRanges::columnar(layouts, &[(0, seq)])
            }
            Self::Columnar { layouts } => {
                assert_eq!(layouts.len(), batch as usize, "{} layouts for {batch} rows", layouts.len());
                KeyRanges::columnar(layouts, &held.iter().map(|held| (*held, seq)).collect::<Vec<_>>())
            }
        }
    }

    /// New tokens of each row that are real.
    pub(crate) fn real_lengths(&self, batch: i64, seq: i64) -> Vec<i64> {
        match self {
            Self::Padded { lengths } => lengths.clone(),
            Self::Trees { cu_seqlens, .. } => vec![cu_seqlens[cu_seqlens.len() - 1]],
            Self::Columnar { layouts } if layouts.len() == batch as usize => {
                layouts.iter().map(|layout| layout.len() as i64).collect()
            }
            _ => vec![seq; batch as usize],
        }
    }
}
