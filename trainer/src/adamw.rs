//! AdamW (Loshchilov & Hutter 2019) over the trainable parameters, with float32 masters where the precision keeps them.

use model::causal_lm::NamedParameter;
use native::optim::{AdamWStep, adamw_step};
use tch::{Kind, Tensor};

use crate::config::{Precision, TrainConfig};
use crate::gradients::Gradients;

/// Optimiser state of all trainable parameters.
#[derive(Debug)]
pub struct AdamW {
    parameters: Vec<ParameterState>,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    updates: i64,
}

#[derive(Debug)]
struct ParameterState {
    name: String,
    /// Shares storage with the model.
    tensor: Tensor,
    decays: bool,
    master: Option<Tensor>,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
}

impl AdamW {
    /// Fresh state: masters copied from the weights, moments zero.
    pub fn new(parameters: Vec<NamedParameter>, config: &TrainConfig) -> Self {
        let precision = config.precision;
        let parameters = parameters
            .into_iter()
            .map(|NamedParameter { name, tensor, decays }| ParameterState::new(name, tensor, decays, precision))
            .collect();
        Self { parameters, betas: config.betas, eps: config.eps, weight_decay: config.weight_decay, updates: 0 }
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
                let master = state.master.as_mut();
                adamw_step(&mut state.tensor, master, &gradient, &mut state.exp_avg, &mut state.exp_avg_sq, &step);
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

    /// Masters and moments by name, sharing storage with this optimiser.
    pub(crate) fn state(&self) -> Vec<(String, Tensor)> {
        let mut tensors = Vec::new();
        for state in &self.parameters {
            let name = &state.name;
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
    fn new(name: String, tensor: Tensor, decays: bool, precision: Precision) -> Self {
        tch::no_grad(|| {
            let plain = tensor.detach();
            let has_master = precision.keeps_masters() && plain.kind() != Kind::Float;
            let moment = || Tensor::zeros(plain.size(), (precision.moments(), plain.device()));
            Self {
                master: has_master.then(|| plain.to_kind(Kind::Float)),
                exp_avg: moment(),
                exp_avg_sq: moment(),
                name,
                tensor,
                decays,
            }
        })
    }
}
