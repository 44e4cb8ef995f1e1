//! The decoder-only language model.
use std::path::Path;
use tch::{Device, Kind, Tensor};
use crate::{AttentionPattern, KvCache, ModelConfig, ModelError, lora::LoraConfig};
/// Where and how precisely to hold the weights.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions { /// device
 pub device: Device, /// Float or BFloat16
 pub kind: Kind }
/// A trainable tensor and its name. Fused projections (qkv, gate+up) are one parameter.
#[derive(Debug)]
pub struct NamedParameter { /// unique, stable
 pub name: String, /// shares storage with the model
 pub tensor: Tensor, /// false for norms and biases
 pub decays: bool }
/// Llama, Mistral, Qwen2, Qwen3 or SmolLM2, driven by its config.
#[derive(Debug)]
pub struct CausalLm { /// shape
 pub config: ModelConfig }
impl CausalLm {
    /// Reads a Hugging Face folder (and a PEFT adapter folder that names its base, if `folder` is one).
    pub fn load(folder: &Path, options: &LoadOptions) -> Result<Self, ModelError> { let _ = (folder, options); unimplemented!() }
    /// Random weights, a pure function of (config, seed).
    pub fn random(config: ModelConfig, seed: u64, options: &LoadOptions) -> Self { let _ = (config, seed, options); unimplemented!() }
    /// `[batch, seq]` int64 -> `[batch, seq, hidden]`.
    pub fn embed(&self, input_ids: &Tensor) -> Tensor { let _ = input_ids; unimplemented!() }
    /// Final-norm hidden states `[batch, seq, hidden]` of `input_ids` `[batch, seq]`. With a cache, tokens continue it and are appended to it.
    pub fn forward(&self, input_ids: &Tensor, pattern: &AttentionPattern, cache: Option<&mut KvCache>) -> Tensor { let _ = (input_ids, pattern, cache); unimplemented!() }
    /// As [`Self::forward`] from embeddings (noise added, say) `[batch, seq, hidden]`.
    pub fn forward_embeddings(&self, embeddings: &Tensor, pattern: &AttentionPattern, cache: Option<&mut KvCache>) -> Tensor { let _ = (embeddings, pattern, cache); unimplemented!() }
    /// `hidden` `[rows, hidden]` -> `[rows, vocab]`, or only the columns of `vocab_ids` int64 `[n]` -> `[rows, n]`.
    pub fn logits(&self, hidden: &Tensor, vocab_ids: Option<&Tensor>) -> Tensor { let _ = (hidden, vocab_ids); unimplemented!() }
    /// An empty cache for `capacity` tokens (grows when needed).
    pub fn new_cache(&self, batch: i64, capacity: i64) -> KvCache { let _ = (batch, capacity); unimplemented!() }
    /// All weights become trainable.
    pub fn train_all(&mut self) { }
    /// Freezes the weights and adds trainable adapters.
    pub fn add_lora(&mut self, config: &LoraConfig, seed: u64) -> Result<(), ModelError> { let _ = (config, seed); unimplemented!() }
    /// Trainable tensors in a fixed order.
    pub fn trainable_parameters(&self) -> Vec<NamedParameter> { unimplemented!() }
    /// Recompute activations in the backward pass instead of keeping them.
    pub fn set_gradient_checkpointing(&mut self, on: bool) { let _ = on; }
    /// Number of weights, tied ones once.
    pub fn num_parameters(&self) -> i64 { unimplemented!() }
    /// Device of the weights.
    pub fn device(&self) -> Device { unimplemented!() }
    /// Kind of the weights.
    pub fn kind(&self) -> Kind { unimplemented!() }
    /// Writes config.json and model.safetensors (adapters merged when `merge_lora`), or a PEFT adapter folder. Whole or not at all. Tokenizer files are copied by the caller with [`crate::Tokenizer::save`].
    pub fn save(&self, folder: &Path, options: &SaveOptions) -> Result<(), ModelError> { let _ = (folder, options); unimplemented!() }
}
/// How to write a model.
#[derive(Debug, Clone, Default)]
pub struct SaveOptions { /// kind of the file's tensors; the model's own when absent
 pub kind: Option<Kind>, /// fold adapters into the weights
 pub merge_lora: bool, /// write adapter_config.json and adapter_model.safetensors only; holds the base's name or path
 pub adapter_only: Option<String> }
