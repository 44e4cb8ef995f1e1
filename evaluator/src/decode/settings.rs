//! Settings of the decoders that draft, as an experiment file writes them.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Medusa, Speculative};

/// Parallel decoding by Jacobi iteration.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JacobiSettings {
    /// Passes of the model at most, the prompt's included; items not certain then are ranked by the last pass's logits.
    /// Default absent: until the order is the autoregressive one.
    pub n_step: Option<u32>,
}

/// Speculative decoding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpeculativeSettings {
    /// As for `jacobi`.
    pub n_step: Option<u32>,
    /// Items drafted for a pass, at least 1. Default 5.
    pub num_draft: usize,
    /// A smaller model with the same tokenizer that drafts: a folder or hub id. Default absent: the first token's ranking drafts, at no cost.
    pub draft_model: Option<PathBuf>,
}

impl Default for SpeculativeSettings {
    fn default() -> Self {
        Self { n_step: None, num_draft: Speculative::NUM_DRAFT, draft_model: None }
    }
}

/// Blockwise parallel decoding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BlockwiseSettings {
    /// As for `jacobi`.
    pub n_step: Option<u32>,
    /// A drafted item is accepted among the model's best so many of all items, at least 1. Default 1 (of those that are left), which is
    /// lossless; published script: 5.
    pub accept_top_k: usize,
}

impl Default for BlockwiseSettings {
    fn default() -> Self {
        Self { n_step: None, accept_top_k: 1 }
    }
}

/// Medusa heads with a tree of candidates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MedusaSettings {
    /// As for `jacobi`.
    pub n_step: Option<u32>,
    /// Levels of the tree, at least 2; one head for each but the first. Default 4.
    pub levels: usize,
    /// Items under each node from the second level on, at least 1. Default 3.
    pub branching: usize,
}

impl Default for MedusaSettings {
    fn default() -> Self {
        Self { n_step: None, levels: Medusa::LEVELS, branching: Medusa::BRANCHING }
    }
}

/// `name`, `name(n_step=2)` or `name(n_step=2,key=3)` for what differs from the defaults.
pub(super) fn label(name: &str, n_step: Option<u32>, others: &[(&str, Option<String>)]) -> String {
    let steps = n_step.map(|n_step| format!("n_step={n_step}"));
    let others = others.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_ref()?)));
    let notes: Vec<String> = steps.into_iter().chain(others).collect();
    if notes.is_empty() { name.to_owned() } else { format!("{name}({})", notes.join(",")) }
}
