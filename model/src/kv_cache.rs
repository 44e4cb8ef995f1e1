//! Keys and values of what was read so far.
/// Per-layer keys and values `[batch, capacity, kv_heads, head_dim]`, filled to `len`.
#[derive(Debug)]
pub struct KvCache { }
impl KvCache {
    /// Tokens held.
    pub fn len(&self) -> i64 { unimplemented!() }
    /// True when nothing is held.
    pub fn is_empty(&self) -> bool { self.len() == 0 }
    /// Forgets tokens from `len` on.
    pub fn truncate(&mut self, len: i64) { let _ = len; }
}
