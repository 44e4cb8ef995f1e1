//! The scorer against the definitions written out set by set.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

use super::*;
use crate::safetensors_file::SafetensorsFile;

type Set = BTreeSet<u16>;
type Row = Vec<f64>;

/// Random probabilities of every node, `[1, nodes, n]`.
fn probabilities(nodes: usize, n: usize, seed: i64) -> Tensor {
    tch::manual_seed(seed);
    (Tensor::randn([1, nodes as i64, n as i64], (Kind::Float, Device::Cpu)) * 1.5).softmax(-1, Kind::Float)
}

/// Weights and biases of a head as plain numbers.
struct PlainHead {
    tensors: Vec<Tensor>,
}

impl PlainHead {
    fn of(head: &HierarchicalAttention) -> Self {
        Self { tensors: head.named_tensors().into_iter().map(|(_, tensor)| tensor).collect() }
    }

    fn project(&self, which: usize, x: &Row) -> Row {
        let (w, b) = (&self.tensors[2 * which], &self.tensors[2 * which + 1]);
        let n = x.len() as i64;
        (0..n)
            .map(|i| b.double_value(&[i]) + (0..n).map(|j| w.double_value(&[i, j]) * x[j as usize]).sum::<f64>())
            .collect()
    }

    /// `R(X)`.
    fn pool(&self, rows: &[Row]) -> Row {
        let n = rows.first().map_or(0, Vec::len);
        let mut pooled = vec![0.0; n];
        for row in rows {
            let q = self.project(0, row);
            let dot = |k: Row| q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>() / (n as f64).sqrt();
            let scores: Vec<f64> = rows.iter().map(|row| dot(self.project(1, row)).exp()).collect();
            let total: f64 = scores.iter().sum();
            for (weight, value) in scores.iter().zip(rows) {
                pooled.iter_mut().zip(value).for_each(|(sum, v)| *sum += weight / total * v);
            }
            pooled.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
        }
        pooled
    }
}

/// Everything by its definition.
struct Naive<'a> {
    tree: &'a CandidateTree,
    p: &'a Tensor,
    groups: Groups,
    settings: OnePassSettings,
    head: Option<PlainHead>,
    n: usize,
}

fn add(rows: &[Row], n: usize) -> Row {
    (0..n).map(|i| rows.iter().map(|row| row[i]).sum()).collect()
}

fn subsets(of: &Set) -> Vec<Set> {
    let items: Vec<u16> = of.iter().copied().collect();
    let pick = |mask: usize| (0..items.len()).filter(|i| mask >> i & 1 == 1).map(|i| items[i]).collect();
    (0..1usize << items.len()).map(pick).collect()
}

impl Naive<'_> {
    fn p(&self, slots: &[u16]) -> Row {
        let node = self.tree.node(slots).unwrap() as i64;
        (0..self.n as i64).map(|i| self.p.double_value(&[0, node, i])).collect()
    }

    fn f(&self, set: &Set) -> Row {
        self.p(&set.iter().copied().collect::<Vec<_>>())
    }

    fn corrected(&self) -> bool {
        self.settings.arithmetic == Arithmetic::Corrected
    }

    /// The recursion of the definition: what a set has beyond its proper subsets.
    fn coefficient(&self, set: &Set) -> Row {
        let proper = subsets(set).into_iter().filter(|t| t != set && (self.corrected() || !t.is_empty()));
        let below: Vec<Row> = proper.map(|t| self.coefficient(&t)).collect();
        let below = add(&below, self.n);
        self.f(set).iter().zip(below).map(|(f, sum)| f - sum).collect()
    }

    fn minus_base(&self, row: Row) -> Row {
        row.iter().zip(self.f(&Set::new())).map(|(a, b)| a - b).collect()
    }

    fn scores(&self, order: &[u16]) -> Row {
        let placed: Set = order.iter().copied().collect();
        let part = |group: &Vec<u16>| group.iter().copied().filter(|s| placed.contains(s)).collect::<Set>();
        let targets: Vec<Set> = self.groups.targets().iter().map(part).collect();
        let duals: Vec<Set> = self.groups.duals().iter().map(part).collect();
        let (zero, n, corrected) = (vec![0.0; self.n], self.n, self.corrected());
        let relative = |row: Row| if corrected { self.minus_base(row) } else { row };
        let own = |set: &Set| if set.is_empty() { zero.clone() } else { relative(self.f(set)) };
        let in_target = |t: &Set| self.groups.targets().iter().any(|g| t.iter().all(|s| g.contains(s)));
        let rows_of = |set: &Set| {
            let counted = subsets(set).into_iter().filter(|t| !(t.is_empty() || corrected && in_target(t)));
            counted.collect::<Vec<_>>()
        };
        let coefficients = |set: &Set| rows_of(set).iter().map(|t| self.coefficient(t)).collect::<Vec<_>>();
        let once = if corrected { 0.5 } else { 1.0 };
        let pool = |rows: &[Row]| match rows {
            [] => zero.clone(),
            rows => self.head.as_ref().unwrap().pool(rows).into_iter().map(|value| once * value).collect(),
        };
        let outer = |rows: Vec<Option<Row>>| {
            let rows = rows.into_iter().filter_map(|row| row.or_else(|| (!corrected).then(|| zero.clone())));
            pool(&rows.collect::<Vec<_>>())
        };
        let some = |set: &Set, row: Row| (!set.is_empty()).then_some(row);
        let base = if corrected { self.f(&Set::new()) } else { zero.clone() };
        let sums: Vec<Row> = match self.settings.variant {
            Variant::Permutation => return self.p(&order[..order.len().min(2)]),
            Variant::NaiveAdd => targets.iter().map(own).collect(),
            Variant::WoHas => {
                let own = targets.iter().filter(|set| !set.is_empty()).map(|set| self.minus_base(self.f(set)));
                own.chain(duals.iter().map(|set| add(&coefficients(set), n))).collect()
            }
            Variant::OnePass => {
                let inner = duals.iter().map(|set| {
                    let rows = coefficients(set);
                    (!rows.is_empty()).then(|| pool(&rows))
                });
                targets.iter().map(own).chain([outer(inner.collect())]).collect()
            }
            Variant::WoMobius1 => {
                let rows = targets.iter().chain(&duals).map(|set| some(set, pool(&[own(set)])));
                vec![outer(rows.collect())]
            }
            Variant::WoMobius2 => {
                let single = targets.iter().map(|set| some(set, pool(&[own(set)])));
                let many = duals.iter().map(|set| {
                    let rows: Vec<Row> = rows_of(set).iter().map(|t| relative(self.f(t))).collect();
                    some(set, pool(&rows))
                });
                vec![outer(single.chain(many).collect())]
            }
        };
        add(&[base, add(&sums, n)], n)
    }
}

fn check(n: usize, n_group: usize, seed: i64, variant: Variant, arithmetic: Arithmetic) {
    let settings = OnePassSettings { variant, n_group, arithmetic, ..OnePassSettings::default() };
    let scorer = Scorer::new(n, settings, Device::Cpu).unwrap();
    let p = probabilities(scorer.tree().len(), n, seed);
    let head = variant.has_head().then(|| HierarchicalAttention::new(n, seed as u64, Device::Cpu));
    // Weights large enough that attention is far from uniform.
    head.iter().flat_map(HierarchicalAttention::named_tensors).for_each(|(_, mut t)| {
        let _ = tch::no_grad(|| t.g_mul_scalar_(4.0));
    });
    let order = scorer.rank(&p, head.as_ref()).remove(0);
    let groups = Groups::new(n, n_group).unwrap();
    let plain = head.as_ref().map(PlainHead::of);
    let naive = Naive { tree: scorer.tree(), p: &p, groups, settings, head: plain, n };
    let prepared = scorer.prepare(&p, head.as_ref());
    let mut placing = Placing::new(1, n);
    for (place, slot) in order.iter().enumerate().take(n - 1) {
        let wanted = if place == 0 { naive.f(&Set::new()) } else { naive.scores(&order[..place]) };
        if place > 0 {
            let scores = scorer.scores(&prepared, &placing, head.as_ref(), None);
            for candidate in (0..n).filter(|c| !order[..place].contains(&(*c as u16))) {
                let difference = scores.double_value(&[0, candidate as i64]) - wanted[candidate];
                assert!(difference.abs() < 1e-4, "{settings:?} place {place} slot {candidate}: {difference}");
            }
        }
        let best = wanted[usize::from(*slot)];
        let open = (0..n).filter(|c| !order[..place].contains(&(*c as u16)));
        assert!(open.map(|c| wanted[c]).all(|other| other <= best + 1e-4), "{settings:?} place {place}");
        placing.place(0, *slot);
    }
}

#[test]
fn every_variant_equals_its_definition() {
    for variant in Variant::ALL {
        for arithmetic in [Arithmetic::Corrected, Arithmetic::AsPublished] {
            check(9, 2, 3, variant, arithmetic);
            check(11, 3, 4, variant, arithmetic);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn every_ranking_is_a_permutation(n in 4usize..21, n_group in 2usize..6, seed in 0i64..100, which in 0usize..6, lists in 1usize..4) {
        prop_assume!(2 * n_group <= n && n.div_ceil(n_group) < 8);
        let settings = OnePassSettings { variant: Variant::ALL[which], n_group, ..OnePassSettings::default() };
        let scorer = Scorer::new(n, settings, Device::Cpu).unwrap();
        let p = Tensor::cat(&(0..lists).map(|i| probabilities(scorer.tree().len(), n, seed + i as i64)).collect::<Vec<_>>(), 0);
        let head = HierarchicalAttention::new(n, seed as u64, Device::Cpu);
        let together = scorer.rank(&p, Some(&head));
        for (list, order) in together.iter().enumerate() {
            prop_assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), n);
            let alone = scorer.rank(&p.narrow(0, list as i64, 1), Some(&head));
            prop_assert_eq!(&alone[0], order, "a batch changes nothing");
        }
    }
}

/// Orders by the published procedure, made by `tests/golden/one_pass/make.py`.
#[test]
fn as_published_gives_the_published_orders() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/one_pass/orders.safetensors");
    let file = SafetensorsFile::open(&path).unwrap();
    let mut compared = 0;
    for (n, n_group) in [(9usize, 2usize), (20, 5), (25, 5)] {
        for variant in Variant::ALL {
            let settings =
                OnePassSettings { variant, n_group, arithmetic: Arithmetic::AsPublished, ..OnePassSettings::default() };
            let scorer = Scorer::new(n, settings, Device::Cpu).unwrap();
            let tensor = |what: &str| file.tensor(&format!("{n}.{what}")).unwrap();
            // Rows of the file are named by the bits of their subset, of pairs by first * n + second.
            let (sets, rows) = match variant {
                Variant::Permutation => (tensor("pairs"), tensor("pair_rows")),
                _ => (tensor("sets"), tensor("set_rows")),
            };
            let sets = Vec::<i64>::try_from(sets).unwrap();
            let name = |slots: &Vec<u16>| match (variant, slots.as_slice()) {
                (Variant::Permutation, []) => -1,
                (Variant::Permutation, [only]) => i64::from(*only) * (n as i64 + 1),
                (Variant::Permutation, [first, second, ..]) => i64::from(*first) * n as i64 + i64::from(*second),
                _ => slots.iter().map(|slot| 1 << slot).sum(),
            };
            let place = |slots: &Vec<u16>| sets.iter().position(|set| *set == name(slots)).unwrap() as i64;
            let places: Vec<i64> = scorer.tree().nodes().iter().map(place).collect();
            let p = rows.to_kind(Kind::Float).index_select(1, &Tensor::from_slice(&places)); // [lists, nodes, n]
            let head = HierarchicalAttention::new(n, 0, Device::Cpu);
            for (name, mut weight) in head.named_tensors() {
                tch::no_grad(|| weight.copy_(&tensor(&name)));
            }
            let wanted = Vec::<Vec<i64>>::try_from(tensor(&format!("order.{}", variant.name()))).unwrap();
            for (order, wanted) in scorer.rank(&p, Some(&head)).into_iter().zip(wanted) {
                assert_eq!(order.into_iter().map(i64::from).collect::<Vec<_>>(), wanted, "{n} {variant:?}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 3 * 6 * 2);
}
