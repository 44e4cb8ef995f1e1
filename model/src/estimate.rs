//! Parameters and memory of a model from its config alone, before anything is loaded.

use std::path::Path;

use crate::ModelError;
use crate::config::ModelConfig;
use crate::lora::LoraConfig;

/// Parameter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterCount {
    /// All weights, tied ones once.
    pub total: i64,
    /// Without the embedding table and the output matrix: what a token's arithmetic is spent on.
    pub non_embedding: i64,
}

/// Weights of a model of this shape; equals `CausalLm::num_parameters` of a loaded one. Sizes of a damaged config saturate.
pub fn parameters(config: &ModelConfig) -> ParameterCount {
    let wide = i128::from;
    let (hidden, intermediate) = (wide(config.hidden_size), wide(config.intermediate_size));
    let (head_dim, heads) = (wide(config.head_dim), wide(config.num_attention_heads));
    let inner = heads * head_dim;
    let qkv_rows = inner + 2 * wide(config.num_key_value_heads) * head_dim;
    let bias = |has: bool, size: i128| if has { size } else { 0 };
    let attention = qkv_rows * hidden
        + bias(config.qkv_bias, qkv_rows)
        + inner * hidden
        + bias(config.o_bias, hidden)
        + bias(config.qk_norm, 2 * head_dim);
    let mlp = 3 * hidden * intermediate + bias(config.mlp_bias, 2 * intermediate + hidden);
    let non_embedding = wide(config.num_hidden_layers) * (attention + mlp + 2 * hidden) + hidden;
    let tables = if config.tie_word_embeddings { 1 } else { 2 };
    let narrow = |count: i128| i64::try_from(count).unwrap_or(i64::MAX);
    let total = non_embedding + tables * wide(config.vocab_size) * hidden;
    ParameterCount { total: narrow(total), non_embedding: narrow(non_embedding) }
}

/// A byte of a file holds no more weights than this, however they are packed.
const WEIGHTS_PER_BYTE: u64 = 8;

/// Refuses a config of more weights than `bytes` of files could hold, before memory is taken for them.
///
/// # Errors
/// [`ModelError::FilesTooSmall`].
pub(crate) fn check_files_hold(config: &ModelConfig, bytes: u64, place: &Path) -> Result<(), ModelError> {
    let described = parameters(config).total;
    if described as u64 > bytes.saturating_mul(WEIGHTS_PER_BYTE) {
        return Err(ModelError::FilesTooSmall { described, bytes, place: place.into() });
    }
    Ok(())
}

/// Weights of adapters on a model of this shape.
pub fn lora_parameters(config: &ModelConfig, lora: &LoraConfig) -> i64 {
    let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
    let inner = config.num_attention_heads * config.head_dim;
    let kv = config.num_key_value_heads * config.head_dim;
    let of_module = |module: &String| match module.as_str() {
        "q_proj" | "o_proj" => hidden + inner,
        "k_proj" | "v_proj" => hidden + kv,
        "gate_proj" | "up_proj" | "down_proj" => hidden + intermediate,
        _ => 0,
    };
    let per_layer: i64 = lora.target_modules.iter().map(of_module).sum();
    config.num_hidden_layers * lora.r * per_layer
}

/// How a model is trained, as far as memory is concerned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingMemorySettings {
    /// Bytes of a weight: 4 or 2.
    pub weight_bytes: i64,
    /// Float32 master copies of bf16 weights.
    pub master_weights: bool,
    /// Bytes of the optimiser's state per trainable weight: 8 for AdamW in float32.
    pub optimizer_bytes: i64,
    /// Processes the optimiser state is spread over (ZeRO stage 1); 1 otherwise.
    pub optimizer_shards: i64,
    /// Tokens of the largest micro-batch.
    pub tokens: i64,
    /// Of them, rows whose logits are computed.
    pub label_tokens: i64,
    /// Activations are recomputed.
    pub gradient_checkpointing: bool,
    /// Gradients of several micro-batches are added up in float32, beside those of one.
    pub float32_sums: bool,
    /// A reducer's buckets hold the gradients once more.
    pub reducer_buckets: bool,
}

/// Bytes by purpose, on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// Weights.
    pub weights: i64,
    /// Gradients of trainable weights, their sums and buckets.
    pub gradients: i64,
    /// Optimiser state and master copies.
    pub optimizer: i64,
    /// Kept for the backward pass, or the key-value cache.
    pub activations: i64,
    /// Logits and their gradient.
    pub logits: i64,
}

impl MemoryEstimate {
    /// All of it, bytes.
    pub fn total(&self) -> i64 {
        self.weights + self.gradients + self.optimizer + self.activations + self.logits
    }

    /// All of it, MiB.
    pub fn total_mib(&self) -> f64 {
        self.total() as f64 / f64::from(1 << 20)
    }
}

/// Memory of a training step, without the process's own (libtorch takes about 250 MiB).
pub fn training(config: &ModelConfig, lora: Option<&LoraConfig>, settings: &TrainingMemorySettings) -> MemoryEstimate {
    let total = parameters(config).total;
    let adapters = lora.map_or(0, |lora| lora_parameters(config, lora));
    let trainable = if lora.is_some() { adapters } else { total };
    let master_bytes = if settings.master_weights && settings.weight_bytes < 4 { 4 } else { 0 };
    let sums = if settings.float32_sums { 4 } else { 0 };
    let copies = 1 + i64::from(settings.reducer_buckets);
    let layer = activations_per_token_and_layer(config, settings.weight_bytes, lora.is_none());
    let layers = config.num_hidden_layers;
    let residual = config.hidden_size * settings.weight_bytes;
    let per_token = if settings.gradient_checkpointing { layers * residual + layer } else { layers * layer };
    MemoryEstimate {
        weights: (total + adapters) * settings.weight_bytes,
        gradients: trainable * (copies * settings.weight_bytes + sums),
        optimizer: trainable * (settings.optimizer_bytes + master_bytes) / settings.optimizer_shards.max(1),
        activations: settings.tokens * (per_token + 2 * residual),
        // logits and their gradient in the weights' kind, softmax in float32
        logits: settings.label_tokens * config.vocab_size * (2 * settings.weight_bytes + 4),
    }
}

/// Memory of decoding `batch` sequences of `tokens` tokens.
pub fn inference(config: &ModelConfig, weight_bytes: i64, batch: i64, tokens: i64) -> MemoryEstimate {
    let cache = 2 * config.num_key_value_heads * config.head_dim * config.num_hidden_layers * weight_bytes;
    let passing = activations_per_token_and_layer(config, weight_bytes, true);
    MemoryEstimate {
        weights: parameters(config).total * weight_bytes,
        gradients: 0,
        optimizer: 0,
        activations: batch * tokens * (cache + passing),
        logits: batch * config.vocab_size * weight_bytes,
    }
}

/// Bytes one layer keeps of one token for its backward pass: inputs of both norms and of the products, q, k, v and
/// the attention's output, gate and up.
fn activations_per_token_and_layer(config: &ModelConfig, bytes: i64, weights_trained: bool) -> i64 {
    let inner = config.num_attention_heads * config.head_dim;
    let normed = if weights_trained { 2 * config.hidden_size } else { 0 };
    let activated = if weights_trained { config.intermediate_size } else { 0 };
    let kept = 2 * config.hidden_size + normed + config.qkv_rows() + inner + 2 * config.intermediate_size + activated;
    // norms and softmax keep one float32 a row and head
    kept * bytes + 4 * (2 + config.num_attention_heads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Architecture, CausalLm, LoadOptions};
    use tch::{Device, Kind};

    /// The table of docs/scale.md: bytes for each weight.
    #[test]
    fn a_rank_holds_what_its_settings_ask_for() {
        let config = ModelConfig::tiny(Architecture::Llama, 77);
        let settings = TrainingMemorySettings {
            weight_bytes: 2,
            master_weights: true,
            optimizer_bytes: 8,
            optimizer_shards: 4,
            tokens: 0,
            label_tokens: 0,
            gradient_checkpointing: false,
            float32_sums: false,
            reducer_buckets: false,
        };
        let weights = parameters(&config).total;
        let held =
            |settings: &TrainingMemorySettings| training(&config, None, settings).total() as f64 / weights as f64;
        let near = |bytes: f64, wanted: f64| assert!((bytes - wanted).abs() < 0.01, "{bytes} in place of {wanted}");
        near(held(&settings), 2.0 + 2.0 + 12.0 / 4.0);
        near(held(&TrainingMemorySettings { float32_sums: true, ..settings }), 2.0 + 2.0 + 4.0 + 3.0);
        near(held(&TrainingMemorySettings { reducer_buckets: true, ..settings }), 2.0 + 2.0 + 2.0 + 3.0);
    }

    #[test]
    fn counts_equal_the_real_model() {
        for architecture in Architecture::ALL {
            let config = ModelConfig::tiny(architecture, 77);
            let options = LoadOptions { device: Device::Cpu, kind: Kind::Float };
            let mut model = CausalLm::random(config.clone(), 0, &options);
            assert_eq!(parameters(&config).total, model.num_parameters(), "{architecture:?}");
            let lora = LoraConfig { r: 3, ..LoraConfig::default() };
            model.add_lora(&lora, 0).unwrap();
            let adapters: i64 = model.trainable_parameters().iter().map(|p| p.tensor.numel() as i64).sum();
            assert_eq!(lora_parameters(&config, &lora), adapters);
        }
    }
}
