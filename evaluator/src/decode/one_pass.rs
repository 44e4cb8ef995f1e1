//! ONE-PASS (Du, Sun, Wei, Zhang; WWW 2026): the whole ranking from the probabilities of one pass; see [`model::one_pass`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use data::prompt::RankingPrompt;
use model::CausalLm;
use model::one_pass::{Grouping, HierarchicalAttention, OnePassSettings, Scorer, TreeShape};
use tch::{Device, Tensor};

use super::node_probabilities::{NodeProbabilities, read_nodes};
use super::{Decoded, Decoder, RepairCounts};
use crate::EvaluatorError;

/// A variant with its head, if it has one.
pub struct OnePass {
    name: String,
    settings: OnePassSettings,
    head: Option<HierarchicalAttention>,
    /// By number of candidates.
    scorers: RefCell<HashMap<usize, Rc<Scorer>>>,
    last_read: Rc<LastRead>,
}

/// Variants that read the same tree share its pass: the last prompt's nodes, by tree. Each variant is charged the pass.
#[derive(Debug, Default)]
pub struct LastRead(RefCell<HashMap<TreeKey, Read>>);

impl LastRead {
    /// The next decoder reads its tree itself.
    pub fn forget(&self) {
        self.0.borrow_mut().clear();
    }
}

/// A prompt's tokens and its nodes.
type Read = (Vec<i64>, Rc<NodeProbabilities>);

/// What decides a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct TreeKey {
    n: usize,
    shape: TreeShape,
    grouping: Grouping,
}

impl OnePass {
    /// A decoder of `settings`. `head` as the variant needs it, trained for the same model, prompt and number of candidates;
    /// `last_read` is shared by the decoders of an evaluation.
    ///
    /// # Errors
    /// A variant that needs a head without one.
    pub fn new(
        settings: OnePassSettings,
        head: Option<HierarchicalAttention>,
        last_read: Rc<LastRead>,
    ) -> Result<Self, EvaluatorError> {
        if settings.variant.has_head() && head.is_none() {
            return Err(EvaluatorError::NoHead { decoder: settings.label() });
        }
        Ok(Self { name: settings.label(), settings, head, scorers: RefCell::default(), last_read })
    }

    fn scorer(&self, n: usize) -> Result<Rc<Scorer>, EvaluatorError> {
        if let Some(scorer) = self.scorers.borrow().get(&n) {
            return Ok(Rc::clone(scorer));
        }
        // On the CPU whatever the model's device: a ranking is many small steps, each waiting for the one before.
        if let Some(head) = self.head.as_ref().filter(|head| head.num_candidates() != n) {
            return Err(EvaluatorError::HeadSize { decoder: self.name.clone(), head: head.num_candidates(), list: n });
        }
        let scorer = Rc::new(Scorer::new(n, self.settings, Device::Cpu)?);
        self.scorers.borrow_mut().insert(n, Rc::clone(&scorer));
        Ok(scorer)
    }

    fn nodes(
        &self,
        model: &CausalLm,
        prompt: &RankingPrompt,
        scorer: &Scorer,
    ) -> Result<Rc<NodeProbabilities>, EvaluatorError> {
        let (shape, grouping) = (self.settings.tree_shape(), self.settings.grouping);
        let key = TreeKey { n: prompt.identifiers.len(), shape, grouping };
        if let Some((ids, nodes)) = self.last_read.0.borrow().get(&key)
            && *ids == prompt.input_ids
        {
            return Ok(Rc::clone(nodes));
        }
        let nodes = read_nodes(model, &[prompt], scorer.tree(), grouping)?.remove(0);
        let nodes = Rc::new(nodes);
        self.last_read.0.borrow_mut().insert(key, (prompt.input_ids.clone(), Rc::clone(&nodes)));
        Ok(nodes)
    }
}

impl Decoder for OnePass {
    fn name(&self) -> &str {
        &self.name
    }

    fn decode(&self, model: &CausalLm, prompt: &RankingPrompt) -> Result<Decoded, EvaluatorError> {
        if let [_] = prompt.identifiers[..] {
            // One candidate has no groups; there is nothing to read either.
            return super::SingleToken.decode(model, prompt);
        }
        let scorer = self.scorer(prompt.identifiers.len())?;
        let nodes = self.nodes(model, prompt, &scorer)?;
        let started = Instant::now();
        let slots = scorer.rank(&nodes.rows.unsqueeze(0), self.head.as_ref()).remove(0);
        Ok(decoded(&nodes, &slots, started.elapsed().as_secs_f64()))
    }

    /// Prompts and trees in one pass, where all prompts have as many candidates.
    fn decode_batch(&self, model: &CausalLm, prompts: &[&RankingPrompt]) -> Result<Vec<Decoded>, EvaluatorError> {
        let n = prompts.first().map_or(0, |first| first.identifiers.len());
        if n < 2 || prompts.len() == 1 || prompts.iter().any(|prompt| prompt.identifiers.len() != n) {
            return prompts.iter().map(|prompt| self.decode(model, prompt)).collect();
        }
        let scorer = self.scorer(n)?;
        let nodes = read_nodes(model, prompts, scorer.tree(), self.settings.grouping)?;
        let started = Instant::now();
        let rows: Vec<&Tensor> = nodes.iter().map(|nodes| &nodes.rows).collect();
        let orders = scorer.rank(&Tensor::stack(&rows, 0), self.head.as_ref());
        let seconds = started.elapsed().as_secs_f64() / prompts.len() as f64;
        Ok(nodes.iter().zip(orders).map(|(nodes, slots)| decoded(nodes, &slots, seconds)).collect())
    }
}

fn decoded(nodes: &NodeProbabilities, slots: &[u16], seconds: f64) -> Decoded {
    Decoded {
        order: nodes.candidates(slots),
        scores: None,
        forward_passes: nodes.passes,
        new_tokens: slots.len() as u32,
        tokens_computed: nodes.tokens,
        seconds: nodes.seconds + seconds,
        repair: RepairCounts::default(),
        text: None,
        accepted_per_pass: None,
        seconds_after_model: Some(seconds),
    }
}

#[cfg(test)]
mod tests {
    use data::prompt::Identifiers;
    use model::one_pass::{Arithmetic, CandidateTree, Variant};
    use tch::Kind;

    use super::super::tests::{FakePrompts, logits_after, sample, tiny};
    use super::super::{AutoregressiveForced, SingleToken};
    use super::*;
    use crate::sliding::PromptSource;

    fn prompts(n: usize, count: usize) -> Vec<RankingPrompt> {
        let prompt = |i: usize| {
            let sample = sample("q", n);
            let mut prompt = FakePrompts(Identifiers::Alphabetic).prompt(&sample).unwrap();
            prompt.input_ids.extend((0..i as i64 * 3).map(|k| 41 + k % 7));
            prompt
        };
        (0..count).map(prompt).collect()
    }

    fn settings(variant: Variant, n_group: usize, grouping: Grouping) -> OnePassSettings {
        OnePassSettings { variant, n_group, grouping, ..OnePassSettings::default() }
    }

    /// The distribution after each beginning, every one read on its own.
    #[test]
    fn nodes_are_what_each_beginning_gives_on_its_own() {
        let model = tiny(2);
        let groups = model::one_pass::Groups::new(9, 2).unwrap();
        for compact in [false, true] {
            let mut prompts = prompts(9, 2);
            if compact {
                prompts.iter_mut().for_each(|prompt| {
                    prompt.opening.clear();
                    prompt.separator.clear();
                });
            }
            for tree in [CandidateTree::subsets(&groups), CandidateTree::ordered_pairs(9)] {
                for grouping in [Grouping::ByIdentifier, Grouping::ByFirstToken] {
                    let all: Vec<&RankingPrompt> = prompts.iter().collect();
                    for (nodes, prompt) in read_nodes(&model, &all, &tree, grouping).unwrap().iter().zip(&prompts) {
                        for (row, node) in tree.nodes().iter().enumerate() {
                            let mut ids = super::super::prompt_with_opening(prompt);
                            for slot in node {
                                ids.extend(&prompt.identifiers[usize::from(nodes.slots[usize::from(*slot)])]);
                                ids.extend(&prompt.separator);
                            }
                            let logits = logits_after(&model, &ids);
                            let of_slot = |slot: &u16| logits[prompt.identifiers[usize::from(*slot)][0] as usize];
                            let wanted: Vec<f32> = nodes.slots.iter().map(of_slot).collect();
                            let wanted = Tensor::from_slice(&wanted).softmax(-1, Kind::Float);
                            let difference = (nodes.rows.select(0, row as i64) - wanted).abs().max();
                            assert!(difference.double_value(&[]) < 1e-5, "{node:?} {grouping:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn passes_tokens_and_first_place() {
        let model = tiny(4);
        let prompt = &prompts(20, 1)[0];
        let first = SingleToken.decode(&model, prompt).unwrap().order[0];
        for (grouping, passes) in [(Grouping::ByIdentifier, 1), (Grouping::ByFirstToken, 2)] {
            let decoder = OnePass::new(settings(Variant::WoHas, 5, grouping), None, Rc::default()).unwrap();
            let decoded = decoder.decode(&model, prompt).unwrap();
            assert_eq!((decoded.order[0], decoded.forward_passes), (first, passes));
            assert_eq!(decoded.tokens_computed as usize, prompt.input_ids.len() + 1 + 480);
        }
        let naive_add = settings(Variant::NaiveAdd, 5, Grouping::ByIdentifier);
        let decoded = OnePass::new(naive_add, None, Rc::default()).unwrap().decode(&model, prompt).unwrap();
        let groups_alone = prompt.input_ids.len() + 1 + 300;
        assert_eq!(decoded.tokens_computed as usize, groups_alone, "no dual groups, which it does not add");
    }

    #[test]
    fn the_permutation_variant_has_the_forced_orders_first_three() {
        for seed in 0..4 {
            let model = tiny(seed);
            let prompt = &prompts(12, 1)[0];
            let forced = AutoregressiveForced.decode(&model, prompt).unwrap();
            let settings = settings(Variant::Permutation, 5, Grouping::ByIdentifier);
            let decoded = OnePass::new(settings, None, Rc::default()).unwrap().decode(&model, prompt).unwrap();
            assert_eq!(decoded.order[..3], forced.order[..3]);
        }
    }

    fn fewer(prompt: &RankingPrompt) -> RankingPrompt {
        let mut fewer = prompt.clone();
        fewer.identifiers.pop();
        fewer
    }

    #[test]
    fn a_batch_ranks_as_each_prompt_alone() {
        let model = tiny(1);
        let prompts = prompts(9, 3);
        for variant in [Variant::WoHas, Variant::OnePass] {
            let head = || variant.has_head().then(|| HierarchicalAttention::new(9, 3, Device::Cpu));
            let decoder = OnePass::new(settings(variant, 2, Grouping::ByIdentifier), head(), Rc::default()).unwrap();
            let all: Vec<&RankingPrompt> = prompts.iter().collect();
            for (together, prompt) in decoder.decode_batch(&model, &all).unwrap().iter().zip(&prompts) {
                assert_eq!(together.order, decoder.decode(&model, prompt).unwrap().order);
            }
        }
        // Lists of other lengths have other trees.
        let unequal = [prompts[0].clone(), fewer(&prompts[1])];
        let decoder = OnePass::new(settings(Variant::WoHas, 2, Grouping::ByIdentifier), None, Rc::default()).unwrap();
        let all: Vec<&RankingPrompt> = unequal.iter().collect();
        let lengths: Vec<usize> =
            decoder.decode_batch(&model, &all).unwrap().iter().map(|decoded| decoded.order.len()).collect();
        assert_eq!(lengths, [9, 8]);
        for (together, prompt) in SingleToken.decode_batch(&model, &all).unwrap().iter().zip(&unequal) {
            let alone = SingleToken.decode(&model, prompt).unwrap();
            assert_eq!((&together.order, together.tokens_computed), (&alone.order, alone.tokens_computed));
        }
    }

    #[test]
    fn variants_share_a_pass_and_only_for_the_same_prompt_and_tree() {
        let model = tiny(1);
        let (shared, prompts) = (Rc::new(LastRead::default()), prompts(9, 2));
        let of = |(variant, arithmetic), last_read| {
            let settings = OnePassSettings { arithmetic, ..settings(variant, 2, Grouping::ByIdentifier) };
            OnePass::new(settings, None, last_read).unwrap()
        };
        let variants = [
            (Variant::NaiveAdd, Arithmetic::Corrected),
            (Variant::WoHas, Arithmetic::Corrected),
            (Variant::WoHas, Arithmetic::AsPublished),
        ];
        for prompt in &prompts {
            for variant in variants {
                let decoded = of(variant, Rc::clone(&shared)).decode(&model, prompt).unwrap();
                let alone = of(variant, Rc::default()).decode(&model, prompt).unwrap();
                assert_eq!((decoded.order, decoded.tokens_computed), (alone.order, alone.tokens_computed));
                assert_eq!(decoded.forward_passes, 1, "the shared pass is charged");
            }
            assert_eq!(shared.0.borrow().len(), 2, "naive_add reads a tree of its own");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let model = tiny(0);
        let missing = OnePass::new(OnePassSettings::default(), None, Rc::default()).err().unwrap().to_string();
        assert!(missing.contains("`one_pass` needs a trained head"), "{missing}");
        let decoder =
            OnePass::new(settings(Variant::NaiveAdd, 5, Grouping::ByIdentifier), None, Rc::default()).unwrap();
        let message = decoder.decode(&model, &prompts(8, 1)[0]).unwrap_err().to_string();
        assert!(message.contains("`n_group` is 5 for 8 candidates"), "{message}");
        let head = HierarchicalAttention::new(12, 0, Device::Cpu);
        let decoder = OnePass::new(OnePassSettings::default(), Some(head), Rc::default()).unwrap();
        let message = decoder.decode(&model, &prompts(11, 1)[0]).unwrap_err().to_string();
        assert!(message.contains("12 candidates") && message.contains("11"), "{message}");
    }
}
