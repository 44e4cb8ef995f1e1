//! The `heads` section: what decoders with heads learn from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trainer::heads::{DraftHeadConfig, OnePassHeadConfig};

use super::names::Names;

/// Training of the heads that the evaluated decoders need, on the frozen model's own rankings. Which heads follows from
/// `evaluate.decoders`; each is trained for each evaluated model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeadsSection {
    /// Data set, or list of them, whose queries the heads learn from. All lists, those of `validation` and those evaluated, have the same
    /// number of candidates.
    pub train: Names,
    /// Data set, or list of them, that decides which epoch's weights are kept.
    pub validation: Names,
    /// ONE-PASS's attention head.
    #[serde(default)]
    pub one_pass: OnePassHeadConfig,
    /// Heads of `blockwise` and `medusa`.
    #[serde(default)]
    pub draft: DraftHeadConfig,
}
