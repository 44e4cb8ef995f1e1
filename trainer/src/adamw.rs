//! AdamW (Loshchilov & Hutter 2019) over the trainable parameters, with float32 masters where the precision keeps them.

use model::causal_lm::NamedParameter;
use native::optim::{AdamWStep, adamw_step};
use tch::{Kind, Tensor};

use std::ops::Range;

use crate::TrainError;
use crate::config::{Distribution, Precision, TrainConfig};
use crate::distribution::Ranks;
use crate::gradients::Gradients;
use crate::shards::{Cut, part, share};

/// Optimiser state of all trainable parameters.
#[derive(Debug)]
pub struct AdamW {
    parameters: Vec<ParameterState>,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    updates: i64,
    /// Set when the ranks hold shares of the state.
    cut: Option<Cut>,
}

#[derive(Debug)]
struct ParameterState {
    name: String,
    /// Shares storage with the model.
    tensor: Tensor,
    decays: bool,
    /// Elements whose state this rank holds, flat; all of them, in the parameter's shape, when absent.
    own: Option<Range<i64>>,
    master: Option<Tensor>,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
}

impl AdamW {
    /// Fresh state: masters copied from the weights, moments zero. With `distribution: zero1`, this rank's share of it.
    pub fn new(parameters: Vec<NamedParameter>, config: &TrainConfig, ranks: &Ranks) -> Self {
        let precision = config.precision;
        let sharded = config.distribution == Distribution::Zero1 && ranks.world_size() > 1;
        let lengths = || parameters.iter().map(|parameter| parameter.tensor.numel() as i64).collect();
        let cut = sharded.then(|| Cut::new(lengths(), ranks.world_size()));
        let own: Vec<Option<Range<i64>>> = match &cut {
            Some(cut) => cut.of(ranks.rank()).into_iter().map(Some).collect(),
            None => vec![None; parameters.len()],
        };
        let parameters = parameters
            .into_iter()
            .zip(own)
            .map(|(NamedParameter { name, tensor, decays }, own)| {
                ParameterState::new(name, tensor, decays, own, precision)
            })
            .collect();
        Self { parameters, betas: config.betas, eps: config.eps, weight_decay: config.weight_decay, updates: 0, cut }
    }

    /// Whether this rank holds a share of the state only.
    pub(crate) fn is_sharded(&self) -> bool {
        self.cut.is_some()
    }

    /// Sends the elements this rank updated to the others, and takes theirs. Nothing to do when all ranks update everything.
    ///
    /// # Errors
    /// Another rank failed or did not come in time.
    pub fn share(&self, ranks: &Ranks) -> Result<(), TrainError> {
        let Some(cut) = &self.cut else { return Ok(()) };
        let tensors: Vec<Tensor> = self.parameters.iter().map(|state| state.tensor.detach()).collect();
        share(&tensors, cut, ranks)
    }

    /// Masters anew from the weights.
    pub(crate) fn reset_masters(&mut self) {
        tch::no_grad(|| {
            for state in &mut self.parameters {
                let weights = state.own_weights();
                if let Some(master) = &mut state.master {
                    master.copy_(&weights);
                }
            }
        });
    }

    /// One update with learning rate `lr`; gradients are multiplied by `grad_scale` first. Parameters without a gradient stay
    /// as they are.
    pub fn step(&mut self, gradients: &Gradients<'_>, lr: f64, grad_scale: f64) {
        self.updates += 1;
        tch::no_grad(|| {
            for (state, gradient) in self.parameters.iter_mut().zip(gradients.all()) {
                let Some(gradient) = gradient else { continue };
                let step = AdamWStep {
                    step: self.updates,
                    lr,
                    beta1: self.betas[0],
                    beta2: self.betas[1],
                    eps: self.eps,
                    weight_decay: if state.decays { self.weight_decay } else { 0.0 },
                    grad_scale,
                };
                let (mut weights, gradient) = match &state.own {
                    None => (state.tensor.shallow_clone(), gradient),
                    Some(own) if own.is_empty() => continue,
                    Some(own) => (part(&state.tensor, own), part(&gradient.contiguous(), own)),
                };
                let master = state.master.as_mut();
                adamw_step(&mut weights, master, &gradient, &mut state.exp_avg, &mut state.exp_avg_sq, &step);
            }
        });
    }

    /// Updates made; skipped steps do not count.
    pub fn updates(&self) -> i64 {
        self.updates
    }

    /// For resuming.
    pub(crate) fn set_updates(&mut self, updates: i64) {
        self.updates = updates;
    }

    /// The weights by name, sharing storage with the model.
    pub(crate) fn weights(&self) -> Vec<(String, Tensor)> {
        self.parameters.iter().map(|state| (state.name.clone(), state.tensor.detach())).collect()
    }

    /// Masters and moments by name, sharing storage with this optimiser; a share's names end in `@` and its first element.
    pub(crate) fn state(&self) -> Vec<(String, Tensor)> {
        let mut tensors = Vec::new();
        for state in &self.parameters {
            let name = match &state.own {
                None => state.name.clone(),
                Some(own) if own.is_empty() => continue,
                Some(own) => format!("{}@{}", state.name, own.start),
            };
            if let Some(master) = &state.master {
                tensors.push((format!("master.{name}"), master.shallow_clone()));
            }
            tensors.push((format!("exp_avg.{name}"), state.exp_avg.shallow_clone()));
            tensors.push((format!("exp_avg_sq.{name}"), state.exp_avg_sq.shallow_clone()));
        }
        tensors
    }
}

impl ParameterState {
    fn new(name: String, tensor: Tensor, decays: bool, own: Option<Range<i64>>, precision: Precision) -> Self {
        tch::no_grad(|| {
            let plain = match &own {
                None => tensor.detach(),
                Some(own) => part(&tensor, own),
            };
            let has_master = precision.keeps_masters() && plain.kind() != Kind::Float;
            let moment = || Tensor::zeros(plain.size(), (precision.moments(), plain.device()));
            Self {
                master: has_master.then(|| plain.to_kind(Kind::Float)),
                exp_avg: moment(),
                exp_avg_sq: moment(),
                name,
                tensor,
                decays,
                own,
            }
        })
    }

    /// The weights whose state this rank holds.
    fn own_weights(&self) -> Tensor {
        self.own.as_ref().map_or_else(|| self.tensor.detach(), |own| part(&self.tensor, own))
    }
}
