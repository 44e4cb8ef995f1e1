//! Rankings that grow item by item, several in step.

use tch::{Device, Tensor};

/// What has been placed in each list of a batch.
#[derive(Debug, Clone)]
pub struct Placing {
    n: usize,
    orders: Vec<Vec<u16>>,
    placed: Vec<bool>,
}

impl Placing {
    /// Nothing placed in `lists` lists of `n` slots.
    #[must_use]
    pub fn new(lists: usize, n: usize) -> Self {
        Self { n, orders: vec![Vec::with_capacity(n); lists], placed: vec![false; lists * n] }
    }

    /// Places a slot in a list.
    ///
    /// # Panics
    /// When it is placed already.
    pub fn place(&mut self, list: usize, slot: u16) {
        let cell = &mut self.placed[list * self.n + usize::from(slot)];
        assert!(!std::mem::replace(cell, true), "slot {slot} is placed twice");
        self.orders[list].push(slot);
    }

    /// The best slot not placed yet of each list by `scores` `[lists * n]`; the first among equals.
    #[must_use]
    pub fn best(&self, scores: &[f32]) -> Vec<u16> {
        let rows = scores.chunks(self.n).zip(self.placed.chunks(self.n));
        rows.map(|(scores, placed)| {
            let open = (0..self.n).filter(|slot| !placed[*slot]);
            let best = open.reduce(|best, slot| if scores[slot] > scores[best] { slot } else { best });
            best.expect("a list that is not full") as u16
        })
        .collect()
    }

    /// Items placed in each list.
    #[must_use]
    pub fn len(&self) -> usize {
        self.orders.first().map_or(0, Vec::len)
    }

    /// True before the first item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The orders so far, best first.
    #[must_use]
    pub fn orders(&self) -> &[Vec<u16>] {
        &self.orders
    }

    /// Bool `[lists, n]`, true for what is placed.
    pub fn mask(&self, device: Device) -> Tensor {
        Tensor::from_slice(&self.placed).view([-1, self.n as i64]).to_device(device)
    }
}
