//! What some decoders need beside the model: heads, and models that draft.

use std::path::Path;
use std::rc::Rc;

use model::CausalLm;
use model::blockwise::BlockwiseHeads;
use model::medusa::MedusaHeads;
use model::one_pass::{HierarchicalAttention, OnePassSettings};

use crate::EvaluatorError;

/// A head that a decoder needs. Decoders that differ in how they use it share it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum NeededHead {
    /// Of ONE-PASS.
    OnePass(OnePassSettings),
    /// Of blockwise parallel decoding.
    Blockwise,
    /// Of Medusa.
    Medusa {
        /// Number of heads.
        num_heads: usize,
    },
}

impl NeededHead {
    /// Name of its folder.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::OnePass(settings) => settings.label().replace(['(', ','], "-").replace(')', ""),
            Self::Blockwise => "blockwise".to_owned(),
            Self::Medusa { num_heads } => format!("medusa-{num_heads}"),
        }
    }

    /// Name of its method.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self {
            Self::OnePass(_) => "one_pass",
            Self::Blockwise => "blockwise",
            Self::Medusa { .. } => "medusa",
        }
    }

    /// What decides what it computes, for its card.
    #[must_use]
    pub fn settings(&self) -> serde_json::Value {
        match self {
            Self::OnePass(settings) => serde_json::to_value(settings).expect("settings serialise"),
            Self::Blockwise => serde_json::json!({ "bottleneck": BlockwiseHeads::BOTTLENECK }),
            Self::Medusa { num_heads } => serde_json::json!({ "num_heads": num_heads }),
        }
    }
}

/// Where decoders get what is not part of the model.
pub trait DecoderParts {
    /// Head of ONE-PASS.
    ///
    /// # Errors
    /// When it cannot be had.
    fn one_pass(&self, settings: &OnePassSettings) -> Result<HierarchicalAttention, EvaluatorError>;

    /// Heads of blockwise parallel decoding.
    ///
    /// # Errors
    /// When they cannot be had.
    fn blockwise(&self) -> Result<BlockwiseHeads, EvaluatorError>;

    /// Heads of Medusa.
    ///
    /// # Errors
    /// When they cannot be had.
    fn medusa(&self, num_heads: usize) -> Result<MedusaHeads, EvaluatorError>;

    /// The model that drafts, by path or hub id; decoders of one share it.
    ///
    /// # Errors
    /// When it cannot be had.
    fn draft_model(&self, draft: &Path) -> Result<Rc<CausalLm>, EvaluatorError>;
}

/// No heads and no draft models: for decoders that need none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoParts;

impl DecoderParts for NoParts {
    fn one_pass(&self, settings: &OnePassSettings) -> Result<HierarchicalAttention, EvaluatorError> {
        Err(EvaluatorError::NoHead { decoder: settings.label() })
    }

    fn blockwise(&self) -> Result<BlockwiseHeads, EvaluatorError> {
        Err(EvaluatorError::NoHead { decoder: "blockwise".to_owned() })
    }

    fn medusa(&self, _: usize) -> Result<MedusaHeads, EvaluatorError> {
        Err(EvaluatorError::NoHead { decoder: "medusa".to_owned() })
    }

    fn draft_model(&self, _: &Path) -> Result<Rc<CausalLm>, EvaluatorError> {
        Err(EvaluatorError::NoHead { decoder: "speculative".to_owned() })
    }
}
