//! Heads and draft models for the decoders of a command.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use evaluator::EvaluatorError;
use evaluator::decode::{DecoderParts, NeededHead};
use model::blockwise::BlockwiseHeads;
use model::draft_heads::{DraftHeads as _, identifier_rows};
use model::head_folder;
use model::medusa::MedusaHeads;
use model::one_pass::{HierarchicalAttention, OnePassSettings};
use model::{CausalLm, LoadOptions};
use tch::{Device, Tensor};

use crate::stages::decoder_needs::draft_folder;
use crate::stages::heads::{card, weights_of};

/// Heads below a folder, for one model and prompt.
pub struct HeadParts<'a> {
    /// The model they stand on.
    pub model: &'a CausalLm,
    /// Its folder.
    pub model_folder: &'a Path,
    /// Hash of the prompt.
    pub prompt_hash: String,
    /// Token of each identifier, as many as there can be.
    pub identifiers: Vec<i64>,
    /// Folder of a needed head.
    pub folder_of: Box<dyn Fn(&NeededHead) -> PathBuf + 'a>,
    /// What was read for one decoder and serves the others.
    pub known: Known,
}

/// Begins empty.
#[derive(Default)]
pub struct Known {
    weights: OnceCell<String>,
    drafts: RefCell<BTreeMap<PathBuf, Rc<CausalLm>>>,
}

impl HeadParts<'_> {
    /// Candidates of a head and a place to load it into, made by `empty`.
    fn load<H>(
        &self,
        head: &NeededHead,
        empty: impl FnOnce(usize) -> H,
        named: impl FnOnce(&H) -> Vec<(String, Tensor)>,
    ) -> Result<H, EvaluatorError> {
        let folder = (self.folder_of)(head);
        if !folder.join("head.json").is_file() {
            return Err(EvaluatorError::NoHead { decoder: head.name() });
        }
        // Whether the lists have as many candidates shows when they are ranked.
        let n = head_folder::card(&folder)?.num_candidates;
        if n > self.identifiers.len() {
            return Err(EvaluatorError::HeadSize { decoder: head.name(), head: n, list: self.identifiers.len() });
        }
        let weights = weights_of(&self.known.weights, self.model_folder)
            .map_err(|error| EvaluatorError::Parts { what: head.name(), problem: format!("{error:#}") })?;
        let needed = card(head, n, &weights, &self.prompt_hash);
        let loaded = empty(n);
        head_folder::load_into(&folder, &needed, &named(&loaded))?;
        Ok(loaded)
    }

    fn rows(&self, n: usize) -> Tensor {
        identifier_rows(self.model, &self.identifiers[..n])
    }
}

impl DecoderParts for HeadParts<'_> {
    fn one_pass(&self, settings: &OnePassSettings) -> Result<HierarchicalAttention, EvaluatorError> {
        let head = NeededHead::OnePass(*settings);
        self.load(&head, |n| HierarchicalAttention::new(n, 0, Device::Cpu), HierarchicalAttention::named_tensors)
    }

    fn blockwise(&self) -> Result<BlockwiseHeads, EvaluatorError> {
        let empty = |n| {
            let heads = BlockwiseHeads::default_num_heads(n);
            BlockwiseHeads::new(&self.rows(n), heads, BlockwiseHeads::BOTTLENECK, 0)
        };
        self.load(&NeededHead::Blockwise, empty, |heads| heads.named_tensors())
    }

    fn medusa(&self, num_heads: usize) -> Result<MedusaHeads, EvaluatorError> {
        let empty = |n| MedusaHeads::new(&self.rows(n), num_heads);
        self.load(&NeededHead::Medusa { num_heads }, empty, |heads| heads.named_tensors())
    }

    fn draft_model(&self, draft: &Path) -> Result<Rc<CausalLm>, EvaluatorError> {
        if let Some(loaded) = self.known.drafts.borrow().get(draft) {
            return Ok(Rc::clone(loaded));
        }
        let folder = draft_folder(draft).map_err(|error| EvaluatorError::Parts {
            what: format!("draft model `{}`", draft.display()),
            problem: format!("{error:#}"),
        })?;
        let options = LoadOptions { device: self.model.device(), kind: self.model.kind() };
        let loaded = Rc::new(CausalLm::load(&folder, &options)?);
        self.known.drafts.borrow_mut().insert(draft.to_owned(), Rc::clone(&loaded));
        Ok(loaded)
    }
}
