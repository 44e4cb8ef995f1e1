//! The loss of draft heads: what stands some places further on.

use model::DraftHeads;
use tch::{Kind, Reduction, Tensor};

/// The (place, head) pairs that have something to guess. Head `i` (from 1) at place `j` guesses the item at place `j + i`; the
/// last place is left over and never guessed.
#[derive(Debug)]
pub(super) struct Pairs {
    heads: usize,
    /// Head of each pair, from 0.
    pub head_of: Vec<usize>,
    /// Index of the pair in `[n, heads]`, int64 `[pairs]`.
    rows: Tensor,
    /// Place guessed, int64 `[pairs]`.
    places: Tensor,
}

impl Pairs {
    /// Of these heads, on their device; none for lists of fewer than three candidates.
    pub fn of(heads: &dyn DraftHeads) -> Self {
        let (n, count) = (heads.num_candidates(), heads.num_heads());
        let all = (0..n).flat_map(|place| (0..count).map(move |head| (place, head)));
        let pairs: Vec<(usize, usize)> = all.filter(|(place, head)| place + head + 1 < n - 1).collect();
        let tensor = |value: &dyn Fn(&(usize, usize)) -> usize| {
            let values: Vec<i64> = pairs.iter().map(|pair| value(pair) as i64).collect();
            Tensor::from_slice(&values).to_device(heads.device())
        };
        Self {
            heads: count,
            rows: tensor(&|(place, head)| place * count + head),
            places: tensor(&|(place, head)| place + head + 1),
            head_of: pairs.iter().map(|(_, head)| *head).collect(),
        }
    }

    /// Logits of the N identifiers for every pair, `[batch, pairs, N]`, those of items that stand before the place guessed
    /// minus infinity: when drafting they are not to be had either. `states` `[batch, n, hidden]`, `orders` `[batch, n]`.
    fn logits(&self, heads: &dyn DraftHeads, states: &Tensor, orders: &Tensor) -> Tensor {
        let (batch, n, hidden) = states.size3().expect("states have three dimensions");
        let logits = heads.logits(&states.view([batch * n, hidden])); // [batch * n, heads, N]
        let logits = logits.reshape([batch, n * self.heads as i64, n]).index_select(1, &self.rows);
        let ranks = orders.argsort(-1, false); // [batch, N]: place of each item
        let placed = ranks.unsqueeze(1).lt_tensor(&self.places.view([1, -1, 1])); // [batch, pairs, N]
        logits.masked_fill(&placed, f64::NEG_INFINITY)
    }

    /// The item each pair guesses, int64 `[batch, pairs]`.
    fn targets(&self, orders: &Tensor) -> Tensor {
        orders.index_select(1, &self.places)
    }

    /// Cross entropy, mean over lists and pairs, and of each pair the number of lists it guesses right, `[pairs]`.
    pub fn loss(&self, heads: &dyn DraftHeads, states: &Tensor, orders: &Tensor) -> (Tensor, Tensor) {
        let (logits, targets) = (self.logits(heads, states, orders), self.targets(orders));
        let n = logits.size()[2];
        let flat = targets.reshape([-1]);
        let loss = logits.reshape([-1, n]).cross_entropy_loss::<&Tensor>(&flat, None, Reduction::Mean, -100, 0.0);
        let right = logits.argmax(-1, false).eq_tensor(&targets).sum_dim_intlist(0, false, Kind::Int64);
        (loss, right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::MedusaHeads;
    use tch::Device;

    #[test]
    fn head_i_at_place_j_guesses_the_item_at_place_j_plus_i() {
        let heads = MedusaHeads::new(&Tensor::randn([5, 7], (Kind::Float, Device::Cpu)), 4);
        let pairs = Pairs::of(&heads);
        // places 0, 0, 0, 1, 1, 2 with heads 1, 2, 3, 1, 2, 1
        assert_eq!(pairs.head_of, [0, 1, 2, 0, 1, 0]);
        let orders = Tensor::from_slice(&[2i64, 0, 1, 4, 3]).view([1, 5]); // its inverse is 1, 2, 0, 4, 3
        assert_eq!(Vec::<i64>::try_from(pairs.targets(&orders).view(-1)).unwrap(), [0, 1, 4, 1, 4, 4]);
    }

    #[test]
    fn items_placed_before_are_out_of_the_softmax() {
        let heads = MedusaHeads::new(&Tensor::randn([5, 7], (Kind::Float, Device::Cpu)), 2);
        let pairs = Pairs::of(&heads);
        let orders = Tensor::from_slice(&[2i64, 0, 1, 4, 3]).view([1, 5]);
        let states = Tensor::randn([1, 5, 7], (Kind::Float, Device::Cpu));
        let logits = pairs.logits(&heads, &states, &orders);
        let seen = logits.select(0, 0).isfinite();
        let row = |pair: i64| Vec::<bool>::try_from(seen.get(pair)).unwrap();
        // pairs: (0, 1), (0, 2), (1, 1), (1, 2), (2, 1)
        assert_eq!(row(0), [true, true, false, true, true], "place 1 comes after item 2");
        assert_eq!(row(1), [false, true, false, true, true], "place 2 comes after items 2 and 0");
        assert_eq!(row(4), [false, false, false, true, true]);
        let plain = heads.logits(&states.select(0, 0)); // [5, 2, 5]
        assert_eq!(logits.double_value(&[0, 3, 4]), plain.double_value(&[1, 1, 4]), "pair 3 is place 1, head 2");
    }
}
