//! Small heads on a frozen model, in folders of their own: `head.json` says what they belong to, `head.safetensors` holds
//! the weights.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::ModelError;
use crate::error::{parse_json, read};
use crate::safetensors_file::{self, SafetensorsFile};
use crate::save::write_json;

const CARD: &str = "head.json";
const WEIGHTS: &str = "head.safetensors";

/// What a head was made for. It works with nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadCard {
    /// Method: `one_pass`, `blockwise` or `medusa`.
    pub method: String,
    /// Candidates of a list.
    pub num_candidates: usize,
    /// Hash of the model's weights.
    pub model: String,
    /// Hash of the prompt.
    pub prompt: String,
    /// Settings that decide what the head computes (grouping, variant, number of heads).
    pub settings: serde_json::Value,
}

impl HeadCard {
    /// What differs between this card and what is needed, one line each.
    #[must_use]
    pub fn differences(&self, needed: &Self) -> Vec<String> {
        let of = |card: &Self| {
            [
                ("method", card.method.clone()),
                ("number of candidates", card.num_candidates.to_string()),
                ("model", card.model.clone()),
                ("prompt", card.prompt.clone()),
                ("settings", card.settings.to_string()),
            ]
        };
        let pairs = of(self).into_iter().zip(of(needed)).filter(|((_, own), (_, other))| own != other);
        pairs.map(|((what, own), (_, other))| format!("its {what} is {own}, wanted {other}")).collect()
    }
}

/// Writes a head; the card last, so that a folder with a card is whole.
///
/// # Errors
/// When the folder cannot be written.
pub fn save(folder: &Path, card: &HeadCard, weights: &[(String, Tensor)]) -> Result<(), ModelError> {
    std::fs::create_dir_all(folder).map_err(|source| ModelError::Write { path: folder.into(), source })?;
    safetensors_file::write(&folder.join(WEIGHTS), weights)?;
    let card = serde_json::to_value(card).expect("a card serialises");
    write_json(&folder.join(CARD), &card)
}

/// The card of a head's folder.
///
/// # Errors
/// When there is none, or it is damaged.
pub fn card(folder: &Path) -> Result<HeadCard, ModelError> {
    let path = folder.join(CARD);
    parse_json(&path, &read(&path)?)
}

/// Copies the weights of a head's folder into `into`, which names them and has their shapes.
///
/// # Errors
/// Another card than `needed`, a missing tensor, another shape.
pub fn load_into(folder: &Path, needed: &HeadCard, into: &[(String, Tensor)]) -> Result<(), ModelError> {
    let differences = card(folder)?.differences(needed);
    if !differences.is_empty() {
        return Err(ModelError::OtherHead { folder: folder.into(), differences });
    }
    let path = folder.join(WEIGHTS);
    let file = SafetensorsFile::open(&path)?;
    for (name, tensor) in into {
        let Some(info) = file.tensors().get(name) else {
            return Err(ModelError::MissingTensor { name: name.clone(), others: 0, place: path });
        };
        if info.shape != tensor.size() {
            let (got, wanted) = (info.shape.clone(), tensor.size());
            return Err(ModelError::ShapeMismatch { name: name.clone(), path, got, wanted });
        }
        let value = file.tensor(name)?;
        tch::no_grad(|| tensor.shallow_clone().copy_(&value));
    }
    Ok(())
}
