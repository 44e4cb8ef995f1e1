//! Who sees whom: attention as a value.
/// Pattern of one forward pass. Tree and Columnar join here (issues 3 and 4).
#[derive(Debug, Clone, PartialEq)]
pub enum AttentionPattern {
    /// Each row of the batch is one sequence; a token sees itself, everything before it and the whole cache.
    Causal,
    /// As causal, rows padded on the right: row b has `lengths[b]` real tokens.
    Padded { /// real tokens of each row
        lengths: Vec<i64> },
    /// One row of several sequences end to end; `cu_seqlens` = `[0, l0, l0+l1, ..]`; positions restart at each.
    Packed { /// boundaries
        cu_seqlens: Vec<i64> },
}
