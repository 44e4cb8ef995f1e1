//! PEFT adapter folders: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor, no_grad};

use crate::adapter_config::AdapterConfig;
use crate::causal_lm::{CausalLm, LoadOptions};
use crate::safetensors_file::{self, SafetensorsFile};
use crate::{ModelError, atomic_write, folder as model_folder, lora};

/// PEFT wraps the model twice.
const PREFIX: &str = "base_model.model.";
const WEIGHTS: &str = "adapter_model.safetensors";

pub(crate) fn is_adapter_folder(folder: &Path) -> bool {
    folder.join("adapter_config.json").is_file() && !folder.join("config.json").is_file()
}

/// The base model with the adapter of `folder` on it; the base is found by the adapter's config when not given.
pub(crate) fn load_with_base(
    folder: &Path,
    base: Option<&Path>,
    options: &LoadOptions,
) -> Result<CausalLm, ModelError> {
    let config = AdapterConfig::load(folder)?;
    let base = match base {
        Some(base) => base.to_path_buf(),
        None => base_folder(folder, &config)?,
    };
    if is_adapter_folder(&base) {
        return Err(ModelError::MissingFile {
            folder: base,
            wanted: "config.json: an adapter cannot be a base".into(),
        });
    }
    let weights = folder.join(WEIGHTS);
    check_rank(&weights, config.lora().r)?;
    let mut model = CausalLm::load(&base, options)?;
    if let Some(rope) = config.columnar_rope {
        let refused = |wanted| ModelError::Adapter { key: "columnar_rope".into(), got: format!("{rope:?}"), wanted };
        model.set_columnar_rope(rope.clone()).map_err(refused)?;
    }
    lora::attach(&mut model, &config.lora)?;
    load_weights(&model, &weights)?;
    Ok(model)
}

/// The rank that the config names is that of the file, before any memory is taken for it.
fn check_rank(path: &Path, r: i64) -> Result<(), ModelError> {
    let file = SafetensorsFile::open(path)?;
    let found = file.tensors().iter().find(|(name, _)| name.ends_with(".lora_A.weight"));
    match found.and_then(|(_, info)| info.shape.first().copied()) {
        Some(rank) if rank != r => {
            let wanted = format!("`{}` holds adapters of rank {rank}", path.display());
            Err(ModelError::Adapter { key: "r".into(), got: r.to_string(), wanted })
        }
        _ => Ok(()),
    }
}

/// Base named by the adapter: a path as it is, a path beside the adapter, or a hub name in the cache.
pub(crate) fn base_folder(folder: &Path, config: &AdapterConfig) -> Result<PathBuf, ModelError> {
    let Some(name) = &config.base_model_name_or_path else {
        return Err(ModelError::Adapter {
            key: "base_model_name_or_path".into(),
            got: "absent".into(),
            wanted: "give the base model's folder".into(),
        });
    };
    let beside = folder.join(name);
    if beside.join("config.json").is_file() {
        return Ok(beside);
    }
    model_folder::resolve(name, None)
}

/// Strict: every adapter tensor is in the file and nothing else.
fn load_weights(model: &CausalLm, path: &Path) -> Result<(), ModelError> {
    let file = SafetensorsFile::open(path)?;
    let mut places: HashMap<String, Tensor> = named(model).into_iter().collect();
    for (name, info) in file.tensors() {
        let Some(mut place) = places.remove(name) else {
            return Err(ModelError::UnexpectedTensor { name: name.clone(), others: 0, path: path.into() });
        };
        let wanted = place.size();
        if info.shape != wanted {
            let (name, got) = (name.clone(), info.shape.clone());
            return Err(ModelError::ShapeMismatch { name, path: path.into(), got, wanted });
        }
        let tensor = file.tensor(name)?;
        no_grad(|| place.f_copy_(&tensor))?;
    }
    match places.keys().min() {
        None => Ok(()),
        Some(name) => {
            Err(ModelError::MissingTensor { name: name.clone(), others: places.len() - 1, place: path.into() })
        }
    }
}

/// Adapter tensors by PEFT's names.
fn named(model: &CausalLm) -> Vec<(String, Tensor)> {
    let pair = |(name, adapter): (String, &crate::linear::LowRank)| {
        [
            (format!("{PREFIX}{name}.lora_A.weight"), adapter.a.shallow_clone()),
            (format!("{PREFIX}{name}.lora_B.weight"), adapter.b.shallow_clone()),
        ]
    };
    model.adapters().flat_map(pair).collect()
}

/// Writes the adapter folder; `base` is what its config names as the base model.
pub(crate) fn save(model: &CausalLm, folder: &Path, base: &str, kind: Option<Kind>) -> Result<(), ModelError> {
    let Some(lora) = &model.lora else {
        return Err(ModelError::Adapter {
            key: "adapter_only".into(),
            got: base.into(),
            wanted: "the model has no adapter; save it whole".into(),
        });
    };
    let cast = |(name, tensor): (String, Tensor)| (name, tensor.detach().to_kind(kind.unwrap_or(tensor.kind())));
    let tensors: Vec<_> = named(model).into_iter().map(cast).collect();
    safetensors_file::write(&folder.join(WEIGHTS), &tensors)?;
    let config = crate::save::pretty(&AdapterConfig::to_json(lora, base, model.config.columnar_rope.as_ref()));
    atomic_write::write(&folder.join("adapter_config.json"), &config)
}
