//! What decides a one-pass ranking.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TreeShape;

/// Variant, groups, arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OnePassSettings {
    /// How the ranking is put together. Default `one_pass`.
    pub variant: Variant,
    /// Groups the candidates are divided into, from 2 to half their number. Fewer groups read more subsets. Default 5.
    pub n_group: usize,
    /// `corrected` or `as_published`. Default `corrected`.
    pub arithmetic: Arithmetic,
    /// What groups are made of. Default `by_identifier`.
    pub grouping: Grouping,
    /// What the head was trained for. Default `top_k`.
    #[serde(skip_serializing_if = "HeadTarget::is_published")]
    pub target: HeadTarget,
}

impl Default for OnePassSettings {
    fn default() -> Self {
        Self {
            variant: Variant::OnePass,
            n_group: 5,
            arithmetic: Arithmetic::Corrected,
            grouping: Grouping::ByIdentifier,
            target: HeadTarget::TopK,
        }
    }
}

impl OnePassSettings {
    /// What is wrong with the settings, one line each. For how many candidates they fit, see [`super::Groups::new`].
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.n_group < 2 && self.variant != Variant::Permutation {
            problems.push(format!("`n_group` is {}, wanted at least 2", self.n_group));
        }
        if self.target == HeadTarget::Listwise {
            if !self.variant.has_head() {
                problems.push(format!("`target` is listwise, but `{}` has no head to train", self.variant.name()));
            } else if self.arithmetic == Arithmetic::AsPublished {
                problems.push("`target` is listwise, wanted top_k with `arithmetic: as_published`".to_owned());
            }
        }
        problems
    }

    /// The beginnings whose probabilities the variant needs.
    #[must_use]
    pub fn tree_shape(&self) -> TreeShape {
        let n_group = self.n_group;
        match self.variant {
            Variant::Permutation => TreeShape::OrderedPairs,
            // A tree with dual groups would charge it for rows that it does not add.
            Variant::NaiveAdd => TreeShape::GroupSubsets { n_group },
            _ => TreeShape::Subsets { n_group },
        }
    }

    /// Name in tables and files: the variant, and what differs from the defaults.
    #[must_use]
    pub fn label(&self) -> String {
        let default = Self::default();
        let mut notes = Vec::new();
        if self.n_group != default.n_group && self.variant != Variant::Permutation {
            notes.push(format!("n_group={}", self.n_group));
        }
        if self.arithmetic != default.arithmetic {
            notes.push("as_published".to_owned());
        }
        if self.grouping != default.grouping {
            notes.push("by_first_token".to_owned());
        }
        if self.target != default.target {
            notes.push("listwise".to_owned());
        }
        if notes.is_empty() {
            self.variant.name().to_owned()
        } else {
            format!("{}({})", self.variant.name(), notes.join(","))
        }
    }
}

/// How a ranking is put together from the probabilities of subsets; the names are the paper's ablations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Möbius sums of the groups, and the head over the Möbius coefficients of the dual groups.
    #[default]
    OnePass,
    /// As `one_pass`, the coefficients of the dual groups added up without a head.
    WoHas,
    /// The head over one probability row of each group and dual group.
    #[serde(rename = "wo_mobius_1")]
    WoMobius1,
    /// As `wo_mobius_1`, where a dual group gives the rows of all its placed subsets.
    #[serde(rename = "wo_mobius_2")]
    WoMobius2,
    /// The probability rows of the groups added up.
    NaiveAdd,
    /// The row after the first two placed items, in their order, ranks all the others.
    Permutation,
}

impl Variant {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::OnePass, Self::WoHas, Self::WoMobius1, Self::WoMobius2, Self::NaiveAdd, Self::Permutation];

    /// Name in files and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OnePass => "one_pass",
            Self::WoHas => "wo_has",
            Self::WoMobius1 => "wo_mobius_1",
            Self::WoMobius2 => "wo_mobius_2",
            Self::NaiveAdd => "naive_add",
            Self::Permutation => "permutation",
        }
    }

    /// Whether it needs a trained head.
    #[must_use]
    pub fn has_head(self) -> bool {
        matches!(self, Self::OnePass | Self::WoMobius1 | Self::WoMobius2)
    }
}

/// Whose sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Arithmetic {
    /// One Möbius convention, the empty set included: scores are `p(∅)` plus differences to it, empty groups take no part, and a
    /// subset is counted once (a dual group adds the subsets that no group holds). Without coefficients (`wo_mobius_1`, `wo_mobius_2`) rows
    /// overlap by nature: a dual group's row counts again what a group's row holds, and one of `wo_mobius_2` with nothing of its own is a row of zeros.
    #[default]
    Corrected,
    /// The published code's: the recursion leaves the empty set out, so that a group's sum is `p` itself; empty groups are rows
    /// of zeros; dual groups count the subsets of the groups again.
    AsPublished,
}

/// What stands in slot 0, 1, ...
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grouping {
    /// Candidates in the order of their identifiers, as published.
    #[default]
    ByIdentifier,
    /// Candidates by the first token's probability: likely neighbours in the ranking come into different groups, and a head
    /// learns places instead of letters. The prompt is read first, the tree in a second pass over its cache.
    ByFirstToken,
}

/// What the scores of a place are compared with when the head is trained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadTarget {
    /// Binary cross entropy, as published: 1 for the next `heads.one_pass.loss_top_k` items of the model's order, 0 for the others.
    #[default]
    TopK,
    /// Cross entropy of a softmax over the items not placed yet against the next item (Plackett-Luce; Luce 1959).
    Listwise,
}

impl HeadTarget {
    /// Whether it is the published one; cards of heads and files leave it out.
    fn is_published(&self) -> bool {
        *self == Self::TopK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_name_what_differs() {
        let mut settings = OnePassSettings::default();
        assert_eq!(settings.label(), "one_pass");
        settings.variant = Variant::WoMobius1;
        settings.n_group = 4;
        settings.grouping = Grouping::ByFirstToken;
        assert_eq!(settings.label(), "wo_mobius_1(n_group=4,by_first_token)");
        settings.target = HeadTarget::Listwise;
        assert_eq!(settings.label(), "wo_mobius_1(n_group=4,by_first_token,listwise)");
        for variant in Variant::ALL {
            assert_eq!(serde_json::to_value(variant).unwrap(), variant.name());
        }
    }

    #[test]
    fn a_listwise_target_wants_a_head_and_its_own_arithmetic() {
        let listwise = OnePassSettings { target: HeadTarget::Listwise, ..OnePassSettings::default() };
        assert!(listwise.validate().is_empty());
        let without_head = OnePassSettings { variant: Variant::NaiveAdd, n_group: 1, ..listwise };
        assert_eq!(without_head.validate().len(), 2, "both problems are named");
        let published = OnePassSettings { arithmetic: Arithmetic::AsPublished, ..listwise };
        assert_eq!(published.validate(), ["`target` is listwise, wanted top_k with `arithmetic: as_published`"]);
        let text = serde_json::to_string(&OnePassSettings::default()).unwrap();
        assert!(!text.contains("target"), "cards written before there was a choice still fit: {text}");
    }
}
