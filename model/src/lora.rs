//! Low-rank adapters in PEFT's format.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use schemars::JsonSchema;
use tch::{Tensor, no_grad};

use crate::causal_lm::CausalLm;
use crate::config::ModelConfig;
use crate::layer::Layer;
use crate::linear::{Linear, LowRank};
use crate::{ModelError, random_weights};

/// What to adapt (PEFT's names).
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Rank, at least 1. Default 16.
    pub r: i64,
    /// The adapter's output is multiplied by `lora_alpha / r`. Default 32.
    pub lora_alpha: f64,
    /// Probability of dropping a value of the adapter's input in training, 0 to 1. Default 0.
    pub lora_dropout: f64,
    /// Projections to adapt: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj. Default all.
    pub target_modules: Vec<String>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        let target_modules = PROJECTIONS.map(str::to_owned).to_vec();
        Self { r: 16, lora_alpha: 32.0, lora_dropout: 0.0, target_modules }
    }
}

impl LoraConfig {
    /// Whether both describe the same adapter: the order in which projections are named says nothing, PEFT's files have that of a set.
    pub fn is_that_of(&self, other: &Self) -> bool {
        let sorted = |config: &Self| {
            let mut config = config.clone();
            config.target_modules.sort_unstable();
            config
        };
        sorted(self) == sorted(other)
    }

    /// Problems with the values, empty when all is well.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.r < 1 {
            problems.push(format!("`r` is {}, wanted at least 1", self.r));
        }
        if !self.lora_alpha.is_finite() || self.lora_alpha <= 0.0 {
            problems.push(format!("`lora_alpha` is {}, wanted a positive number", self.lora_alpha));
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            problems.push(format!("`lora_dropout` is {}, wanted 0 or more and less than 1", self.lora_dropout));
        }
        if self.target_modules.is_empty() {
            problems.push(format!("`target_modules` is empty, wanted some of {}", PROJECTIONS.join(", ")));
        }
        for module in &self.target_modules {
            if !PROJECTIONS.contains(&module.as_str()) {
                problems.push(format!("`target_modules` has `{module}`, wanted some of {}", PROJECTIONS.join(", ")));
            }
        }
        problems
    }
}

/// Projections an adapter can sit on.
pub const PROJECTIONS: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// Adapters of a model: what they are, for writing them back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AppliedLora {
    pub config: LoraConfig,
    /// Scale is `alpha / sqrt(r)` (Kalajdzievski 2023).
    pub use_rslora: bool,
}

impl AppliedLora {
    pub fn scale(&self) -> f64 {
        let r = self.config.r as f64;
        self.config.lora_alpha / if self.use_rslora { r.sqrt() } else { r }
    }
}

/// Freezes the model and adds fresh trainable adapters.
pub(crate) fn add(model: &mut CausalLm, config: &LoraConfig, seed: u64) -> Result<(), ModelError> {
    attach(model, &AppliedLora { config: config.clone(), use_rslora: false })?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    no_grad(|| {
        for (_, adapter) in model.adapters() {
            let (r, inputs) = adapter.a.size2().expect("A is a matrix");
            // PEFT's start: Kaiming uniform with a = sqrt(5)
            let fresh = random_weights::uniform_matrix(&mut rng, r, inputs, 1.0 / (inputs as f32).sqrt());
            adapter.a.shallow_clone().copy_(&fresh);
        }
    });
    model.train_lora();
    Ok(())
}

/// Puts zero adapters on every target.
pub(crate) fn attach(model: &mut CausalLm, lora: &AppliedLora) -> Result<(), ModelError> {
    let wrong =
        |key: &str, got: String, wanted: &str| Err(ModelError::Adapter { key: key.into(), got, wanted: wanted.into() });
    if model.lora.is_some() {
        return wrong("model", "already adapted".into(), "merge the first adapter before adding another");
    }
    if let Some(problem) = lora.config.validate().first() {
        return wrong("lora", format!("{:?}", lora.config), problem);
    }
    let (kind, device, scale) = (model.kind(), model.device(), lora.scale());
    for layer in &mut model.layers {
        for projection in PROJECTIONS {
            if !lora.config.target_modules.iter().any(|target| target == projection) {
                continue;
            }
            let (linear, start, rows) = place(layer, projection, &model.config);
            let inputs = linear.weight.size()[1];
            linear.adapters.push(LowRank {
                projection,
                start,
                a: Tensor::zeros([lora.config.r, inputs], (kind, device)),
                b: Tensor::zeros([rows, lora.config.r], (kind, device)),
                scale,
                dropout: lora.config.lora_dropout,
            });
        }
    }
    model.lora = Some(lora.clone());
    Ok(())
}

/// The fused layer a projection is part of, its first row there and its number of rows.
fn place<'a>(layer: &'a mut Layer, projection: &str, config: &ModelConfig) -> (&'a mut Linear, i64, i64) {
    let q = config.num_attention_heads * config.head_dim;
    let kv = config.num_key_value_heads * config.head_dim;
    let (attention, mlp) = (&mut layer.self_attn, &mut layer.mlp);
    match projection {
        "q_proj" => (&mut attention.qkv_proj, 0, q),
        "k_proj" => (&mut attention.qkv_proj, q, kv),
        "v_proj" => (&mut attention.qkv_proj, q + kv, kv),
        "o_proj" => (&mut attention.o_proj, 0, config.hidden_size),
        "gate_proj" => (&mut mlp.gate_up_proj, 0, config.intermediate_size),
        "up_proj" => (&mut mlp.gate_up_proj, config.intermediate_size, config.intermediate_size),
        "down_proj" => (&mut mlp.down_proj, 0, config.hidden_size),
        other => unreachable!("`{other}` is none of PROJECTIONS"),
    }
}

impl CausalLm {
    /// Freezes the weights and makes the adapters trainable, those read from a folder too.
    pub fn train_lora(&mut self) {
        self.freeze();
        for (_, adapter) in self.adapters() {
            let _ = adapter.a.set_requires_grad(true);
            let _ = adapter.b.set_requires_grad(true);
        }
    }

    /// Folds the adapters into the weights: the same model to rounding, as fast as without. Weights stay frozen.
    pub fn merge_lora(&mut self) {
        no_grad(|| {
            for tensor in self.file_tensors() {
                if let Some(adapter) = tensor.adapter {
                    let merged = tensor.view.to_kind(tch::Kind::Float) + adapter.delta_weight();
                    tensor.view.shallow_clone().copy_(&merged);
                }
            }
        });
        for layer in &mut self.layers {
            let (attention, mlp) = (&mut layer.self_attn, &mut layer.mlp);
            for linear in [&mut attention.qkv_proj, &mut attention.o_proj, &mut mlp.gate_up_proj, &mut mlp.down_proj] {
                linear.adapters.clear();
            }
        }
        self.lora = None;
    }
}
