//! Training of ONE-PASS's attention head on cached node probabilities; the language model is not needed any more.

use std::time::Instant;

use data::random::Stream;
use model::linear::DropoutSeed;
use model::one_pass::{Arithmetic, HeadDropout, HeadTarget, HierarchicalAttention, Placing, Scorer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

use super::{Adam, HeadProgress, WatchHead};
use crate::TrainError;

/// How heads are trained; for what is the decoder's `target`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OnePassHeadConfig {
    /// Items of the model's order that count as right for a place, with `target: top_k`: the next ones not placed yet. Default 2.
    pub loss_top_k: usize,
    /// With `target: listwise`, scores are divided by this: they are sums of probabilities, and a softmax over them is flat. Default 0.1.
    pub temperature: f64,
    /// Adam's learning rate. Default 1e-3 for `target: top_k`, as published, and 1e-2 for `listwise`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Lists of one step. Default 8 (published 1).
    pub batch_size: usize,
    /// Passes over the lists at most. Default 20.
    pub epochs: usize,
    /// Steps between looks at the validation lists. Default: one look after each epoch (published 50).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_every: Option<usize>,
    /// Looks without a better validation score before training stops. Default 5.
    pub patience: usize,
    /// Probability of dropping an attention weight. Default 0.1, as published.
    pub dropout: f64,
}

impl Default for OnePassHeadConfig {
    fn default() -> Self {
        Self {
            loss_top_k: 2,
            temperature: 0.1,
            learning_rate: None,
            batch_size: 8,
            epochs: 20,
            eval_every: None,
            patience: 5,
            dropout: 0.1,
        }
    }
}

impl OnePassHeadConfig {
    /// Adam's learning rate for a head trained for `target`.
    fn learning_rate(&self, target: HeadTarget) -> f64 {
        self.learning_rate.unwrap_or(match target {
            HeadTarget::TopK => 1e-3,
            // A softmax over sums of probabilities has small gradients; 1e-2 was best of three on MovieLens (docs/experiments.md).
            HeadTarget::Listwise => 1e-2,
        })
    }

    /// Everything wrong with the settings, one line each.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let counts = [
            ("loss_top_k", self.loss_top_k),
            ("batch_size", self.batch_size),
            ("epochs", self.epochs),
            ("patience", self.patience),
            ("eval_every", self.eval_every.unwrap_or(1)),
        ];
        for (key, _) in counts.iter().filter(|(_, count)| *count == 0) {
            problems.push(format!("`{key}` is 0, wanted at least 1"));
        }
        for (key, value) in [("learning_rate", self.learning_rate.unwrap_or(1.0)), ("temperature", self.temperature)] {
            if !(value > 0.0 && value.is_finite()) {
                problems.push(format!("`{key}` is {value}, wanted above 0"));
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            problems.push(format!("`dropout` is {}, wanted at least 0 and below 1", self.dropout));
        }
        problems
    }
}

/// How the training of a head went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OnePassReport {
    /// Mean loss of each epoch.
    pub losses: Vec<f64>,
    /// Kendall score on the validation lists before training and at each look.
    pub validation: Vec<f64>,
    /// The look whose weights were kept; 0 when training made nothing better.
    pub best_look: usize,
    /// Wall clock.
    pub seconds: f64,
}

/// Lists to learn from.
#[derive(Debug)]
pub struct OnePassLists<'a> {
    /// Float32 `[lists, nodes, n]`.
    pub probabilities: &'a Tensor,
    /// The model's order of each list, in slots.
    pub orders: &'a [Vec<u16>],
}

/// Weights by their score on the validation lists.
struct Best<'a> {
    weights: &'a [Tensor],
    kept: Vec<Tensor>,
    /// Of each look.
    scores: Vec<f64>,
    /// Number of the best one.
    look: usize,
}

impl<'a> Best<'a> {
    /// Untrained weights, which are the first to be looked at.
    fn new(weights: &'a [Tensor], score: f64) -> Self {
        Self { weights, kept: copies(weights), scores: vec![score], look: 0 }
    }

    /// Score of the last look.
    fn last(&self) -> f64 {
        self.scores.last().copied().unwrap_or(f64::NAN)
    }

    /// Keeps the present weights where they are better; false when that has not been for `patience` looks.
    fn look(&mut self, score: f64, patience: usize) -> bool {
        self.scores.push(score);
        let now = self.scores.len() - 1;
        if score > self.scores[self.look] {
            (self.kept, self.look) = (copies(self.weights), now);
        }
        now - self.look < patience
    }
}

fn copies(weights: &[Tensor]) -> Vec<Tensor> {
    no_grad(|| weights.iter().map(Tensor::copy).collect())
}

/// Trains a head for `scorer`'s variant; keeps the weights of the look with the best Kendall score (share of pairs in the
/// model's order) on `validation`, the untrained ones included. A pure function of its arguments.
///
/// # Errors
/// Bad settings, no lists, a loss that is not finite, `watch` that breaks off.
pub fn train_one_pass(
    scorer: &Scorer,
    train: &OnePassLists,
    validation: &OnePassLists,
    config: &OnePassHeadConfig,
    seed: u64,
    watch: &mut WatchHead<'_>,
) -> Result<(HierarchicalAttention, OnePassReport), TrainError> {
    let problems = config.validate();
    if !problems.is_empty() {
        return Err(TrainError::Config { problems });
    }
    if train.orders.is_empty() || validation.orders.is_empty() {
        return Err(TrainError::Config { problems: vec!["heads need lists to train and to validate on".to_owned()] });
    }
    let started = Instant::now();
    let device = train.probabilities.device();
    let head = HierarchicalAttention::new(scorer.num_candidates(), seed, device);
    let weights: Vec<Tensor> = head.named_tensors().into_iter().map(|(_, weight)| weight).collect();
    let trained = weights.iter().map(Tensor::shallow_clone).collect();
    let mut adam = Adam::new(trained, config.learning_rate(scorer.settings().target), [0.9, 0.999], 1e-8);
    let mut best = Best::new(&weights, kendall_score(scorer, &head, validation));
    let mut report = OnePassReport::default();
    let (mut steps, mut goes_on) = (0, true);
    let all_steps = config.epochs * train.orders.len().div_ceil(config.batch_size);
    for epoch in 1..=config.epochs {
        let order = Stream::new("order of lists for a head", &[seed, epoch as u64]).permutation(train.orders.len());
        let mut losses = Vec::new();
        for (step, batch) in order.chunks(config.batch_size).enumerate() {
            let lists: Vec<i64> = batch.iter().map(|list| i64::from(*list)).collect();
            let p = train.probabilities.index_select(0, &Tensor::from_slice(&lists).to_device(device));
            let orders: Vec<&[u16]> = batch.iter().map(|list| train.orders[*list as usize].as_slice()).collect();
            let dropout = DropoutSeed(seed).of_layer(epoch).of_layer(step);
            let loss = step_loss(scorer, &head, &p, &orders, config, dropout);
            adam.zero_grad();
            loss.backward();
            adam.step();
            losses.push(loss.double_value(&[]));
            steps += 1;
            let now = HeadProgress { step: steps, steps: all_steps, validation: best.last() };
            if watch(now).is_break() && steps < all_steps {
                return Err(TrainError::Stopped);
            }
            if config.eval_every.is_some_and(|every| steps % every == 0) {
                goes_on = best.look(kendall_score(scorer, &head, validation), config.patience);
            }
            if !goes_on {
                break;
            }
        }
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        if !mean.is_finite() {
            let problem = format!("the head's loss is {mean} in epoch {epoch}; lower `learning_rate`");
            return Err(TrainError::Config { problems: vec![problem] });
        }
        report.losses.push(mean);
        if config.eval_every.is_none() {
            goes_on = best.look(kendall_score(scorer, &head, validation), config.patience);
        }
        if !goes_on {
            break;
        }
    }
    if best.scores.len() == 1 {
        // Fewer steps than `eval_every`: without a look what was learned would be thrown away.
        best.look(kendall_score(scorer, &head, validation), config.patience);
    }
    no_grad(|| weights.iter().zip(&best.kept).for_each(|(weight, kept)| weight.shallow_clone().copy_(kept)));
    weights.iter().for_each(|weight| drop(weight.set_requires_grad(false)));
    (report.best_look, report.seconds) = (best.look, started.elapsed().as_secs_f64());
    report.validation = best.scores;
    Ok((head, report))
}

/// Mean loss over lists, places and items. Each list grows from its true first item by the head's own choices, as when it
/// ranks.
fn step_loss(
    scorer: &Scorer,
    head: &HierarchicalAttention,
    p: &Tensor,
    orders: &[&[u16]],
    config: &OnePassHeadConfig,
    dropout: DropoutSeed,
) -> Tensor {
    let n = scorer.num_candidates();
    let prepared = scorer.prepare(p, Some(head));
    let mut placing = Placing::new(orders.len(), n);
    orders.iter().enumerate().for_each(|(list, order)| placing.place(list, order[0]));
    let mut losses = Vec::new();
    for place in 1..n.saturating_sub(1).max(2) {
        let dropout = HeadDropout { probability: config.dropout, seed: dropout.of_layer(place) };
        let scores = scorer.scores(&prepared, &placing, Some(head), Some(dropout)); // [lists, n]
        let values = Vec::<f32>::try_from(scores.detach().contiguous().view(-1)).expect("scores are float32");
        let chosen = placing.best(&values);
        let before = placing.clone();
        chosen.iter().enumerate().for_each(|(list, slot)| placing.place(list, *slot));
        losses.push(match scorer.settings().arithmetic {
            Arithmetic::Corrected => place_loss(&scores, &before, orders, scorer.settings().target, config),
            // The published step takes its targets after its own choice was placed, and placed items are learned as 0.
            Arithmetic::AsPublished => {
                let targets = next_items(&placing, orders, config.loss_top_k, &scores);
                scores.binary_cross_entropy_with_logits::<&Tensor>(&targets, None, None, tch::Reduction::Mean)
            }
        });
    }
    Tensor::stack(&losses, 0).mean(Kind::Float)
}

/// Loss of one place over the items not placed before it.
fn place_loss(
    scores: &Tensor,
    before: &Placing,
    orders: &[&[u16]],
    target: HeadTarget,
    config: &OnePassHeadConfig,
) -> Tensor {
    let open = before.mask(scores.device()).logical_not();
    match target {
        HeadTarget::TopK => {
            let targets = next_items(before, orders, config.loss_top_k, scores);
            let each = scores.binary_cross_entropy_with_logits::<&Tensor>(&targets, None, None, tch::Reduction::None);
            let open = open.to_kind(Kind::Float);
            (each * &open).sum(Kind::Float) / open.sum(Kind::Float)
        }
        HeadTarget::Listwise => {
            let next = next_items(before, orders, 1, scores);
            let logits = (scores / config.temperature).masked_fill(&open.logical_not(), -1e9);
            -(logits.log_softmax(-1, Kind::Float) * next).sum(Kind::Float) / orders.len() as f64
        }
    }
}

/// 1 for the next `count` items of each order that are not placed: float32 `[lists, n]`, shaped and placed as `like`.
fn next_items(placing: &Placing, orders: &[&[u16]], count: usize, like: &Tensor) -> Tensor {
    let n = orders[0].len();
    let mut targets = vec![0.0f32; orders.len() * n];
    for (list, (order, placed)) in orders.iter().zip(placing.orders()).enumerate() {
        for slot in order.iter().filter(|slot| !placed.contains(slot)).take(count) {
            targets[list * n + usize::from(*slot)] = 1.0;
        }
    }
    Tensor::from_slice(&targets).view([-1, n as i64]).to_device(like.device())
}

/// Mean share of pairs that the head's rankings have in the model's order.
fn kendall_score(scorer: &Scorer, head: &HierarchicalAttention, lists: &OnePassLists) -> f64 {
    let mut total = 0.0;
    let mut first = 0;
    // In pieces: the attention scores of a set at once would take gigabytes with large groups.
    for orders in lists.orders.chunks(64) {
        let p = lists.probabilities.narrow(0, first, orders.len() as i64);
        first += orders.len() as i64;
        total +=
            scorer.rank(&p, Some(head)).iter().zip(orders).map(|(own, order)| pairs_in_order(own, order)).sum::<f64>();
    }
    total / lists.orders.len() as f64
}

/// (tau + 1) / 2.
fn pairs_in_order(own: &[u16], order: &[u16]) -> f64 {
    let n = own.len();
    let mut place = vec![0; n];
    own.iter().enumerate().for_each(|(index, slot)| place[usize::from(*slot)] = index);
    let kept = |(index, slot): (usize, &u16)| {
        order[index + 1..].iter().filter(|later| place[usize::from(*slot)] < place[usize::from(**later)]).count()
    };
    let pairs = (n * (n - 1) / 2).max(1);
    order.iter().enumerate().map(kept).sum::<usize>() as f64 / pairs as f64
}

#[cfg(test)]
mod tests;
