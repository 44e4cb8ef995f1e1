//! The decoder-only language model.

use std::path::Path;

use tch::{Device, Kind, Tensor, no_grad};

use crate::attention::{AttentionContext, SharedInputs};
use crate::layer::Layer;
use crate::linear::DropoutSeed;
use crate::lora::AppliedLora;
use crate::rms_norm::RmsNorm;
use crate::rope::Rope;
use crate::{AttentionPattern, KvCache, ModelConfig, ModelError, lora::LoraConfig};

/// Where and how precisely to hold the weights.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    /// Device.
    pub device: Device,
    /// Float or BFloat16 (Half on GPUs).
    pub kind: Kind,
}

/// A trainable tensor and its name. Fused projections (qkv, gate+up) are one parameter.
#[derive(Debug)]
pub struct NamedParameter {
    /// Unique, stable.
    pub name: String,
    /// Shares storage with the model.
    pub tensor: Tensor,
    /// False for norms and biases.
    pub decays: bool,
}

/// Llama, Mistral, Qwen2, Qwen3 or SmolLM2, driven by its config.
#[derive(Debug)]
pub struct CausalLm {
    /// Shape.
    pub config: ModelConfig,
    /// `[vocab, hidden]`.
    pub(crate) embed_tokens: Tensor,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: RmsNorm,
    /// `[vocab, hidden]`; `None` when tied to the embedding.
    pub(crate) lm_head: Option<Tensor>,
    pub(crate) lora: Option<AppliedLora>,
    /// `generation_config.json` as it was beside the weights.
    pub(crate) generation_config: Option<Vec<u8>>,
    pub(crate) dropout_seed: Option<DropoutSeed>,
    rope: Rope,
    gradient_checkpointing: bool,
}

impl CausalLm {
    /// Reads a Hugging Face folder (and a PEFT adapter folder that names its base, if `folder` is one).
    pub fn load(folder: &Path, options: &LoadOptions) -> Result<Self, ModelError> {
        if crate::peft::is_adapter_folder(folder) {
            return crate::peft::load_with_base(folder, None, options);
        }
        let config = ModelConfig::load(folder)?;
        crate::estimate::check_files_hold(&config, crate::weights::bytes(folder)?, folder)?;
        let mut model = Self::uninitialised(config, options);
        model.generation_config = crate::error::read_if_present(&folder.join("generation_config.json"))?;
        crate::weights::load_folder(&model, folder)?;
        Ok(model)
    }

    /// Reads a PEFT adapter folder onto the base model in `base`, whatever base its config names.
    pub fn load_adapter(adapter: &Path, base: &Path, options: &LoadOptions) -> Result<Self, ModelError> {
        crate::peft::load_with_base(adapter, Some(base), options)
    }

    /// Random weights (normal, standard deviation 0.02), a pure function of (config, seed).
    pub fn random(config: ModelConfig, seed: u64, options: &LoadOptions) -> Self {
        let model = Self::uninitialised(config, options);
        crate::random_weights::fill(&model, seed);
        model
    }

    /// All tensors in place, values not.
    pub(crate) fn uninitialised(config: ModelConfig, options: &LoadOptions) -> Self {
        let (kind, device) = (options.kind, options.device);
        let table = || Tensor::empty([config.vocab_size, config.hidden_size], (kind, device));
        let layers = (0..config.num_hidden_layers as usize).map(|index| Layer::new(&config, index, kind, device));
        Self {
            embed_tokens: table(),
            layers: layers.collect(),
            norm: RmsNorm::new(config.hidden_size, config.rms_norm_eps, kind, device),
            lm_head: (!config.tie_word_embeddings).then(table),
            lora: None,
            generation_config: None,
            dropout_seed: None,
            rope: Rope::new(config.head_dim, config.rope_theta, config.rope_scaling, device)
                .with_columns(config.columnar_rope.as_ref()),
            gradient_checkpointing: false,
            config,
        }
    }

    /// Gives columnar patterns two-dimensional positions; saved with the model.
    ///
    /// # Errors
    /// Pairs that the heads do not have.
    pub fn set_columnar_rope(&mut self, columnar: crate::config::ColumnarRope) -> Result<(), String> {
        let config = &mut self.config;
        let problems = columnar.problems(config.head_dim);
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        self.rope = Rope::new(config.head_dim, config.rope_theta, config.rope_scaling, self.embed_tokens.device())
            .with_columns(Some(&columnar));
        config.columnar_rope = Some(columnar);
        Ok(())
    }

    /// [`ColumnarRope::branch_angle`](crate::config::ColumnarRope::branch_angle) of this model's positions and frequencies, if it has any.
    #[must_use]
    pub fn branch_angle(&self) -> Option<f64> {
        let config = &self.config;
        let inv_freq = crate::rope::inverse_frequencies(config.head_dim, config.rope_theta, config.rope_scaling);
        config.columnar_rope.as_ref().map(|columnar| columnar.branch_angle(&inv_freq))
    }

    /// `[batch, seq]` int64 -> `[batch, seq, hidden]`.
    pub fn embed(&self, input_ids: &Tensor) -> Tensor {
        Tensor::embedding(&self.embed_tokens, input_ids, -1, false, false)
    }

    /// Final-norm hidden states `[batch, seq, hidden]` of `input_ids` `[batch, seq]`. With a cache, tokens continue it and are appended to it.
    pub fn forward(&self, input_ids: &Tensor, pattern: &AttentionPattern, cache: Option<&mut KvCache>) -> Tensor {
        self.forward_embeddings(&self.embed(input_ids), pattern, cache)
    }

    /// As [`Self::forward`] for some tokens only: hidden states `[batch, rows, hidden]` of the tokens `rows` of every row of the
    /// batch. The last layer does no more for the others than their keys and values. For inference: no gradient is recorded.
    ///
    /// # Panics
    /// As [`Self::forward`].
    pub fn forward_rows(
        &self,
        input_ids: &Tensor,
        pattern: &AttentionPattern,
        cache: Option<&mut KvCache>,
        rows: &[i64],
    ) -> Tensor {
        let rows = Tensor::from_slice(rows).to_device(self.device());
        no_grad(|| self.pass(&self.embed(input_ids), pattern, cache, Some(&rows)))
    }

    /// As [`Self::forward`] from embeddings (noise added, say) `[batch, seq, hidden]`. With a cache no gradient is
    /// recorded.
    ///
    /// # Panics
    /// When the pattern does not fit the batch (see [`AttentionPattern::key_ranges`]).
    pub fn forward_embeddings(
        &self,
        embeddings: &Tensor,
        pattern: &AttentionPattern,
        cache: Option<&mut KvCache>,
    ) -> Tensor {
        self.pass(embeddings, pattern, cache, None)
    }

    pub(crate) fn pass(
        &self,
        embeddings: &Tensor,
        pattern: &AttentionPattern,
        cache: Option<&mut KvCache>,
        rows: Option<&Tensor>,
    ) -> Tensor {
        let Some(cache) = cache else {
            let shared = self.shared_inputs(embeddings, pattern, None);
            return self.run_layers(embeddings, AttentionContext { shared: &shared, cache: None, rows: None }, rows);
        };
        no_grad(|| {
            let (batch, seq, _) = embeddings.size3().expect("embeddings have three dimensions");
            let shared = self.shared_inputs(embeddings, pattern, Some(cache));
            cache.reserve(seq);
            let context = AttentionContext { shared: &shared, cache: Some(&mut *cache), rows: None };
            let hidden = self.run_layers(embeddings, context, rows);
            cache.advance(&pattern.real_lengths(batch, seq));
            hidden
        })
    }

    /// Only the last layer leaves tokens out: all others make the next one's keys and values.
    fn run_layers<'a>(
        &self,
        embeddings: &Tensor,
        mut context: AttentionContext<'a>,
        rows: Option<&'a Tensor>,
    ) -> Tensor {
        let mut x = embeddings.shallow_clone();
        for (index, layer) in self.layers.iter().enumerate() {
            if index + 1 == self.layers.len() {
                context.rows = rows;
            }
            x = layer.forward(&x, &mut context, self.layer_dropout(index));
        }
        self.norm.forward(&x)
    }

    /// What all layers share in a pass over `embeddings` `[batch, seq, hidden]`.
    pub(crate) fn shared_inputs(
        &self,
        embeddings: &Tensor,
        pattern: &AttentionPattern,
        cache: Option<&KvCache>,
    ) -> SharedInputs {
        let (batch, seq, _) = embeddings.size3().expect("embeddings have three dimensions");
        no_grad(|| {
            let ranges = pattern.key_ranges(batch, seq, cache);
            let device = self.device();
            let angles = self.rope.angles(&ranges.positions(device), ranges.grid(device), self.kind());
            SharedInputs::new(&self.config, &ranges, angles)
        })
    }

    /// Seed of a layer's dropout; `None` when nothing is dropped.
    pub(crate) fn layer_dropout(&self, layer: usize) -> Option<DropoutSeed> {
        self.dropout_seed.map(|seed| seed.of_layer(layer))
    }

    /// Turns the adapters' dropout on with this seed for the passes to come, or off. Give each micro-batch its own
    /// seed, made of (run seed, step, micro-batch): masks then depend on nothing else, and a resumed run repeats
    /// them. libtorch's own generator is left alone.
    pub fn set_dropout_seed(&mut self, seed: Option<u64>) {
        self.dropout_seed = seed.map(DropoutSeed);
    }

    /// `hidden` `[rows, hidden]` -> `[rows, vocab]`, or only the columns of `vocab_ids` int64 `[n]` -> `[rows, n]`.
    pub fn logits(&self, hidden: &Tensor, vocab_ids: Option<&Tensor>) -> Tensor {
        match vocab_ids {
            Some(ids) => native::ops::linear(hidden, &self.output_weight().index_select(0, ids), None),
            None => native::ops::linear(hidden, self.output_weight(), None),
        }
    }

    /// Output matrix `[vocab, hidden]`, the embedding table when tied. Rows selected from it serve many calls.
    pub fn output_weight(&self) -> &Tensor {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// An empty cache for `capacity` tokens (grows when needed).
    pub fn new_cache(&self, batch: i64, capacity: i64) -> KvCache {
        KvCache::new(&self.config, batch, capacity, self.kind(), self.device())
    }

    /// All weights become trainable.
    pub fn train_all(&mut self) {
        for parameter in self.parameters() {
            let _ = parameter.tensor.set_requires_grad(true);
        }
    }

    /// No weight is trainable.
    pub fn freeze(&mut self) {
        for parameter in self.parameters() {
            let _ = parameter.tensor.set_requires_grad(false);
        }
    }

    /// Freezes the weights and adds trainable adapters (A uniform by `seed`, B zero: the model computes the same
    /// until trained).
    pub fn add_lora(&mut self, config: &LoraConfig, seed: u64) -> Result<(), ModelError> {
        crate::lora::add(self, config, seed)
    }

    /// The adapters' settings, if there are adapters.
    pub fn lora_config(&self) -> Option<&LoraConfig> {
        self.lora.as_ref().map(|lora| &lora.config)
    }

    /// Trainable tensors in a fixed order.
    pub fn trainable_parameters(&self) -> Vec<NamedParameter> {
        self.parameters().into_iter().filter(|parameter| parameter.tensor.requires_grad()).collect()
    }

    /// Recompute activations in the backward pass instead of keeping them. [`Self::forward_training`] obeys this;
    /// [`Self::forward`] always keeps them.
    pub fn set_gradient_checkpointing(&mut self, on: bool) {
        self.gradient_checkpointing = on;
    }

    /// Set by [`Self::set_gradient_checkpointing`].
    pub fn gradient_checkpointing(&self) -> bool {
        self.gradient_checkpointing
    }

    /// Number of weights, tied ones once, adapters included.
    pub fn num_parameters(&self) -> i64 {
        self.parameters().iter().map(|parameter| parameter.tensor.numel() as i64).sum()
    }

    /// Device of the weights.
    pub fn device(&self) -> Device {
        self.embed_tokens.device()
    }

    /// Kind of the weights.
    pub fn kind(&self) -> Kind {
        self.embed_tokens.kind()
    }

    /// Writes config.json and model.safetensors (adapters merged when `merge_lora`), or a PEFT adapter folder. Whole or not at all. Tokenizer files are copied by the caller with [`crate::Tokenizer::save`].
    pub fn save(&self, folder: &Path, options: &SaveOptions) -> Result<(), ModelError> {
        crate::save::save(self, folder, options)
    }
}

/// How to write a model.
#[derive(Debug, Clone, Default)]
pub struct SaveOptions {
    /// Kind of the file's tensors; the model's own when absent.
    pub kind: Option<Kind>,
    /// Fold adapters into the weights.
    pub merge_lora: bool,
    /// Write adapter_config.json and adapter_model.safetensors only; holds the base's name or path.
    pub adapter_only: Option<String>,
}
