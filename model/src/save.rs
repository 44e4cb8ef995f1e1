//! A model into a Hugging Face folder that transformers loads.

use std::path::Path;

use tch::{Kind, Tensor, no_grad};

use crate::atomic_write::{self, PendingFile};
use crate::causal_lm::{CausalLm, SaveOptions};
use crate::named_weights::FileTensor;
use crate::safetensors_file::{TensorHeader, write_pending};
use crate::{ModelError, peft};

/// Larger models are split into shards of at most this size.
const MAX_SHARD_BYTES: u64 = 5_000_000_000;

pub(crate) fn save(model: &CausalLm, folder: &Path, options: &SaveOptions) -> Result<(), ModelError> {
    if let Some(base) = &options.adapter_only {
        return peft::save(model, folder, base, options.kind);
    }
    if model.lora.is_some() && !options.merge_lora {
        return Err(ModelError::Adapter {
            key: "merge_lora".into(),
            got: "false".into(),
            wanted: "the model has an adapter: merge it or save the adapter only".into(),
        });
    }
    save_sharded(model, folder, options.kind.unwrap_or(model.kind()), MAX_SHARD_BYTES)
}

/// All temporary files are written before the first is renamed: a full disk leaves the folder as it was.
fn save_sharded(model: &CausalLm, folder: &Path, kind: Kind, max_shard_bytes: u64) -> Result<(), ModelError> {
    no_grad(|| {
        let tensors = model.file_tensors();
        let shards = split(&tensors, kind, max_shard_bytes);
        let mut pending = Vec::new();
        let mut names = Vec::new();
        let mut weight_map = serde_json::Map::new();
        for (index, shard) in shards.iter().enumerate() {
            let name = match shards.len() {
                1 => "model.safetensors".to_owned(),
                count => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
            };
            let headers: Vec<TensorHeader> = shard.iter().map(|tensor| header(tensor, kind)).collect();
            for header in &headers {
                weight_map.insert(header.name.clone(), name.clone().into());
            }
            pending.push(write_pending(&folder.join(&name), &headers, |index| Ok(value(shard[index])))?);
            names.push(name);
        }
        if shards.len() > 1 {
            let total: u64 = tensors.iter().map(|tensor| header(tensor, kind).num_bytes()).sum();
            let index = serde_json::json!({"metadata": {"total_size": total}, "weight_map": weight_map});
            names.push("model.safetensors.index.json".into());
            pending.push(small(folder, "model.safetensors.index.json", &pretty(&index))?);
        }
        pending.push(small(folder, "config.json", &pretty(&model.config.to_json(dtype_name(kind))))?);
        if let Some(generation_config) = &model.generation_config {
            pending.push(small(folder, "generation_config.json", generation_config)?);
        }
        for file in pending {
            file.finish()?;
        }
        remove_stale(folder, &names)
    })
}

fn small(folder: &Path, name: &str, bytes: &[u8]) -> Result<PendingFile, ModelError> {
    let mut file = PendingFile::create(&folder.join(name))?;
    file.write(bytes)?;
    file.flush()?;
    Ok(file)
}

/// Weights of an earlier save with another number of shards would be read instead of, or beside, these.
fn remove_stale(folder: &Path, written: &[String]) -> Result<(), ModelError> {
    let io = |source| ModelError::Write { path: folder.into(), source };
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = name == "model.safetensors"
            || name == "model.safetensors.index.json"
            || (name.starts_with("model-") && name.contains("-of-") && name.ends_with(".safetensors"));
        if ours && !written.contains(&name) {
            std::fs::remove_file(entry.path()).map_err(io)?;
        }
    }
    Ok(())
}

fn header(tensor: &FileTensor, kind: Kind) -> TensorHeader {
    TensorHeader { name: tensor.name.clone(), shape: tensor.view.size(), kind }
}

/// Values of a tensor, adapter merged in float32.
fn value(tensor: &FileTensor) -> Tensor {
    match tensor.adapter {
        None => tensor.view.shallow_clone(),
        Some(adapter) => tensor.view.to_kind(Kind::Float) + adapter.delta_weight(),
    }
}

fn split<'a, 'b>(tensors: &'b [FileTensor<'a>], kind: Kind, max_bytes: u64) -> Vec<Vec<&'b FileTensor<'a>>> {
    let mut shards: Vec<Vec<&FileTensor>> = Vec::new();
    let mut room = 0;
    for tensor in tensors {
        let bytes = header(tensor, kind).num_bytes();
        if bytes > room || shards.is_empty() {
            shards.push(Vec::new());
            room = max_bytes;
        }
        room = room.saturating_sub(bytes);
        shards.last_mut().expect("a shard was pushed above").push(tensor);
    }
    shards
}

/// Hugging Face's name of a kind.
fn dtype_name(kind: Kind) -> &'static str {
    match kind {
        Kind::BFloat16 => "bfloat16",
        Kind::Half => "float16",
        Kind::Double => "float64",
        _ => "float32",
    }
}

/// Indented JSON with a newline at the end.
pub(crate) fn pretty(value: &serde_json::Value) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("a JSON value serialises");
    bytes.push(b'\n');
    bytes
}

/// Writes one JSON file of a model folder.
pub(crate) fn write_json(path: &Path, value: &serde_json::Value) -> Result<(), ModelError> {
    atomic_write::write(path, &pretty(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Architecture, LoadOptions, ModelConfig};
    use tch::Device;

    const OPTIONS: LoadOptions = LoadOptions { device: Device::Cpu, kind: Kind::Float };

    fn same_weights(a: &CausalLm, b: &CausalLm) -> bool {
        let (a, b) = (a.parameters(), b.parameters());
        a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.name == b.name && a.tensor == b.tensor)
    }

    #[test]
    fn shards_and_one_file_hold_the_same_and_replace_each_other() {
        for architecture in Architecture::ALL {
            let folder = tempfile::tempdir().unwrap();
            let model = CausalLm::random(ModelConfig::tiny(architecture, 50), 1, &OPTIONS);
            save_sharded(&model, folder.path(), Kind::Float, 8_000).unwrap();
            assert!(folder.path().join("model.safetensors.index.json").exists());
            assert!(same_weights(&model, &CausalLm::load(folder.path(), &OPTIONS).unwrap()));
            save(&model, folder.path(), &SaveOptions::default()).unwrap();
            assert!(!folder.path().join("model.safetensors.index.json").exists());
            assert!(same_weights(&model, &CausalLm::load(folder.path(), &OPTIONS).unwrap()));
        }
    }

    #[test]
    fn loading_is_strict() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let model = CausalLm::random(ModelConfig::tiny(Architecture::Llama, 50), 1, &OPTIONS);
        save(&model, folder.path(), &SaveOptions::default()).unwrap();
        let file = crate::safetensors_file::SafetensorsFile::open(&path).unwrap();
        let all: Vec<_> = file.tensors().keys().map(|name| (name.clone(), file.tensor(name).unwrap())).collect();
        let load_with = |tensors: &[(String, Tensor)]| {
            crate::safetensors_file::write(&path, tensors).unwrap();
            CausalLm::load(folder.path(), &OPTIONS).unwrap_err().to_string()
        };
        let error = load_with(&all[1..]);
        assert!(error.contains(&all[0].0) && error.contains("missing"), "{error}");
        let copy = || all.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect::<Vec<_>>();
        let mut more = copy();
        more.push(("model.layers.9.x".into(), Tensor::zeros([1], (Kind::Float, Device::Cpu))));
        let error = load_with(&more);
        assert!(error.contains("model.layers.9.x") && error.contains("not part"), "{error}");
        let mut other = copy();
        other[0].1 = Tensor::zeros([3, 3], (Kind::Float, Device::Cpu));
        let error = load_with(&other);
        assert!(error.contains("[3, 3]") && error.contains(&all[0].0), "{error}");
        let config = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
        let many = config.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1000000");
        assert_ne!(many, config);
        std::fs::write(folder.path().join("config.json"), many).unwrap();
        let error = CausalLm::load(folder.path(), &OPTIONS).unwrap_err().to_string();
        assert!(error.contains("describes") && error.contains("another model's"), "{error}");
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        std::fs::write(&path, &std::fs::read(&path).unwrap()[..100]).unwrap();
        let error = CausalLm::load(folder.path(), &OPTIONS).unwrap_err().to_string();
        assert!(error.contains("not a whole safetensors file"), "{error}");
    }
}
