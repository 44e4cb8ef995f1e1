//! Scores of the items not placed yet, from the probabilities of subsets.

use tch::{Device, Kind, Tensor, no_grad};

use super::groups::members;
use super::subset_transform::mobius;
use super::{
    Arithmetic, CandidateTree, Groups, HeadDropout, HierarchicalAttention, OnePassSettings, Placing, TreeShape, Variant,
};
use crate::ModelError;

/// Puts rankings together. Batched over lists; nothing of the language model is needed beside its probabilities.
#[derive(Debug)]
pub struct Scorer {
    settings: OnePassSettings,
    n: usize,
    tree: CandidateTree,
    targets: GroupTable,
    duals: GroupTable,
    device: Device,
}

/// Groups as tensors, padded to the largest: bits beyond a group's size name nobody.
#[derive(Debug)]
struct GroupTable {
    /// Int64 `[groups, n]`: the bit of each slot in each group, 0 outside.
    bits: Tensor,
    /// Int64 `[groups, 2^largest]`: node of each subset.
    nodes: Tensor,
    /// Bool `[groups, 2^largest]`: subsets that count as rows of the group.
    counted: Tensor,
}

/// What stays the same over all steps of a ranking.
#[derive(Debug)]
pub struct Prepared {
    /// `[lists, nodes, n]`.
    p: Tensor,
    /// Rows of the dual groups' subsets `[lists, groups, 2^largest, n]`, and their attention scores `[.., 2^largest, 2^largest]`.
    dual_rows: Option<(Tensor, Option<Tensor>)>,
}

impl Scorer {
    /// For lists of `n` candidates.
    ///
    /// # Errors
    /// Groups that do not fit `n`.
    pub fn new(n: usize, settings: OnePassSettings, device: Device) -> Result<Self, ModelError> {
        // The permutation variant reads no groups; the finest division there is keeps its tables small.
        let groups = match settings.tree_shape() {
            TreeShape::OrderedPairs => Groups::new(n.max(4), n.max(4) / 2)?,
            TreeShape::Subsets { n_group } | TreeShape::GroupSubsets { n_group } => Groups::new(n, n_group)?,
        };
        let tree = match settings.tree_shape() {
            TreeShape::OrderedPairs => CandidateTree::ordered_pairs(n),
            TreeShape::GroupSubsets { .. } => CandidateTree::group_subsets(&groups),
            TreeShape::Subsets { .. } => CandidateTree::subsets(&groups),
        };
        let once = settings.arithmetic == Arithmetic::Corrected;
        let new_in_dual = |slots: &[u16]| !(slots.is_empty() || once && groups.in_one_target(slots));
        let table =
            |groups: &[Vec<u16>], counts: &dyn Fn(&[u16]) -> bool| GroupTable::new(n, groups, &tree, counts, device);
        let targets = table(groups.targets(), &|slots| !slots.is_empty());
        let duals = table(groups.duals(), &new_in_dual);
        Ok(Self { settings, n, tree, targets, duals, device })
    }

    /// The beginnings whose probabilities are needed.
    #[must_use]
    pub fn tree(&self) -> &CandidateTree {
        &self.tree
    }

    /// Settings.
    #[must_use]
    pub fn settings(&self) -> &OnePassSettings {
        &self.settings
    }

    /// Candidates of a list.
    #[must_use]
    pub fn num_candidates(&self) -> usize {
        self.n
    }

    fn corrected(&self) -> bool {
        self.settings.arithmetic == Arithmetic::Corrected
    }

    /// Takes the probabilities `p` float32 `[lists, nodes, n]` of a batch: row `S` is the distribution of the next slot after the
    /// beginning `S`. `head` as the variant needs it.
    ///
    /// # Panics
    /// When the variant has a head and none is given.
    #[must_use]
    pub fn prepare(&self, p: &Tensor, head: Option<&HierarchicalAttention>) -> Prepared {
        let p = p.to_device(self.device);
        let rows = || {
            let (lists, groups) = (p.size()[0], self.duals.nodes.size()[0]);
            p.index_select(1, &self.duals.nodes.view(-1)).view([lists, groups, -1, self.n as i64])
        };
        let dual_rows = match self.settings.variant {
            Variant::WoHas => Some(self.coefficients(&rows())),
            Variant::OnePass => Some(self.coefficients(&rows())),
            Variant::WoMobius2 if self.corrected() => Some(rows() - p.narrow(1, 0, 1).unsqueeze(1)),
            Variant::WoMobius2 => Some(rows()),
            Variant::WoMobius1 | Variant::NaiveAdd | Variant::Permutation => None,
        };
        let scored = dual_rows.map(|rows| {
            let scores = self.settings.variant.has_head().then(|| needed(head).scores(&rows));
            (rows, scores)
        });
        Prepared { p, dual_rows: scored }
    }

    /// Möbius coefficients of the dual groups' rows `[lists, groups, subsets, n]`.
    fn coefficients(&self, rows: &Tensor) -> Tensor {
        if self.corrected() {
            return mobius(rows);
        }
        // The published recursion never subtracts the empty set: its row counts as zero.
        let without_empty = Tensor::cat(&[rows.narrow(2, 0, 1).zeros_like(), rows.narrow(2, 1, rows.size()[2] - 1)], 2);
        mobius(&without_empty)
    }

    /// Scores `[lists, n]` of every slot for the next place, `placing` not empty. Those of placed slots mean nothing.
    ///
    /// # Panics
    /// When nothing is placed (the first place is `p(∅)`'s best), or the variant's head is missing.
    pub fn scores(
        &self,
        prepared: &Prepared,
        placing: &Placing,
        head: Option<&HierarchicalAttention>,
        dropout: Option<HeadDropout>,
    ) -> Tensor {
        assert!(!placing.is_empty(), "the first item is placed by p(∅)");
        if self.settings.variant == Variant::Permutation {
            return self.after_the_first_two(prepared, placing);
        }
        let p = &prepared.p;
        let base = p.select(1, 0); // [lists, n]
        let placed = placing.mask(self.device);
        let target_masks = self.targets.masks(&placed); // [lists, groups]
        let own = self.targets.rows(p, &target_masks); // [lists, groups, n], zeros for empty groups
        let own = if self.corrected() { own - nonempty(&target_masks) * base.unsqueeze(1) } else { own };
        let sum = |rows: &Tensor| rows.sum_dim_intlist(1, false, Kind::Float); // [lists, groups, n] -> [lists, n]
        let with_base = |scores: Tensor| if self.corrected() { scores + &base } else { scores };
        let dual_masks = self.duals.masks(&placed);
        let dropout = |place| dropout.map(|dropout| dropout.of(place));
        match self.settings.variant {
            Variant::NaiveAdd => with_base(sum(&own)),
            Variant::WoHas => {
                // The published code subtracts p(∅) from the groups here, and here alone.
                let own = if self.corrected() { own } else { own - nonempty(&target_masks) * base.unsqueeze(1) };
                let (rows, _) = needed(prepared.dual_rows.as_ref());
                let taken = self.duals.subsets_of(&dual_masks).to_kind(Kind::Float);
                let dual = taken.unsqueeze(2).matmul(rows).squeeze_dim(2); // [lists, groups, n]
                with_base(sum(&own) + sum(&dual))
            }
            Variant::OnePass => {
                let dual = self.pooled_duals(prepared, &dual_masks, needed(head), dropout(0));
                let any = self.duals.subsets_of(&dual_masks).any_dim(2, false);
                let outer = self.pool_groups(needed(head), &dual, &any, dropout(1));
                with_base(sum(&own) + outer)
            }
            Variant::WoMobius1 | Variant::WoMobius2 => {
                let head = needed(head);
                // One row alone attends to itself alone: R(x) = 2 x, and a dropped weight leaves x.
                let own = self.pool_single(head, &own, &target_masks.gt(0), dropout(0));
                let dual = if self.settings.variant == Variant::WoMobius2 {
                    self.pooled_duals(prepared, &dual_masks, head, dropout(1))
                } else {
                    let rows = self.duals.rows(p, &dual_masks);
                    let rows = if self.corrected() { rows - nonempty(&dual_masks) * base.unsqueeze(1) } else { rows };
                    self.pool_single(head, &rows, &dual_masks.gt(0), dropout(1))
                };
                let taken = Tensor::cat(&[target_masks.gt(0), dual_masks.gt(0)], 1);
                with_base(self.pool_groups(head, &Tensor::cat(&[own, dual], 1), &taken, dropout(2)))
            }
            Variant::Permutation => unreachable!("returned above"),
        }
    }

    /// `R` over the placed subsets of each dual group, `[lists, groups, n]`.
    fn pooled_duals(
        &self,
        prepared: &Prepared,
        masks: &Tensor,
        head: &HierarchicalAttention,
        dropout: Option<HeadDropout>,
    ) -> Tensor {
        let (rows, scores) = needed(prepared.dual_rows.as_ref());
        self.scaled(head.pool(needed(scores.as_ref()), rows, &self.duals.subsets_of(masks), dropout))
    }

    /// `R` of each row by itself, `[lists, groups, n]`.
    fn pool_single(
        &self,
        head: &HierarchicalAttention,
        rows: &Tensor,
        taken: &Tensor,
        dropout: Option<HeadDropout>,
    ) -> Tensor {
        let alone = rows.unsqueeze(2); // [lists, groups, 1, n]
        self.scaled(head.pool(&head.scores(&alone), &alone, &taken.unsqueeze(2), dropout))
    }

    /// `R` over the rows of the groups `[lists, groups, n]` -> `[lists, n]`. As published, groups without a placed item are rows of zeros that
    /// the others attend to.
    fn pool_groups(
        &self,
        head: &HierarchicalAttention,
        rows: &Tensor,
        taken: &Tensor,
        dropout: Option<HeadDropout>,
    ) -> Tensor {
        let all = taken.ones_like();
        self.scaled(head.pool(&head.scores(rows), rows, if self.corrected() { taken } else { &all }, dropout))
    }

    /// `R` counts every row twice where attention is even. Corrected, it counts once: a head that has learned nothing adds the
    /// coefficients up as `wo_has` does.
    fn scaled(&self, pooled: Tensor) -> Tensor {
        if self.corrected() { pooled * 0.5 } else { pooled }
    }

    fn after_the_first_two(&self, prepared: &Prepared, placing: &Placing) -> Tensor {
        let node = |order: &Vec<u16>| self.tree.node(&order[..order.len().min(2)]).expect("pairs are all there") as i64;
        let nodes: Vec<i64> = placing.orders().iter().map(node).collect();
        let nodes = Tensor::from_slice(&nodes).to_device(self.device).view([-1, 1, 1]);
        let index = nodes.expand([-1, 1, self.n as i64], false);
        prepared.p.gather(1, &index, false).squeeze_dim(1)
    }

    /// Ranks lists by their probabilities `p` `[lists, nodes, n]`: slots, best first. The first place is `p(∅)`'s best, every further one
    /// the best by [`Self::scores`]; equals go to the lower slot.
    ///
    /// # Panics
    /// As [`Self::prepare`].
    #[must_use]
    pub fn rank(&self, p: &Tensor, head: Option<&HierarchicalAttention>) -> Vec<Vec<u16>> {
        no_grad(|| {
            let prepared = self.prepare(p, head);
            let mut placing = Placing::new(p.size()[0] as usize, self.n);
            for place in 0..self.n {
                let scores = match place {
                    0 => prepared.p.select(1, 0),
                    _ if place + 1 == self.n => prepared.p.select(1, 0).zeros_like(),
                    _ => self.scores(&prepared, &placing, head, None),
                };
                let values = Vec::<f32>::try_from(scores.contiguous().view(-1)).expect("scores are float32");
                for (list, slot) in placing.best(&values).into_iter().enumerate() {
                    placing.place(list, slot);
                }
            }
            placing.orders().to_vec()
        })
    }
}

impl GroupTable {
    fn new(
        n: usize,
        groups: &[Vec<u16>],
        tree: &CandidateTree,
        counts: &dyn Fn(&[u16]) -> bool,
        device: Device,
    ) -> Self {
        let subsets = 1usize << groups.iter().map(Vec::len).max().unwrap_or(0);
        let mut bits = vec![0i64; groups.len() * n];
        let (mut nodes, mut counted) = (Vec::new(), Vec::new());
        for (index, group) in groups.iter().enumerate() {
            for (bit, slot) in group.iter().enumerate().filter(|(_, slot)| usize::from(**slot) < n) {
                bits[index * n + usize::from(*slot)] = 1 << bit;
            }
            for mask in 0..subsets {
                let real = mask < 1 << group.len();
                let slots = members(group, mask);
                // A padded subset repeats the one without its padding: its Möbius coefficient is 0. Dual groups that are not read are not
                // asked for either.
                nodes.push(tree.node(&slots).unwrap_or(0) as i64);
                counted.push(real && counts(&slots));
            }
        }
        let shaped = |t: Tensor| t.view([groups.len() as i64, -1]).to_device(device);
        Self {
            bits: shaped(Tensor::from_slice(&bits)),
            nodes: shaped(Tensor::from_slice(&nodes)),
            counted: shaped(Tensor::from_slice(&counted)),
        }
    }

    /// Subset of each group that is placed, int64 `[lists, groups]`; `placed` bool `[lists, n]`.
    fn masks(&self, placed: &Tensor) -> Tensor {
        (placed.to_kind(Kind::Int64).unsqueeze(1) * &self.bits).sum_dim_intlist(2, false, Kind::Int64)
    }

    /// Probability row of each group's placed subset `[lists, groups, n]`, zeros where it is empty.
    fn rows(&self, p: &Tensor, masks: &Tensor) -> Tensor {
        let (lists, n) = (p.size()[0], p.size()[2]);
        let nodes = self.nodes.unsqueeze(0).expand([lists, -1, -1], false);
        let nodes = nodes.gather(2, &masks.unsqueeze(2), false); // [lists, groups, 1]
        p.gather(1, &nodes.expand([-1, -1, n], false), false) * nonempty(masks)
    }

    /// Which counted subsets are placed whole, bool `[lists, groups, subsets]`.
    fn subsets_of(&self, masks: &Tensor) -> Tensor {
        let subsets = Tensor::arange(self.nodes.size()[1], (Kind::Int64, masks.device()));
        let missing = subsets.bitwise_and_tensor(&masks.bitwise_not().unsqueeze(2));
        missing.eq(0).logical_and(&self.counted)
    }
}

/// 1 where a group has a placed item: float32 `[lists, groups, 1]`.
fn nonempty(masks: &Tensor) -> Tensor {
    masks.gt(0).to_kind(Kind::Float).unsqueeze(2)
}

fn needed<T>(part: Option<T>) -> T {
    part.expect("given for variants that need it")
}
