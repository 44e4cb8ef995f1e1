//! Keys and values of what was read so far.

use tch::{Device, Kind, Tensor};

use crate::config::ModelConfig;

/// Per-layer keys and values `[batch, capacity, kv_heads, head_dim]`, row b filled to `row_lengths[b]`.
///
/// Writing is in place and outside autograd: a cache is for inference.
#[derive(Debug)]
pub struct KvCache {
    keys: Vec<Tensor>,
    values: Vec<Tensor>,
    row_lengths: Vec<i64>,
    capacity: i64,
}

impl KvCache {
    /// Empty, for `capacity` tokens a row.
    pub fn new(config: &ModelConfig, batch: i64, capacity: i64, kind: Kind, device: Device) -> Self {
        let capacity = capacity.max(1);
        let size = [batch, capacity, config.num_key_value_heads, config.head_dim];
        // zeros: a kernel may load (and mask) rows that were never written, and masking does not tame a NaN
        let tensors = || (0..config.num_hidden_layers).map(|_| Tensor::zeros(size, (kind, device))).collect();
        Self { keys: tensors(), values: tensors(), row_lengths: vec![0; batch as usize], capacity }
    }

    /// Tokens held by the longest row.
    pub fn len(&self) -> i64 {
        self.row_lengths.iter().copied().max().unwrap_or(0)
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens held by each row.
    pub fn row_lengths(&self) -> &[i64] {
        &self.row_lengths
    }

    /// Tokens a row can hold before the cache must grow.
    pub fn capacity(&self) -> i64 {
        self.capacity
    }

    /// Forgets tokens from `len` on, in every row.
    pub fn truncate(&mut self, len: i64) {
        for length in &mut self.row_lengths {
            *length = (*length).min(len.max(0));
        }
    }

    /// As [`Self::truncate`], row by row.
    ///
    /// # Panics
    /// When the number of rows differs.
    pub fn truncate_rows(&mut self, lengths: &[i64]) {
        assert_eq!(lengths.len(), self.row_lengths.len(), "one length per row");
        for (length, new) in self.row_lengths.iter_mut().zip(lengths) {
            *length = (*length).min((*new).max(0));
        }
    }

    /// Keeps these rows, in this order.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn select_rows(&mut self, rows: &[usize]) {
        let index: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
        let index = Tensor::from_slice(&index).to_device(self.keys[0].device());
        for tensor in self.keys.iter_mut().chain(&mut self.values) {
            *tensor = tensor.index_select(0, &index);
        }
        self.row_lengths = rows.iter().map(|row| self.row_lengths[*row]).collect();
    }

    /// A cache of `batch` rows, each a copy of row 0: one prompt, several continuations.
    pub fn repeat_first_row(&self, batch: i64) -> Self {
        let repeat = |tensors: &[Tensor]| tensors.iter().map(|t| t.narrow(0, 0, 1).repeat([batch, 1, 1, 1])).collect();
        Self {
            keys: repeat(&self.keys),
            values: repeat(&self.values),
            row_lengths: vec![self.row_lengths[0]; batch as usize],
            capacity: self.capacity,
        }
    }

    /// Makes room for `new` more tokens in the longest row; grows by doubling.
    pub(crate) fn reserve(&mut self, new: i64) {
        let wanted = self.len() + new;
        if wanted > self.capacity {
            self.make_room(wanted.max(2 * self.capacity));
        }
    }

    /// Makes room for `capacity` tokens in all, those held included.
    pub fn make_room(&mut self, capacity: i64) {
        if capacity <= self.capacity {
            return;
        }
        let held = self.len();
        for tensor in self.keys.iter_mut().chain(&mut self.values) {
            let (batch, _, heads, head_dim) = tensor.size4().expect("a cache tensor has four dimensions");
            let grown = Tensor::zeros([batch, capacity, heads, head_dim], (tensor.kind(), tensor.device()));
            grown.narrow(1, 0, held).copy_(&tensor.narrow(1, 0, held));
            *tensor = grown;
        }
        self.capacity = capacity;
    }

    /// Writes `k`, `v` `[batch, seq, kv_heads, head_dim]` after what each row holds and returns views of all keys and
    /// values up to the longest row's end. Lengths move only with [`Self::advance`], after the last layer.
    pub(crate) fn write(&mut self, layer: usize, k: &Tensor, v: &Tensor) -> (Tensor, Tensor) {
        let seq = k.size()[1];
        let total = self.len() + seq;
        let even = self.row_lengths.iter().all(|length| *length == self.row_lengths[0]);
        let write = |cache: &Tensor, new: &Tensor| {
            if even {
                cache.narrow(1, self.row_lengths[0], seq).copy_(new);
            } else {
                for (row, length) in self.row_lengths.iter().enumerate() {
                    let row = row as i64;
                    cache.narrow(0, row, 1).narrow(1, *length, seq).copy_(&new.narrow(0, row, 1));
                }
            }
            cache.narrow(1, 0, total) // [batch, total, kv_heads, head_dim]
        };
        (write(&self.keys[layer], k), write(&self.values[layer], v))
    }

    /// Counts the tokens just written.
    pub(crate) fn advance(&mut self, new: &[i64]) {
        for (length, new) in self.row_lengths.iter_mut().zip(new) {
            *length += new;
        }
    }
}
