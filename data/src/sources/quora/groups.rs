//! Which questions are known to ask the same: groups joined by pairs.

use std::collections::HashMap;

/// Groups of questions, by their words (lower case, without the punctuation around them).
#[derive(Debug, Default)]
pub(super) struct DuplicateGroups {
    nodes: HashMap<String, usize>,
    /// A node of the same group; the group's own name points to itself.
    parents: Vec<usize>,
}

impl DuplicateGroups {
    /// Number of a question; a new question is a group of its own.
    pub(super) fn node(&mut self, text: &str) -> usize {
        let next = self.parents.len();
        let node = *self.nodes.entry(words(text)).or_insert(next);
        if node == next {
            self.parents.push(next);
        }
        node
    }

    /// Says that two questions ask the same.
    pub(super) fn join(&mut self, first: usize, second: usize) {
        let (first, second) = (self.of(first), self.of(second));
        // The smaller number names the group: the same name whatever the order, and short ways on average.
        self.parents[first.max(second)] = first.min(second);
    }

    /// The group of a question.
    pub(super) fn of(&self, mut node: usize) -> usize {
        while self.parents[node] != node {
            node = self.parents[node];
        }
        node
    }
}

fn words(text: &str) -> String {
    let lower = text.to_lowercase();
    // C, C# and C++ are three things.
    let sign = |c: char| !c.is_alphanumeric() && !['#', '+'].contains(&c);
    let words: Vec<&str> =
        lower.split_whitespace().map(|word| word.trim_matches(sign)).filter(|word| !word.is_empty()).collect();
    // A text of signs alone is itself.
    if words.is_empty() { text.trim().to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_words_are_one_question() {
        let mut groups = DuplicateGroups::default();
        assert_eq!(groups.node("How do I  learn Rust?"), groups.node("how do i learn rust"));
        assert_ne!(groups.node("Is it C++?"), groups.node("Is it C?"));
        assert_ne!(groups.node("?!"), groups.node("!?"));
    }

    proptest! {
        #[test]
        fn groups_are_what_pairs_reach(pairs in prop::collection::vec((0usize..20, 0usize..20), 0..30)) {
            let mut groups = DuplicateGroups::default();
            let nodes: Vec<usize> = (0..20).map(|number| groups.node(&format!("question {number}"))).collect();
            pairs.iter().for_each(|&(a, b)| groups.join(nodes[a], nodes[b]));
            let mut reached: HashSet<usize> = HashSet::from([0]);
            for _ in 0..20 {
                for &(a, b) in &pairs {
                    if reached.contains(&a) || reached.contains(&b) {
                        reached.extend([a, b]);
                    }
                }
            }
            for number in 0..20 {
                prop_assert_eq!(groups.of(nodes[number]) == groups.of(nodes[0]), reached.contains(&number));
            }
        }
    }
}
