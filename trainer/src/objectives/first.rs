//! FIRST (Reddy et al. 2024, arXiv:2406.15657): language modelling plus a learning-to-rank loss on one row of logits.
//!
//! `L = lm_weight * L_LM + lambda * L_rank` (section 3.2). The scores of L_rank are the logits of the N identifiers at the
//! row that predicts the first identifier of the answer, so that this row alone orders the whole list. Only those N
//! columns are computed.

use std::collections::BTreeMap;

use data::batch::{MicroBatch, RankTarget};
use model::CausalLm;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::ranking_loss::RankingLoss;
use super::{Loss, Objective, Totals, language_modelling_loss};

/// Settings of FIRST.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FirstConfig {
    /// Learning-to-rank loss. Default `weighted_rank_net`, the paper's.
    pub ranking_loss: RankingLoss,
    /// Weight of the ranking loss, at least 0. Default: the published one of the loss (weighted RankNet 10, ListNet 0.1,
    /// the others 1).
    pub lambda: Option<f64>,
    /// Weight of the language modelling loss, at least 0. Default 1.
    pub lm_weight: f64,
}

impl Default for FirstConfig {
    fn default() -> Self {
        Self { ranking_loss: RankingLoss::WeightedRankNet, lambda: None, lm_weight: 1.0 }
    }
}

impl FirstConfig {
    /// Weight of the ranking loss.
    pub fn lambda(&self) -> f64 {
        self.lambda.unwrap_or_else(|| self.ranking_loss.published_lambda())
    }

    pub(super) fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, value) in [("lambda", self.lambda()), ("lm_weight", self.lm_weight)] {
            if !(value.is_finite() && value >= 0.0) {
                problems.push(format!("`objective.first.{name}` is {value}, wanted a finite number of at least 0"));
            }
        }
        if self.lambda() == 0.0 && self.lm_weight == 0.0 {
            problems.push("`objective.first` has `lambda` and `lm_weight` 0, wanted one of them above 0".to_owned());
        }
        problems
    }
}

/// See the module's documentation.
#[derive(Debug, Clone, Copy)]
pub struct First {
    ranking_loss: RankingLoss,
    lambda: f64,
    lm_weight: f64,
}

impl First {
    /// The objective of `config`.
    pub fn new(config: &FirstConfig) -> Self {
        Self { ranking_loss: config.ranking_loss, lambda: config.lambda(), lm_weight: config.lm_weight }
    }
}

impl Objective for First {
    fn name(&self) -> &'static str {
        "first"
    }

    fn part_names(&self) -> &'static [&'static str] {
        &["lm", "ranking"]
    }

    fn loss(&self, model: &CausalLm, hidden: &Tensor, batch: &MicroBatch, totals: &Totals) -> Loss {
        let lm = language_modelling_loss(model, hidden, batch, totals);
        let ranking = self.ranking(model, hidden, batch, totals);
        let weighted = [(&lm, self.lm_weight), (&ranking, self.lambda)];
        let total =
            weighted.iter().filter_map(|(part, weight)| Some(part.as_ref()? * *weight)).reduce(|sum, part| sum + part);
        Loss { total, parts: vec![lm, ranking] }
    }
}

impl First {
    /// Ranking losses of the micro-batch's lists, summed and divided by the lists of the global batch.
    fn ranking(&self, model: &CausalLm, hidden: &Tensor, batch: &MicroBatch, totals: &Totals) -> Option<Tensor> {
        lists_by_identifiers(&batch.rankings)
            .into_iter()
            .map(|(identifier_ids, lists)| {
                let rows: Vec<i64> = lists.iter().map(|list| list.row).collect();
                let ranks: Vec<i64> = lists.iter().flat_map(|list| list.ranks.iter().copied()).collect();
                let device = hidden.device();
                let rows = hidden.index_select(0, &Tensor::from_slice(&rows).to_device(device)); // [lists, hidden]
                let identifier_ids = Tensor::from_slice(identifier_ids).to_device(device);
                let scores = model.logits(&rows, Some(&identifier_ids)).to_kind(Kind::Float); // [lists, n]
                let ranks = Tensor::from_slice(&ranks).to_device(device).view_as(&scores); // [lists, n]
                self.ranking_loss.sum(&scores, &ranks) / totals.lists
            })
            .reduce(|sum, part| sum + part)
    }
}

/// Lists that share their identifiers are one product; most micro-batches are one group.
fn lists_by_identifiers(rankings: &[RankTarget]) -> BTreeMap<&[i64], Vec<&RankTarget>> {
    let mut groups: BTreeMap<&[i64], Vec<&RankTarget>> = BTreeMap::new();
    for list in rankings {
        groups.entry(&list.identifier_ids).or_default().push(list);
    }
    groups
}
