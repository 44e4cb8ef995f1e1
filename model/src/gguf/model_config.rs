//! `config.json` from a GGUF's metadata.

use serde_json::{Map, Value, json};

use super::GgufError;
use super::dequantize::dequantize;
use super::metadata::Metadata;
use super::reader::GgufFile;
use crate::config::Architecture;
use crate::rope::{RopeScaling, inverse_frequencies};

/// GGUF names of the families that can be imported. Mistral is stored as `llama`.
pub fn architecture(metadata: Metadata<'_>) -> Result<(&str, Architecture), GgufError> {
    let name = metadata.text("general.architecture")?;
    let name = name.ok_or_else(|| GgufError::Missing { key: "general.architecture".into() })?;
    match name {
        "llama" => Ok((name, Architecture::Llama)),
        "mistral" => Ok((name, Architecture::Mistral)),
        "qwen2" => Ok((name, Architecture::Qwen2)),
        "qwen3" => Ok((name, Architecture::Qwen3)),
        other => Err(GgufError::Architecture(other.into())),
    }
}

/// Content of `config.json`.
pub fn config(file: &GgufFile) -> Result<Map<String, Value>, GgufError> {
    let metadata = Metadata(&file.metadata);
    let (prefix, architecture) = architecture(metadata)?;
    let key = |name: &str| format!("{prefix}.{name}");
    let integer = |name: &str| metadata.required_integer(&key(name));
    if metadata.integer(&key("expert_count"))?.unwrap_or(0) > 0 {
        return Err(GgufError::Architecture(format!("{prefix} with experts")));
    }
    let (hidden, heads) = (integer("embedding_length")?, integer("attention.head_count")?);
    let head_dim = match metadata.integer(&key("attention.key_length"))? {
        Some(head_dim) => head_dim,
        None => hidden / heads.max(1),
    };
    let table = file.tensors.get("token_embd.weight");
    let vocab = table.and_then(|table| table.shape.first()).copied();
    let vocab = vocab.ok_or_else(|| GgufError::MissingTensor { name: "token_embd.weight".into() })?;
    let layers = integer("block_count")?;
    // each layer has tensors of its own: a damaged count would ask for names without end
    if usize::try_from(layers).map_or(true, |layers| layers > file.tensors.len()) {
        let wanted = "no more than the tensors of the file";
        return Err(GgufError::Value { key: key("block_count"), got: layers.to_string(), wanted });
    }
    let epsilon = metadata.float(&key("attention.layer_norm_rms_epsilon"))?.unwrap_or(1e-5);
    let theta = metadata.float(&key("rope.freq_base"))?.unwrap_or(10_000.0);
    let has = |name: &str| file.tensors.contains_key(name);
    let mut config = json!({
        "architectures": [architecture.class_name()],
        "model_type": architecture.model_type(),
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": integer("feed_forward_length")?,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.integer(&key("attention.head_count_kv"))?.unwrap_or(heads),
        "head_dim": head_dim,
        "max_position_embeddings": integer("context_length")?,
        "rms_norm_eps": shortest(epsilon),
        "rope_theta": theta,
        "hidden_act": "silu",
        "tie_word_embeddings": !has("output.weight"),
        "bos_token_id": metadata.integer("tokenizer.ggml.bos_token_id")?,
        "eos_token_id": metadata.integer("tokenizer.ggml.eos_token_id")?,
    });
    if let Some(pad) = metadata.integer("tokenizer.ggml.padding_token_id")? {
        config["pad_token_id"] = pad.into();
    }
    if architecture == Architecture::Llama {
        config["attention_bias"] = has("blk.0.attn_q.bias").into();
        config["mlp_bias"] = has("blk.0.ffn_up.bias").into();
    }
    let window = metadata.integer(&key("attention.sliding_window"))?;
    // transformers takes a window where Mistral's key is absent; a GGUF without it has none
    if window.is_some() || architecture == Architecture::Mistral {
        config["sliding_window"] = window.into();
    }
    if let Some(scaling) = rope_scaling(file, prefix, head_dim, theta)? {
        config["rope_scaling"] = scaling;
    }
    let Value::Object(config) = config else { unreachable!("the literal above is an object") };
    Ok(config)
}

/// The shortest decimal that is the same float32: 1e-5, not 9.999999747378752e-6.
fn shortest(value: f64) -> f64 {
    (value as f32).to_string().parse().unwrap_or(value)
}

fn rope_scaling(file: &GgufFile, prefix: &str, head_dim: i64, theta: f64) -> Result<Option<Value>, GgufError> {
    let metadata = Metadata(&file.metadata);
    if let Some(tensor) = file.tensors.get("rope_freqs.weight") {
        let factors = dequantize(tensor.tensor_type, &file.bytes(tensor)?);
        return llama3_scaling(&factors, head_dim, theta).map(Some);
    }
    let key = format!("{prefix}.rope.scaling.type");
    match metadata.text(&key)? {
        Some("none") => Ok(None),
        None | Some("linear") => linear_scaling(metadata, prefix),
        Some(other) => Err(GgufError::Value { key, got: other.into(), wanted: "none or linear" }),
    }
}

/// What llama.cpp reads where no type is given; files of its first years have the factor under `scale_linear`. A factor of 0 is none.
fn linear_scaling(metadata: Metadata<'_>, prefix: &str) -> Result<Option<Value>, GgufError> {
    let named = |name: &str| metadata.float(&format!("{prefix}.rope.{name}"));
    let factor = match named("scaling.factor")? {
        Some(factor) => Some(factor),
        None => named("scale_linear")?,
    };
    let factor = factor.filter(|factor| *factor != 0.0 && *factor != 1.0);
    Ok(factor.map(|factor| json!({"rope_type": "linear", "factor": factor})))
}

/// Llama 3's scaling is stored as its result, a divisor per frequency. All released models have the same ramp, only
/// the factor differs: the largest divisor.
fn llama3_scaling(divisors: &[f32], head_dim: i64, theta: f64) -> Result<Value, GgufError> {
    let factor = f64::from(divisors.iter().copied().fold(1.0, f32::max));
    let scaling = RopeScaling::Llama3 {
        factor,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192.0,
    };
    if divisors.len() as i64 != head_dim / 2 {
        return Err(GgufError::RopeFrequencies);
    }
    let plain = inverse_frequencies(head_dim, theta, RopeScaling::Default);
    let scaled = inverse_frequencies(head_dim, theta, scaling);
    let agrees = |((divisor, plain), scaled): ((&f32, &f32), &f32)| (plain / scaled / divisor - 1.0).abs() < 1e-3;
    let same = divisors.iter().zip(&plain).zip(&scaled).all(agrees);
    if !same {
        return Err(GgufError::RopeFrequencies);
    }
    Ok(json!({"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192}))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::gguf::metadata::MetadataValue;

    #[test]
    fn positions_are_scaled_without_a_type_too() {
        let factor = |entries: &[(&str, f64)]| {
            let entry = |(name, value): &(&str, f64)| (format!("llama.rope.{name}"), MetadataValue::Float(*value));
            let metadata: BTreeMap<_, _> = entries.iter().map(entry).collect();
            linear_scaling(Metadata(&metadata), "llama").unwrap().map(|scaling| scaling["factor"].as_f64().unwrap())
        };
        assert_eq!(factor(&[("scaling.factor", 2.0)]), Some(2.0));
        assert_eq!(factor(&[("scale_linear", 4.0)]), Some(4.0));
        assert_eq!(factor(&[("scale_linear", 4.0), ("scaling.factor", 1.0)]), None);
        assert_eq!(factor(&[("scaling.factor", 0.0)]), None);
        assert_eq!(factor(&[]), None);
    }
}
