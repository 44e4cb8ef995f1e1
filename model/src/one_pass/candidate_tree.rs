//! The beginnings of answers whose next-candidate distribution is read.

use std::collections::HashMap;

use super::Groups;
use super::groups::members;
use crate::TokenTree;

/// Which beginnings a tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TreeShape {
    /// All subsets of groups and dual groups.
    Subsets {
        /// Number of groups.
        n_group: usize,
    },
    /// Those of the groups alone.
    GroupSubsets {
        /// Number of groups.
        n_group: usize,
    },
    /// All ordered beginnings of one and of two slots.
    OrderedPairs,
}

/// A trie of answer beginnings. Node 0 is the empty one; every other is its parent's and one more slot.
#[derive(Debug, Clone)]
pub struct CandidateTree {
    /// Slots in the order they are written.
    nodes: Vec<Vec<u16>>,
    parents: Vec<usize>,
    places: HashMap<Vec<u16>, usize>,
}

impl CandidateTree {
    /// All subsets of all groups and dual groups, each written in ascending order of slots.
    #[must_use]
    pub fn subsets(groups: &Groups) -> Self {
        Self::subsets_of(groups.targets().iter().chain(groups.duals()))
    }

    /// All subsets of all groups, the dual groups left out.
    #[must_use]
    pub fn group_subsets(groups: &Groups) -> Self {
        Self::subsets_of(groups.targets().iter())
    }

    fn subsets_of<'g>(groups: impl Iterator<Item = &'g Vec<u16>>) -> Self {
        let mut tree = Self::root();
        for group in groups {
            for mask in 1..1usize << group.len() {
                tree.add(members(group, mask));
            }
        }
        tree
    }

    /// All ordered beginnings of one and of two slots.
    #[must_use]
    pub fn ordered_pairs(n: usize) -> Self {
        let mut tree = Self::root();
        for first in 0..n as u16 {
            tree.add(vec![first]);
            for second in (0..n as u16).filter(|second| *second != first) {
                tree.add(vec![first, second]);
            }
        }
        tree
    }

    fn root() -> Self {
        Self { nodes: vec![Vec::new()], parents: vec![0], places: HashMap::from([(Vec::new(), 0)]) }
    }

    /// Adds a beginning and those that it begins with itself; its node.
    fn add(&mut self, slots: Vec<u16>) -> usize {
        if let Some(node) = self.places.get(&slots) {
            return *node;
        }
        let parent = self.add(slots[..slots.len() - 1].to_vec());
        let node = self.nodes.len();
        self.parents.push(parent);
        self.places.insert(slots.clone(), node);
        self.nodes.push(slots);
        node
    }

    /// Number of nodes, the empty one included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// False: the empty beginning is always there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The beginnings, by node.
    #[must_use]
    pub fn nodes(&self) -> &[Vec<u16>] {
        &self.nodes
    }

    /// Node of a beginning.
    #[must_use]
    pub fn node(&self, slots: &[u16]) -> Option<usize> {
        self.places.get(slots).copied()
    }

    /// The tokens behind the prompt and the answer's opening, and the token after which each node's next candidate is read:
    /// `None` for the empty beginning, which is read after the prompt's last token. `identifiers` by candidate, `slots` the
    /// candidate of each slot.
    #[must_use]
    pub fn tokens(&self, identifiers: &[Vec<i64>], separator: &[i64], slots: &[u16]) -> (TokenTree, Vec<Option<u32>>) {
        let mut tree = TokenTree::default();
        let mut states: Vec<Option<u32>> = vec![None];
        for (node, parent) in self.nodes.iter().zip(&self.parents).skip(1) {
            let slot = node[node.len() - 1];
            let identifier = &identifiers[usize::from(slots[usize::from(slot)])];
            let state = tree.push_chain(identifier, states[*parent]);
            states.push(tree.push_chain(separator, state));
        }
        (tree, states)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens of the published format: four for each node, one for the root.
    fn published_tokens(n: usize, n_group: usize, tree: fn(&Groups) -> CandidateTree) -> usize {
        4 * (tree(&Groups::new(n, n_group).unwrap()).len() - 1) + 1
    }

    #[test]
    fn sizes_are_the_published_ones() {
        let (all, groups) = (CandidateTree::subsets, CandidateTree::group_subsets);
        assert_eq!([3, 4, 5].map(|k| published_tokens(20, k, all)), [2561, 1025, 481]);
        assert_eq!([3, 4, 5].map(|k| published_tokens(25, k, all)), [7745, 2273, 1297]);
        assert_eq!([3, 4, 5].map(|k| published_tokens(20, k, groups)), [1525, 625, 301]);
        assert_eq!([3, 4, 5].map(|k| published_tokens(25, k, groups)), [4085, 1265, 749]);
        assert_eq!(4 * (CandidateTree::ordered_pairs(20).len() - 1) + 1, 1601);
    }

    #[test]
    fn tokens_follow_their_parents() {
        let tree = CandidateTree::ordered_pairs(2);
        let (tokens, states) = tree.tokens(&[vec![10], vec![11]], &[1, 2], &[1, 0]);
        assert_eq!(tree.nodes(), [vec![], vec![0], vec![0, 1], vec![1], vec![1, 0]]);
        assert_eq!(tokens.ids(), [11, 1, 2, 10, 1, 2, 10, 1, 2, 11, 1, 2], "slot 0 is candidate 1");
        assert_eq!(states, [None, Some(2), Some(5), Some(8), Some(11)]);
        assert_eq!(tokens.path(5).count(), 6);
        let (compact, states) = tree.tokens(&[vec![10], vec![11]], &[], &[0, 1]);
        assert_eq!((compact.len(), states[2]), (4, Some(1)));
    }
}
