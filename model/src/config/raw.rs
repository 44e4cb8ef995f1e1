//! `config.json` as it is on disk, and its way to [`ModelConfig`].

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Architecture, ModelConfig};
use crate::error::ModelError;
use crate::rope::{ColumnarRope, RopeScaling};

/// Fields of `config.json` that decide the computation; others are kept but not read.
#[derive(Debug, Deserialize)]
pub(super) struct RawConfig {
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
    vocab_size: i64,
    hidden_size: i64,
    intermediate_size: i64,
    num_hidden_layers: i64,
    num_attention_heads: i64,
    num_key_value_heads: Option<i64>,
    head_dim: Option<i64>,
    max_position_embeddings: Option<i64>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<Map<String, Value>>,
    rope_parameters: Option<Map<String, Value>>,
    partial_rotary_factor: Option<f64>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    tie_word_embeddings: Option<bool>,
    #[serde(default = "sliding_window_of_transformers")]
    sliding_window: Option<i64>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<i64>,
    layer_types: Option<Vec<String>>,
    bos_token_id: Option<OneOrMany>,
    eos_token_id: Option<OneOrMany>,
    columnar_rope: Option<ColumnarRope>,
}

/// What transformers' Mistral and Qwen classes take where the key is absent; `null` turns windows off.
fn sliding_window_of_transformers() -> Option<i64> {
    Some(4096)
}

/// A token id or a list of them.
#[derive(Debug, Clone)]
struct OneOrMany(Vec<i64>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Array(values) => values
                .iter()
                .map(|value| value.as_i64().ok_or_else(|| serde::de::Error::custom(format!("token id {value}"))))
                .collect::<Result<_, _>>()
                .map(Self),
            value => value
                .as_i64()
                .map(|id| Self(vec![id]))
                .ok_or_else(|| serde::de::Error::custom(format!("token id {value}, wanted a number or a list"))),
        }
    }
}

impl RawConfig {
    /// Fills in defaults (those of transformers' config classes) and checks everything a forward pass relies on.
    pub(super) fn resolve(self, original: Map<String, Value>) -> Result<ModelConfig, ModelError> {
        let architecture = self.architecture()?;
        if let Some(act) = self.hidden_act.as_deref().filter(|act| !matches!(*act, "silu" | "swish")) {
            return Err(unsupported("hidden_act", act, "silu"));
        }
        let num_key_value_heads = self.num_key_value_heads.unwrap_or(self.num_attention_heads);
        // the largest are far beyond any model; a damaged file must not make lists of that length
        for (key, got, most) in [
            ("vocab_size", self.vocab_size, 1 << 32),
            ("hidden_size", self.hidden_size, 1 << 32),
            ("intermediate_size", self.intermediate_size, 1 << 32),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 20),
            ("num_attention_heads", self.num_attention_heads, 1 << 32),
            ("num_key_value_heads", num_key_value_heads, 1 << 32),
        ] {
            if !(1..=most).contains(&got) {
                return Err(invalid(key, got, &format!("1 to {most}")));
            }
        }
        if self.num_attention_heads % num_key_value_heads != 0 {
            let wanted = format!("a divisor of num_attention_heads, {}", self.num_attention_heads);
            return Err(invalid("num_key_value_heads", num_key_value_heads, &wanted));
        }
        let head_dim = self.head_dim(architecture)?;
        let (rope_theta, rope_scaling) = self.rope()?;
        let attention_bias = self.attention_bias.unwrap_or(false);
        let columnar_rope = self.columnar_rope.clone();
        if let Some(problem) = columnar_rope.as_ref().and_then(|rope| rope.problems(head_dim).into_iter().next()) {
            return Err(invalid("columnar_rope", "not usable", &problem));
        }
        Ok(ModelConfig {
            architecture,
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads,
            head_dim,
            max_position_embeddings: self.max_position_embeddings.unwrap_or(2048),
            rms_norm_eps: self.rms_norm_eps.unwrap_or(1e-6),
            rope_theta,
            rope_scaling,
            columnar_rope,
            sliding_windows: self.sliding_windows(architecture)?,
            qkv_bias: architecture == Architecture::Qwen2 || attention_bias,
            o_bias: matches!(architecture, Architecture::Llama | Architecture::Qwen3) && attention_bias,
            mlp_bias: architecture == Architecture::Llama && self.mlp_bias.unwrap_or(false),
            qk_norm: architecture == Architecture::Qwen3,
            tie_word_embeddings: self.tie_word_embeddings.unwrap_or(false),
            bos_token_id: self.bos_token_id.and_then(|ids| ids.0.first().copied()),
            eos_token_ids: self.eos_token_id.map(|ids| ids.0).unwrap_or_default(),
            original,
        })
    }

    fn architecture(&self) -> Result<Architecture, ModelError> {
        let supported = || Architecture::ALL.map(Architecture::class_name).join(", ");
        if let Some(name) = self.architectures.as_ref().and_then(|names| names.first()) {
            let found = Architecture::ALL.into_iter().find(|a| a.class_name() == name);
            return found.ok_or_else(|| unsupported("architectures", name, &supported()));
        }
        let name = self.model_type.as_deref().unwrap_or("absent");
        let found = Architecture::ALL.into_iter().find(|a| a.model_type() == name);
        found.ok_or_else(|| unsupported("model_type", name, &supported()))
    }

    fn head_dim(&self, architecture: Architecture) -> Result<i64, ModelError> {
        let head_dim = match self.head_dim {
            Some(head_dim) => head_dim,
            // transformers' default for Qwen3, whatever the hidden size
            None if architecture == Architecture::Qwen3 => 128,
            None if self.hidden_size % self.num_attention_heads != 0 => {
                let wanted = format!("a multiple of num_attention_heads, {}", self.num_attention_heads);
                return Err(invalid("hidden_size", self.hidden_size, &wanted));
            }
            None => self.hidden_size / self.num_attention_heads,
        };
        if !(2..=1 << 32).contains(&head_dim) || head_dim % 2 != 0 {
            return Err(invalid("head_dim", head_dim, &format!("an even number from 2 to {}", 1i64 << 32)));
        }
        Ok(head_dim)
    }

    fn rope(&self) -> Result<(f64, RopeScaling), ModelError> {
        let empty = Map::new();
        // transformers 5: `rope_scaling` wins over `rope_parameters` unless it is empty.
        let scaling = self.rope_scaling.as_ref().filter(|scaling| !scaling.is_empty());
        let key = if scaling.is_some() { "rope_scaling" } else { "rope_parameters" };
        let parameters = scaling.or(self.rope_parameters.as_ref()).unwrap_or(&empty);
        let theta = parameters.get("rope_theta").and_then(Value::as_f64).or(self.rope_theta).unwrap_or(10_000.0);
        let partial = parameters.get("partial_rotary_factor").and_then(Value::as_f64).or(self.partial_rotary_factor);
        if let Some(partial) = partial.filter(|partial| *partial != 1.0) {
            return Err(unsupported("partial_rotary_factor", &partial.to_string(), "1.0"));
        }
        if theta.is_nan() || theta <= 1.0 {
            return Err(invalid("rope_theta", theta, "a number above 1"));
        }
        let number = |name: &str| -> Result<f64, ModelError> {
            let got = parameters.get(name);
            let number = got.and_then(Value::as_f64).filter(|number| *number > 0.0);
            number.ok_or_else(|| {
                let got = got.map_or_else(|| "absent".to_owned(), Value::to_string);
                invalid(&format!("{key}.{name}"), got, "a positive number")
            })
        };
        let kind = parameters.get("rope_type").or_else(|| parameters.get("type")).and_then(Value::as_str);
        let scaling = match kind.unwrap_or("default") {
            "default" => RopeScaling::Default,
            "linear" => RopeScaling::Linear { factor: number("factor")? },
            "llama3" => RopeScaling::Llama3 {
                factor: number("factor")?,
                low_freq_factor: number("low_freq_factor")?,
                high_freq_factor: number("high_freq_factor")?,
                original_max_position_embeddings: number("original_max_position_embeddings")?,
            },
            other => return Err(unsupported(&format!("{key}.rope_type"), other, "default, linear, llama3")),
        };
        Ok((theta, scaling))
    }

    /// Window per layer. Mistral slides everywhere; Qwen from `max_window_layers` on, and only when asked to.
    fn sliding_windows(&self, architecture: Architecture) -> Result<Vec<Option<i64>>, ModelError> {
        let layers = self.num_hidden_layers;
        let window = match architecture {
            Architecture::Llama => None,
            Architecture::Mistral => self.sliding_window,
            Architecture::Qwen2 | Architecture::Qwen3 => {
                self.sliding_window.filter(|_| self.use_sliding_window.unwrap_or(false))
            }
        };
        let Some(window) = window else { return Ok(vec![None; layers as usize]) };
        if window < 1 {
            return Err(invalid("sliding_window", window, "a positive number or null"));
        }
        if architecture == Architecture::Mistral {
            return Ok(vec![Some(window); layers as usize]);
        }
        if let Some(types) = &self.layer_types {
            if types.len() as i64 != layers {
                return Err(invalid("layer_types", format!("{} entries", types.len()), &format!("{layers} entries")));
            }
            return types
                .iter()
                .map(|kind| match kind.as_str() {
                    "full_attention" => Ok(None),
                    "sliding_attention" => Ok(Some(window)),
                    other => Err(unsupported("layer_types", other, "full_attention, sliding_attention")),
                })
                .collect();
        }
        let first = self.max_window_layers.unwrap_or(28);
        Ok((0..layers).map(|layer| (layer >= first).then_some(window)).collect())
    }
}

fn unsupported(key: &str, got: &str, supported: &str) -> ModelError {
    ModelError::Unsupported { key: key.into(), got: got.into(), supported: supported.into() }
}

fn invalid(key: &str, got: impl std::fmt::Display, wanted: &str) -> ModelError {
    ModelError::InvalidConfig { key: key.into(), got: got.to_string(), wanted: wanted.into() }
}
