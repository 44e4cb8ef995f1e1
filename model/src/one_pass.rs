//! ONE-PASS (Du, Sun, Wei, Zhang; WWW 2026): a whole ranking from one pass of the language model.
//!
//! Candidates are divided into groups and dual groups ([`Groups`]). The prompt and every subset of every group, written as
//! an answer that begins with it, are read in one pass ([`CandidateTree`]): `p(S)`, the distribution of the next candidate
//! after the subset `S`. The ranking is then put together without the model, item by item ([`Scorer`]): the share of each group's
//! placed items, by Möbius inversion over subsets ([`subset_transform`]), and a small attention head over the dual groups'
//! coefficients ([`HierarchicalAttention`]).
//!
//! Everything here works on *slots*: slot `s` is the `s`-th candidate in the order of the grouping. By letter that is the
//! candidate itself; with [`Grouping::ByFirstToken`] it is the candidate at place `s` of the first token's ranking.

mod attention_head;
mod candidate_tree;
mod groups;
mod placing;
mod scorer;
mod settings;
pub mod subset_transform;
#[cfg(test)]
mod tests;

pub use attention_head::{HeadDropout, HierarchicalAttention};
pub use candidate_tree::{CandidateTree, TreeShape};
pub use groups::Groups;
pub use placing::Placing;
pub use scorer::{Prepared, Scorer};
pub use settings::{Arithmetic, Grouping, HeadTarget, OnePassSettings, Variant};
