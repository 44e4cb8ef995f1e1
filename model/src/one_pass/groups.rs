//! Which candidates are in a group together.

use crate::ModelError;

/// Most items of a group: its subsets are numbered by 16 bits, and 65,536 of them are too many to read anyway.
const MAX_GROUP: usize = 16;

/// The division of `n` slots into groups and dual groups: slot `s` belongs to half `s mod 2K`, group `i` is the halves `2i`
/// and `2i + 1`, dual group `i` the halves `2i - 1` (of the last group for `i = 0`) and `2i`. Every half is in exactly one group and one
/// dual group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    n: usize,
    targets: Vec<Vec<u16>>,
    duals: Vec<Vec<u16>>,
}

impl Groups {
    /// Divides `n` slots into `n_group` groups.
    ///
    /// # Errors
    /// Fewer than 2 groups, more than `n / 2` (halves would be empty), or groups too large to read all their subsets.
    pub fn new(n: usize, n_group: usize) -> Result<Self, ModelError> {
        let wrong = |wanted: String| ModelError::Groups { n_group, n, wanted };
        if n_group < 2 {
            return Err(wrong("at least 2 groups".to_owned()));
        }
        if 2 * n_group > n {
            return Err(wrong(format!("at most {} groups, so that each has two halves", n / 2)));
        }
        let halves = 2 * n_group;
        let union =
            |a: usize, b: usize| (0..n as u16).filter(|s| [a, b].contains(&(usize::from(*s) % halves))).collect();
        let targets: Vec<Vec<u16>> = (0..n_group).map(|i| union(2 * i, 2 * i + 1)).collect();
        let duals: Vec<Vec<u16>> = (0..n_group).map(|i| union((2 * i + halves - 1) % halves, 2 * i)).collect();
        let largest = targets.iter().chain(&duals).map(Vec::len).max().unwrap_or(0);
        if largest > MAX_GROUP {
            return Err(wrong(format!(
                "at least {} groups: one of {largest} has 2^{largest} subsets",
                n.div_ceil(MAX_GROUP)
            )));
        }
        Ok(Self { n, targets, duals })
    }

    /// Number of slots.
    #[must_use]
    pub fn num_slots(&self) -> usize {
        self.n
    }

    /// Slots of each group, ascending.
    #[must_use]
    pub fn targets(&self) -> &[Vec<u16>] {
        &self.targets
    }

    /// Slots of each dual group, ascending.
    #[must_use]
    pub fn duals(&self) -> &[Vec<u16>] {
        &self.duals
    }

    /// Whether all of `slots` are in one group.
    #[must_use]
    pub fn in_one_target(&self, slots: &[u16]) -> bool {
        let halves = 2 * self.targets.len();
        let group = |slot: &u16| usize::from(*slot) % halves / 2;
        slots.windows(2).all(|pair| group(&pair[0]) == group(&pair[1]))
    }
}

/// Members of `group` that `mask` names: bit `b` is the `b`-th member.
pub(super) fn members(group: &[u16], mask: usize) -> Vec<u16> {
    group.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1).map(|(_, slot)| *slot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_the_published_ones() {
        let sizes = |n, k| {
            let groups = Groups::new(n, k).unwrap();
            let of = |groups: &[Vec<u16>]| groups.iter().map(Vec::len).collect::<Vec<_>>();
            (of(groups.targets()), of(groups.duals()))
        };
        assert_eq!(sizes(20, 3), (vec![8, 6, 6], vec![7, 7, 6]));
        assert_eq!(sizes(20, 4), (vec![6, 6, 4, 4], vec![5, 6, 5, 4]));
        assert_eq!(sizes(20, 5), (vec![4; 5], vec![4; 5]));
        assert_eq!(sizes(25, 5), (vec![6, 6, 5, 4, 4], vec![5, 6, 6, 4, 4]));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = |n, k| Groups::new(n, k).unwrap_err().to_string();
        assert!(error(20, 1).contains("at least 2"));
        assert!(error(8, 5).contains("at most 4 groups"));
        assert!(error(100, 2).contains("2^50 subsets"));
    }
}
