//! GGUF files: reading, dequantising, turning into a Hugging Face folder.

mod byte_level;
pub mod dequantize;
mod k_quants;
pub mod metadata;
mod model_config;
pub mod reader;
mod sentencepiece;
mod tensor_names;
pub mod tensor_type;
mod vocabulary;

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use crate::atomic_write;
use crate::config::{Architecture, ModelConfig};
use crate::error::ModelError;
use crate::safetensors_file::{TensorHeader, write_pending};
use crate::save::write_json;
use crate::tokenizer::Tokenizer;
use crate::{CausalLm, LoadOptions};
use metadata::Metadata;
use reader::GgufFile;

/// What is wrong with a GGUF file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum GgufError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("not a GGUF file: it starts with {0:02x?}, wanted `GGUF`")]
    Magic([u8; 4]),
    #[error("GGUF version {0}, supported: 2 and 3, little-endian")]
    Version(u32),
    #[error("the file is cut short: {what} ends behind its {size} bytes; fetch it again")]
    Truncated { what: String, size: u64 },
    #[error("text at byte {at} is not UTF-8; the file is damaged")]
    Text { at: u64 },
    #[error("metadata value of unknown type {0}; the file is damaged or newer than this program")]
    ValueType(u32),
    #[error("tensor `{name}` has {num_dims} dimensions, wanted at most 4")]
    Dimensions { name: String, num_dims: u32 },
    #[error("tensor `{name}` is stored as {type_name}; supported: {}", tensor_type::supported())]
    TensorType { name: String, type_name: String },
    #[error("tensor `{name}` has shape {shape:?}, which is not a whole number of blocks")]
    Shape { name: String, shape: Vec<u64> },
    #[error("architecture `{0}`; supported: llama, mistral, qwen2, qwen3")]
    Architecture(String),
    #[error("metadata `{key}` is missing")]
    Missing { key: String },
    #[error("metadata `{key}` is `{got}`, wanted {wanted}")]
    Value { key: String, got: String, wanted: &'static str },
    #[error("metadata `{key}` has {got} entries, wanted {wanted}")]
    Lengths { key: &'static str, got: usize, wanted: usize },
    #[error("tensor `{name}` is missing")]
    MissingTensor { name: String },
    #[error("tensor `{name}` is not part of the model")]
    UnexpectedTensor { name: String },
    #[error("tensor `{name}` has shape {got:?}, wanted {wanted:?}")]
    TensorShape { name: String, got: Vec<i64>, wanted: Vec<i64> },
    #[error("`rope_freqs.weight` does not hold Llama 3's frequencies; no other scaling is supported")]
    RopeFrequencies,
}

/// `FILE.gguf` -> Hugging Face folder with bf16 weights.
pub fn import(gguf: &Path, out: &Path) -> Result<(), ModelError> {
    import_as(gguf, out, Kind::BFloat16)
}

/// As [`import`], weights in `kind`. config.json is written last: a folder without it is not a model.
pub fn import_as(gguf: &Path, out: &Path, kind: Kind) -> Result<(), ModelError> {
    let named = |source: GgufError| ModelError::Gguf { path: gguf.into(), source };
    let file = GgufFile::open(gguf).map_err(named)?;
    let config = model_config::config(&file).map_err(named)?;
    let tokenizer = vocabulary::tokenizer_files(Metadata(&file.metadata)).map_err(named)?;
    let resolved = ModelConfig::from_value(config)?;

    let bytes = std::fs::metadata(gguf).map_err(|error| named(error.into()))?.len();
    crate::estimate::check_files_hold(&resolved, bytes, gguf)?;
    write_weights(gguf, &file, &resolved, out, kind)?;
    write_json(&out.join("tokenizer_config.json"), &tokenizer.config)?;
    // one line: indented, the vocabulary would double in size
    atomic_write::write(&out.join("tokenizer.json"), tokenizer.tokenizer.to_string().as_bytes())?;
    write_json(&out.join("generation_config.json"), &generation_config(&file, &resolved).map_err(named)?)?;
    let dtype = match kind {
        Kind::BFloat16 => "bfloat16",
        Kind::Half => "float16",
        _ => "float32",
    };
    write_json(&out.join("config.json"), &resolved.to_json(dtype))?;
    // a tokenizer that does not load is found now, not at the first training run
    Tokenizer::load(out).map(|_| ())
}

fn generation_config(file: &GgufFile, config: &ModelConfig) -> Result<Value, GgufError> {
    let metadata = Metadata(&file.metadata);
    let mut ends = config.eos_token_ids.clone();
    for key in ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
        ends.extend(metadata.integer(key)?.filter(|id| !ends.contains(id)));
    }
    let mut generation = Map::new();
    generation.insert("bos_token_id".into(), json!(config.bos_token_id));
    generation.insert("eos_token_id".into(), if let [end] = ends[..] { end.into() } else { json!(ends) });
    if let Some(pad) = metadata.integer("tokenizer.ggml.padding_token_id")? {
        generation.insert("pad_token_id".into(), pad.into());
    }
    Ok(Value::Object(generation))
}

/// Streams the tensors, dequantised, under Hugging Face's names.
fn write_weights(gguf: &Path, file: &GgufFile, config: &ModelConfig, out: &Path, kind: Kind) -> Result<(), ModelError> {
    let named = |source: GgufError| ModelError::Gguf { path: gguf.into(), source };
    let wanted = wanted_shapes(config);
    let mut sources: HashMap<String, &str> = HashMap::new();
    for (name, tensor) in &file.tensors {
        if tensor_names::is_redundant(name) {
            continue;
        }
        let target = tensor_names::hugging_face_name(name).filter(|target| wanted.iter().any(|(n, _)| n == target));
        let Some(target) = target else {
            return Err(named(GgufError::UnexpectedTensor { name: name.clone() }));
        };
        let shape = wanted.iter().find(|(n, _)| *n == target).map(|(_, shape)| shape.clone()).unwrap_or_default();
        if tensor.shape != shape {
            let (name, got) = (name.clone(), tensor.shape.clone());
            return Err(named(GgufError::TensorShape { name, got, wanted: shape }));
        }
        sources.insert(target, name);
    }
    let missing = wanted.iter().find(|(name, _)| !sources.contains_key(name));
    if let Some((name, _)) = missing {
        return Err(named(GgufError::MissingTensor { name: name.clone() }));
    }
    let header = |(name, shape): &(String, Vec<i64>)| TensorHeader { name: name.clone(), shape: shape.clone(), kind };
    let headers: Vec<TensorHeader> = wanted.iter().map(header).collect();
    let value = |index: usize| read_tensor(file, sources[&headers[index].name], config).map_err(named);
    write_pending(&out.join("model.safetensors"), &headers, value)?.finish()
}

/// Names and shapes of the Hugging Face file, in order.
fn wanted_shapes(config: &ModelConfig) -> Vec<(String, Vec<i64>)> {
    // never written to, so its pages are never touched
    let options = LoadOptions { device: Device::Cpu, kind: Kind::BFloat16 };
    let model = CausalLm::uninitialised(config.clone(), &options);
    tch::no_grad(|| model.file_tensors().into_iter().map(|tensor| (tensor.name, tensor.view.size())).collect())
}

/// Float32 values of a tensor, rows in Hugging Face's order.
fn read_tensor(file: &GgufFile, name: &str, config: &ModelConfig) -> Result<Tensor, GgufError> {
    let tensor = &file.tensors[name];
    let values = dequantize::dequantize(tensor.tensor_type, &file.bytes(tensor)?);
    let values = Tensor::from_slice(&values).view(&tensor.shape[..]);
    // Qwen's kernels rotate halves like Hugging Face's; only Llama's files are permuted
    let permuted = matches!(config.architecture, Architecture::Llama | Architecture::Mistral);
    let heads = match name.rsplit('.').nth(1) {
        Some("attn_q") => config.num_attention_heads,
        Some("attn_k") => config.num_key_value_heads,
        _ => return Ok(values),
    };
    Ok(if permuted { tensor_names::unpermute(&values, heads) } else { values })
}
