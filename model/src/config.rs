//! The shape of a model, resolved from `config.json` of a Hugging Face folder.

mod raw;

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{ModelError, parse_json, read};
pub use crate::rope::{ColumnarPositions, ColumnarRope, RopeScaling};
use raw::RawConfig;

/// Families of models this crate runs. SmolLM2 is a Llama.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama 1, 2, 3, 3.x, SmolLM2, Zephyr's relatives in Llama form.
    Llama,
    /// Mistral 7B and those made from it (Zephyr).
    Mistral,
    /// Qwen2 and Qwen2.5: biases on q, k and v.
    Qwen2,
    /// Qwen3: norms on the heads of q and k.
    Qwen3,
}

impl Architecture {
    /// All of them, in the order error messages list them.
    pub const ALL: [Self; 4] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3];

    /// Name under `architectures` of config.json.
    pub fn class_name(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    /// Name under `model_type` of config.json.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }
}

/// Shape of a model: nothing optional is left that has a default. Names are the keys of `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Family.
    pub architecture: Architecture,
    /// Rows of the embedding table.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Width inside the gated MLP.
    pub intermediate_size: i64,
    /// Transformer layers.
    pub num_hidden_layers: i64,
    /// Query heads.
    pub num_attention_heads: i64,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: i64,
    /// Width of one head; need not be hidden / heads.
    pub head_dim: i64,
    /// Longest sequence the model was made for, in tokens.
    pub max_position_embeddings: i64,
    /// Epsilon of every norm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched.
    pub rope_scaling: RopeScaling,
    /// Two-dimensional positions of columnar patterns, for models trained with them. Ours: `columnar_rope` in config.json.
    pub columnar_rope: Option<ColumnarRope>,
    /// Sliding window of each layer in tokens (a token sees itself and `window - 1` before it); `None` sees all.
    pub sliding_windows: Vec<Option<i64>>,
    /// Bias on q, k and v.
    pub qkv_bias: bool,
    /// Bias on the attention's output projection.
    pub o_bias: bool,
    /// Bias in the MLP.
    pub mlp_bias: bool,
    /// Norms on the heads of q and k (Qwen3).
    pub qk_norm: bool,
    /// Output matrix is the embedding table.
    pub tie_word_embeddings: bool,
    /// Begin-of-text token.
    pub bos_token_id: Option<i64>,
    /// End tokens.
    pub eos_token_ids: Vec<i64>,
    /// The file as it was read: what [`Self::to_json`] starts from, so that no field is lost.
    pub original: Map<String, Value>,
}

impl ModelConfig {
    /// Reads `config.json` of a folder.
    pub fn load(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        Self::from_value(parse_json(&path, &read(&path)?)?)
    }

    /// From the text of a `config.json`.
    pub fn from_json(text: &str) -> Result<Self, ModelError> {
        Self::from_value(parse_json(Path::new("config.json"), text.as_bytes())?)
    }

    /// From the parsed content of a `config.json`.
    pub fn from_value(original: Map<String, Value>) -> Result<Self, ModelError> {
        let raw: RawConfig = serde_json::from_value(Value::Object(original.clone()))
            .map_err(|source| ModelError::Json { path: "config.json".into(), source })?;
        raw.resolve(original)
    }

    /// A two-layer model that fits any test: hidden 32, 4 query and 2 key-value heads of 8, 512 positions.
    pub fn tiny(architecture: Architecture, vocab_size: i64) -> Self {
        let value = serde_json::json!({
            "architectures": [architecture.class_name()], "model_type": architecture.model_type(),
            "vocab_size": vocab_size, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512,
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": true,
        });
        let Value::Object(map) = value else { unreachable!("the literal above is an object") };
        Self::from_value(map).expect("the literal above is a valid config")
    }

    /// Rows of the fused q, k, v projection.
    pub fn qkv_rows(&self) -> i64 {
        (self.num_attention_heads + 2 * self.num_key_value_heads) * self.head_dim
    }

    /// Content of `config.json`, every field of the original kept; `dtype` is the kind of the saved weights.
    pub fn to_json(&self, dtype: &str) -> Value {
        let mut map = self.original.clone();
        map.insert("architectures".into(), serde_json::json!([self.architecture.class_name()]));
        map.insert("model_type".into(), self.architecture.model_type().into());
        map.insert("vocab_size".into(), self.vocab_size.into());
        map.insert("tie_word_embeddings".into(), self.tie_word_embeddings.into());
        match &self.columnar_rope {
            Some(rope) => map.insert("columnar_rope".into(), serde_json::to_value(rope).expect("plain numbers")),
            None => map.remove("columnar_rope"),
        };
        // transformers 5 writes `dtype`, version 4 reads `torch_dtype`; one of the two, as the file had it
        let key = if map.contains_key("dtype") { "dtype" } else { "torch_dtype" };
        map.insert(key.into(), dtype.into());
        // weights are plain whatever they were stored as
        map.remove("quantization_config");
        Value::Object(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Map<String, Value> {
        ModelConfig::tiny(Architecture::Llama, 100).original
    }

    fn with(changes: &[(&str, Value)]) -> Result<ModelConfig, ModelError> {
        let mut map = base();
        for (key, value) in changes {
            map.insert((*key).into(), value.clone());
        }
        ModelConfig::from_value(map)
    }

    #[test]
    fn rope_of_transformers_4_and_5_is_the_same() {
        let scaling = serde_json::json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64});
        let four = with(&[("rope_scaling", scaling.clone()), ("rope_theta", 5e5.into())]).unwrap();
        let mut parameters = scaling;
        parameters["rope_theta"] = 5e5.into();
        let mut map = base();
        map.remove("rope_theta");
        map.insert("rope_parameters".into(), parameters);
        let five = ModelConfig::from_value(map).unwrap();
        assert_eq!(four.rope_scaling, five.rope_scaling);
        assert_eq!(four.rope_theta, five.rope_theta);
        assert!(matches!(four.rope_scaling, RopeScaling::Llama3 { .. }));
        // A key of 4 added to a file of 5 counts, as it does in transformers 5.
        let default = serde_json::json!({"rope_type": "default", "rope_theta": 1e4});
        let linear = serde_json::json!({"rope_type": "linear", "factor": 4.0});
        let both = with(&[("rope_parameters", default.clone()), ("rope_scaling", linear)]).unwrap();
        assert_eq!(both.rope_scaling, RopeScaling::Linear { factor: 4.0 });
        let empty = with(&[("rope_parameters", default), ("rope_scaling", serde_json::json!({}))]).unwrap();
        assert_eq!(empty.rope_scaling, RopeScaling::Default);
    }

    #[test]
    fn unsupported_models_are_named_with_what_is_supported() {
        let message = |changes: &[(&str, Value)]| with(changes).unwrap_err().to_string();
        let got = message(&[("architectures", serde_json::json!(["GemmaForCausalLM"]))]);
        assert!(got.contains("GemmaForCausalLM") && got.contains("Qwen3ForCausalLM"), "{got}");
        let got = message(&[("hidden_act", "gelu".into())]);
        assert!(got.contains("`gelu`") && got.contains("silu"), "{got}");
        let got = message(&[("rope_scaling", serde_json::json!({"rope_type": "yarn", "factor": 4.0}))]);
        assert!(got.contains("`yarn`") && got.contains("llama3"), "{got}");
        let got = message(&[("num_key_value_heads", 3.into())]);
        assert!(got.contains("num_key_value_heads"), "{got}");
        let got = message(&[("hidden_size", (-4).into())]);
        assert!(got.contains("hidden_size"), "{got}");
        let got = message(&[("hidden_size", "wide".into())]);
        assert!(got.contains("wide"), "{got}");
    }

    #[test]
    fn columnar_rope_is_kept_and_checked() {
        let rope = serde_json::json!({"pairs": [1, 3], "branch_stride": 8.0});
        let config = with(&[("columnar_rope", rope)]).unwrap();
        assert_eq!(
            config.columnar_rope,
            Some(ColumnarRope { pairs: vec![1, 3], branch_stride: 8.0, positions: ColumnarPositions::Linear })
        );
        let Value::Object(saved) = config.to_json("float32") else { panic!("an object") };
        assert_eq!(ModelConfig::from_value(saved).unwrap().columnar_rope, config.columnar_rope);
        let error = with(&[("columnar_rope", serde_json::json!({"pairs": [4]}))]).unwrap_err().to_string();
        assert!(error.contains("columnar_rope") && error.contains("0 to 3"), "{error}");
        assert_eq!(ColumnarRope::last_pairs(128, 0.25), (48..64).collect::<Vec<_>>());
    }

    #[test]
    fn sliding_windows_by_layer() {
        let mut map = ModelConfig::tiny(Architecture::Mistral, 100).original;
        map.insert("sliding_window".into(), 16.into());
        assert_eq!(ModelConfig::from_value(map).unwrap().sliding_windows, vec![Some(16); 2]);
        let mut map = ModelConfig::tiny(Architecture::Qwen2, 100).original;
        map.insert("sliding_window".into(), 16.into());
        assert_eq!(ModelConfig::from_value(map.clone()).unwrap().sliding_windows, vec![None; 2]);
        map.insert("use_sliding_window".into(), true.into());
        map.insert("max_window_layers".into(), 1.into());
        assert_eq!(ModelConfig::from_value(map.clone()).unwrap().sliding_windows, vec![None, Some(16)]);
        map.remove("sliding_window");
        assert_eq!(
            ModelConfig::from_value(map).unwrap().sliding_windows,
            vec![None, Some(4096)],
            "transformers' default"
        );
        let mut map = ModelConfig::tiny(Architecture::Mistral, 100).original;
        map.remove("sliding_window");
        assert_eq!(ModelConfig::from_value(map.clone()).unwrap().sliding_windows, vec![Some(4096); 2]);
        map.insert("sliding_window".into(), Value::Null);
        assert_eq!(ModelConfig::from_value(map).unwrap().sliding_windows, vec![None; 2]);
    }

    #[test]
    fn unknown_fields_survive() {
        let config = with(&[("my_field", 7.into())]).unwrap();
        assert_eq!(config.to_json("bfloat16")["my_field"], 7);
        assert_eq!(ModelConfig::from_json(&config.to_json("bfloat16").to_string()).unwrap().hidden_size, 32);
    }
}
