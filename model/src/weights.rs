//! Weights of a Hugging Face folder into a model: strict about names and shapes.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tch::no_grad;

use crate::ModelError;
use crate::causal_lm::CausalLm;
use crate::error::{parse_json, read_if_present};
use crate::named_weights::FileTensor;
use crate::safetensors_file::SafetensorsFile;

#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

/// Fills `model` from the folder's `model.safetensors`, or the shards its index names.
pub(crate) fn load_folder(model: &CausalLm, folder: &Path) -> Result<(), ModelError> {
    no_grad(|| {
        let tensors = model.file_tensors();
        let mut places: HashMap<String, FileTensor> =
            tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
        let order: Vec<String> = model.file_tensors().into_iter().map(|tensor| tensor.name).collect();
        for path in weight_files(folder)? {
            load_file(&path, model, &mut places)?;
        }
        let missing: Vec<&String> = order.iter().filter(|name| places.contains_key(*name)).collect();
        match missing.first() {
            None => Ok(()),
            Some(name) => Err(ModelError::MissingTensor {
                name: (*name).clone(),
                others: missing.len() - 1,
                place: folder.into(),
            }),
        }
    })
}

/// Bytes of the folder's weight files, each of which is whole.
pub(crate) fn bytes(folder: &Path) -> Result<u64, ModelError> {
    let mut bytes = 0;
    for path in weight_files(folder)? {
        SafetensorsFile::open(&path)?;
        bytes += path.metadata().map_or(0, |metadata| metadata.len());
    }
    Ok(bytes)
}

/// Takes the tensors of one file out of `places`.
fn load_file(path: &Path, model: &CausalLm, places: &mut HashMap<String, FileTensor>) -> Result<(), ModelError> {
    let file = SafetensorsFile::open(path)?;
    let known = |name: &str| places.contains_key(name) || is_redundant(name, model);
    let unexpected: Vec<&String> = file.tensors().keys().filter(|name| !known(name)).collect();
    if let Some(name) = unexpected.first() {
        let (name, others) = ((*name).clone(), unexpected.len() - 1);
        return Err(ModelError::UnexpectedTensor { name, others, path: path.into() });
    }
    for (name, info) in file.tensors() {
        let Some(mut place) = places.remove(name) else { continue };
        let wanted = place.view.size();
        if info.shape != wanted {
            let (name, got) = (name.clone(), info.shape.clone());
            return Err(ModelError::ShapeMismatch { name, path: path.into(), got, wanted });
        }
        place.view.f_copy_(&file.tensor(name)?)?;
    }
    Ok(())
}

/// Tensors old exporters wrote that carry nothing: rotary tables, the copy of a tied embedding.
fn is_redundant(name: &str, model: &CausalLm) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || (name == "lm_head.weight" && model.lm_head.is_none())
}

fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let single = folder.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    let path = folder.join("model.safetensors.index.json");
    let Some(bytes) = read_if_present(&path)? else {
        let wanted =
            if folder.join("pytorch_model.bin").exists() || folder.join("pytorch_model.bin.index.json").exists() {
                "model.safetensors; pytorch_model.bin is not read, save the model with `safe_serialization=True`"
            } else {
                "model.safetensors or model.safetensors.index.json"
            };
        return Err(ModelError::MissingFile { folder: folder.into(), wanted: wanted.into() });
    };
    let index: Index = parse_json(&path, &bytes)?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    // An index comes from elsewhere: it may name files of its own folder only.
    if let Some(name) = names.iter().find(|name| Path::new(name).file_name() != Some(name.as_ref())) {
        return Err(ModelError::ShardOutside { name: name.clone(), path });
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}
