//! Tokens that hang on a text as a tree: many continuations of one prefix, read in one pass.

/// A forest of tokens behind a prefix, parents before children. A token sees the whole prefix, its ancestors and itself;
/// its position is the prefix's length plus its depth, so that it is what it would be in a text of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenTree {
    ids: Vec<i64>,
    parents: Vec<Option<u32>>,
    depths: Vec<u32>,
}

impl TokenTree {
    /// Adds a token under `parent` (a token added before), or under the prefix's last token; its index.
    ///
    /// # Panics
    /// When there is no such parent.
    pub fn push(&mut self, id: i64, parent: Option<u32>) -> u32 {
        let depth = parent.map_or(0, |parent| self.depths[parent as usize] + 1);
        self.ids.push(id);
        self.parents.push(parent);
        self.depths.push(depth);
        (self.ids.len() - 1) as u32
    }

    /// Adds tokens one under the other; the index of the last one, or `parent` when there are none.
    pub fn push_chain(&mut self, ids: &[i64], parent: Option<u32>) -> Option<u32> {
        ids.iter().fold(parent, |parent, id| Some(self.push(*id, parent)))
    }

    /// Token ids, in the order they were added.
    #[must_use]
    pub fn ids(&self) -> &[i64] {
        &self.ids
    }

    /// Parents, in the same order.
    #[must_use]
    pub fn parents(&self) -> &[Option<u32>] {
        &self.parents
    }

    /// Tokens between each token and the prefix, in the same order.
    #[must_use]
    pub fn depths(&self) -> &[u32] {
        &self.depths
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// True without tokens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// A token and its ancestors, the token first.
    pub fn path(&self, index: u32) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(Some(index), |index| self.parents[*index as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_the_prefix() {
        let mut tree = TokenTree::default();
        let a = tree.push_chain(&[7, 8], None);
        let b = tree.push_chain(&[9], a);
        let c = tree.push(4, None);
        assert_eq!((a, b, c), (Some(1), Some(2), 3));
        assert_eq!(tree.path(2).collect::<Vec<_>>(), [2, 1, 0]);
        assert_eq!(tree.depths(), [0, 1, 2, 0]);
        assert_eq!(tree.push_chain(&[], b), b);
    }
}
