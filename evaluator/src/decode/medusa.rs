//! Medusa (Cai et al. 2024, arXiv:2401.10774): heads give several candidates for each place ahead, and one pass reads them all
//! as a tree.

use std::rc::Rc;

use data::prompt::{Identifiers, RankingPrompt};
use model::{CausalLm, MedusaHeads};

use super::blockwise::{check_heads, head_rows};
use super::drafted_list::{DraftMethod, DraftedList, ItemTree, ranked};
use super::{Decoded, Decoder, LastPrompt};
use crate::EvaluatorError;

/// The first level of the tree is the model's own next item, which is certain; level `i + 1` holds, under each node, the best
/// `branching` items of head `i` among those neither decided nor on the way to the node. The pass that reads the tree keeps the
/// longest path on which the model itself would have gone, and one item more.
#[derive(Debug, Clone)]
pub struct Medusa {
    heads: Rc<MedusaHeads>,
    levels: usize,
    branching: usize,
    n_step: Option<u32>,
}

impl Medusa {
    /// Levels of the tree where nothing else is said. There is one head less.
    pub const LEVELS: usize = 4;
    /// Items of a head under each node where nothing else is said.
    pub const BRANCHING: usize = 3;

    /// A tree of `levels` levels (as far as there are heads, one less than levels) with `branching` items under each node; at most
    /// `n_step` passes, the prompt's included (0 counts as 1); `None`: until the list is the autoregressive one.
    #[must_use]
    pub fn new(heads: Rc<MedusaHeads>, levels: usize, branching: usize, n_step: Option<u32>) -> Self {
        Self { heads, levels, branching, n_step }
    }

    /// Most nodes of a tree: it is read in one pass, and grows by powers.
    const MOST_NODES: usize = 4096;

    /// What is wrong with settings whose tree no pass can read.
    pub(super) fn too_large(levels: usize, branching: usize) -> Option<String> {
        let nodes = tree_items(levels, branching, Identifiers::Alphabetic.limit());
        let most = Self::MOST_NODES;
        let tree = format!("`levels` {levels} and `branching` {branching} make a tree of more than {most} items");
        (nodes > most).then(|| format!("{tree}, wanted at most {most}"))
    }
}

impl Decoder for Medusa {
    fn name(&self) -> &'static str {
        "medusa"
    }

    fn decode(&self, model: &CausalLm, prompt: &RankingPrompt) -> Result<Decoded, EvaluatorError> {
        self.decode_behind(model, prompt, &LastPrompt::unshared())
    }

    fn decode_behind(
        &self,
        model: &CausalLm,
        prompt: &RankingPrompt,
        last: &LastPrompt,
    ) -> Result<Decoded, EvaluatorError> {
        check_heads(self.heads.as_ref(), prompt, "medusa")?;
        let items = tree_items(self.levels, self.branching, prompt.identifiers.len());
        let list = DraftedList::start(model, prompt, items, last)?;
        list.finish(self.n_step, &mut Branches { settings: self })
    }
}

/// Nodes below the first level, whose items are of a list of `n`.
fn tree_items(levels: usize, branching: usize, n: usize) -> usize {
    let mut level_items = 1usize;
    let levels = (1..levels.min(n)).map(|level| {
        level_items = level_items.saturating_mul(branching.min(n - level));
        level_items
    });
    levels.fold(0, usize::saturating_add)
}

struct Branches<'a> {
    settings: &'a Medusa,
}

impl DraftMethod for Branches<'_> {
    fn advance(&mut self, list: &mut DraftedList<'_>) -> Result<(), EvaluatorError> {
        let mut rows = head_rows(self.settings.heads.as_ref(), list.state())?;
        rows.truncate(self.settings.levels.saturating_sub(1).min(list.worth_drafting()));
        let mut tree = ItemTree::default();
        self.grow(&mut tree, None, &rows, &list.undecided().collect::<Vec<_>>());
        if tree.is_empty() {
            list.verify(&[], 1)?;
            return Ok(());
        }
        list.verify_tree(&tree)
    }
}

impl Branches<'_> {
    /// Adds the levels of `rows` below `parent`; `left` are the items that may still stand there.
    fn grow(&self, tree: &mut ItemTree, parent: Option<usize>, rows: &[Vec<f32>], left: &[u16]) {
        let Some((row, deeper)) = rows.split_first() else { return };
        for item in ranked(row, left.to_vec()).into_iter().take(self.settings.branching) {
            let node = tree.push(item, parent);
            let below: Vec<u16> = left.iter().copied().filter(|other| *other != item).collect();
            self.grow(tree, Some(node), deeper, &below);
        }
    }
}
