//! Next-candidate distributions after many beginnings of an answer, in one pass (ONE-PASS, tree attention).

use std::time::Instant;

use data::prompt::RankingPrompt;
use model::one_pass::{CandidateTree, Grouping};
use model::{AttentionPattern, CausalLm, TokenTree};
use tch::{Device, Kind, Tensor, no_grad};

use super::{Continuation, check_context, check_prompt, prompt_with_opening, single_tokens};
use crate::EvaluatorError;

/// Distributions of one prompt's tree, and what reading them cost.
#[derive(Debug)]
pub(crate) struct NodeProbabilities {
    /// Float32 `[nodes, n]` on the CPU: row = node of the tree, column = slot.
    pub rows: Tensor,
    /// Candidate of each slot.
    pub slots: Vec<u16>,
    /// Passes of the model.
    pub passes: u32,
    /// Tokens read.
    pub tokens: u64,
    /// Wall clock.
    pub seconds: f64,
}

impl NodeProbabilities {
    /// An order of slots as an order of candidates.
    pub fn candidates(&self, slots: &[u16]) -> Vec<u16> {
        slots.iter().map(|slot| self.slots[usize::from(*slot)]).collect()
    }
}

/// Reads the tree of each prompt. Groups by identifier: prompts and trees in one pass, all of them together. Groups by first
/// token: a pass over each prompt and one over its tree.
pub(crate) fn read_nodes(
    model: &CausalLm,
    prompts: &[&RankingPrompt],
    tree: &CandidateTree,
    grouping: Grouping,
) -> Result<Vec<NodeProbabilities>, EvaluatorError> {
    let depth = |prompt: &RankingPrompt| {
        let longest = tree.nodes().iter().map(Vec::len).max().unwrap_or(0);
        longest * (1 + prompt.separator.len())
    };
    for prompt in prompts {
        check_prompt(prompt)?;
        let tokens = prompt.input_ids.len() + prompt.opening.len() + depth(prompt);
        check_context(model, &prompt.query_id, tokens)?;
    }
    match grouping {
        Grouping::ByIdentifier => read_together(model, prompts, tree),
        Grouping::ByFirstToken => prompts.iter().map(|prompt| read_after_prompt(model, prompt, tree)).collect(),
    }
}

/// One pass over `[prompt, prompt, .., tree, tree, ..]`.
fn read_together(
    model: &CausalLm,
    prompts: &[&RankingPrompt],
    tree: &CandidateTree,
) -> Result<Vec<NodeProbabilities>, EvaluatorError> {
    let started = Instant::now();
    let (mut ids, mut cu_seqlens) = (Vec::new(), vec![0i64]);
    for prompt in prompts {
        ids.extend(prompt_with_opening(prompt));
        cu_seqlens.push(ids.len() as i64);
    }
    let mut rows: Vec<Vec<i64>> = Vec::new();
    let mut trees = Vec::new();
    for (index, prompt) in prompts.iter().enumerate() {
        let slots: Vec<u16> = (0..prompt.identifiers.len() as u16).collect();
        let (tokens, states) = tree.tokens(&prompt.identifiers, &prompt.separator, &slots);
        let first = ids.len() as i64;
        let row = |state: &Option<u32>| state.map_or(cu_seqlens[index + 1] - 1, |token| first + i64::from(token));
        rows.push(states.iter().map(row).collect());
        ids.extend(tokens.ids());
        trees.push(tokens);
    }
    let pattern = AttentionPattern::Trees { cu_seqlens, trees };
    let hidden = pass(model, &ids, |input| model.forward_rows(input, &pattern, None, &rows.concat())); // [nodes of all, hidden]
    let mut read_so_far = 0;
    let read = prompts.iter().zip(&rows).map(|(prompt, rows)| {
        let slots: Vec<u16> = (0..prompt.identifiers.len() as u16).collect();
        let own = hidden.narrow(0, read_so_far, rows.len() as i64);
        read_so_far += rows.len() as i64;
        Ok((probabilities(model, prompt, &own, &slots)?, slots))
    });
    let read: Vec<_> = read.collect::<Result<_, EvaluatorError>>()?;
    // The prompts share the pass; each is charged an even part of it.
    let share = started.elapsed().as_secs_f64() / prompts.len() as f64;
    let tokens = (ids.len() / prompts.len().max(1)) as u64;
    let nodes = |(rows, slots)| NodeProbabilities { rows, slots, passes: 1, tokens, seconds: share };
    Ok(read.into_iter().map(nodes).collect())
}

/// A pass over the prompt, which orders the slots, and one over the tree behind it.
fn read_after_prompt(
    model: &CausalLm,
    prompt: &RankingPrompt,
    tree: &CandidateTree,
) -> Result<NodeProbabilities, EvaluatorError> {
    let ids = prompt_with_opening(prompt);
    let mut text = Continuation::new(model, ids.len() + tree.len() * (1 + prompt.separator.len()));
    let state = text.feed(&ids);
    let (rows, slots) = read_behind(&mut text, prompt, tree, Grouping::ByFirstToken, &state)?;
    Ok(NodeProbabilities { rows, slots, passes: text.passes, tokens: text.tokens, seconds: text.seconds() })
}

/// Reads a tree behind a text that ends with the prompt and its opening, whose last state is `state` `[1, hidden]`; the text
/// stays as it is. Float32 `[nodes, n]` and the candidate of each slot.
pub(crate) fn read_behind(
    text: &mut Continuation,
    prompt: &RankingPrompt,
    tree: &CandidateTree,
    grouping: Grouping,
    state: &Tensor,
) -> Result<(Tensor, Vec<u16>), EvaluatorError> {
    let model = text.model;
    let in_order: Vec<u16> = (0..prompt.identifiers.len() as u16).collect();
    let first = probabilities(model, prompt, state, &in_order)?;
    let slots = match grouping {
        Grouping::ByIdentifier => in_order,
        Grouping::ByFirstToken => by_probability(&Vec::try_from(first.view(-1))?),
    };
    let (tokens, states) = tree.tokens(&prompt.identifiers, &prompt.separator, &slots);
    let ids = tokens.ids().to_vec();
    let rows: Vec<i64> = states.iter().skip(1).flatten().map(|token| i64::from(*token)).collect();
    let hidden = tree_pass(text, tokens, &ids, &rows);
    let first = first.index_select(1, &Tensor::from_slice(&slots.iter().map(|s| i64::from(*s)).collect::<Vec<_>>()));
    let rest = probabilities(model, prompt, &hidden, &slots)?;
    Ok((Tensor::cat(&[first, rest], 0), slots))
}

/// Reads a tree's tokens behind the cached text, which stays alone in the cache: states `[rows, hidden]`.
fn tree_pass(text: &mut Continuation, tokens: TokenTree, ids: &[i64], rows: &[i64]) -> Tensor {
    text.passes += 1;
    text.tokens += ids.len() as u64;
    let pattern = AttentionPattern::Trees { cu_seqlens: vec![0, 0], trees: vec![tokens] };
    let (model, cache) = (text.model, &mut text.cache);
    pass(model, ids, |input| model.forward_rows(input, &pattern, Some(cache), rows))
}

/// Hidden states `[rows, hidden]` of one row of `ids`.
fn pass(model: &CausalLm, ids: &[i64], forward: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
    no_grad(|| forward(&Tensor::from_slice(ids).unsqueeze(0).to_device(model.device())).squeeze_dim(0))
}

/// Softmax over the identifiers' logits of states `[rows, hidden]`: float32 `[rows, n]` on the CPU, column = slot.
fn probabilities(
    model: &CausalLm,
    prompt: &RankingPrompt,
    states: &Tensor,
    slots: &[u16],
) -> Result<Tensor, EvaluatorError> {
    let tokens = single_tokens(prompt)?;
    let tokens: Vec<i64> = slots.iter().map(|slot| tokens[usize::from(*slot)]).collect();
    let logits = no_grad(|| {
        let device = model.device();
        let weight = model.output_weight().index_select(0, &Tensor::from_slice(&tokens).to_device(device));
        // As everywhere where candidates are compared, logits are float32 whatever the weights' kind.
        states.to_kind(Kind::Float).linear::<&Tensor>(&weight.to_kind(Kind::Float), None).to_device(Device::Cpu)
    });
    if logits.isfinite().all().int64_value(&[]) == 0 {
        return Err(EvaluatorError::NonFiniteLogits { what: prompt.query_id.clone() });
    }
    Ok(logits.softmax(-1, Kind::Float))
}

/// Indices by falling value; equals keep their order.
fn by_probability(values: &[f32]) -> Vec<u16> {
    let mut order: Vec<u16> = (0..values.len() as u16).collect();
    order.sort_by(|a, b| values[usize::from(*b)].total_cmp(&values[usize::from(*a)]).then(a.cmp(b)));
    order
}
