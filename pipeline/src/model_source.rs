//! Loading a model for a command, and the note a trained model carries: with which prompt, on what.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use model::{CausalLm, ColumnarRope, LoadOptions, Tokenizer};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use crate::cli::{ModelArgs, PrecisionArg};
use crate::config::device::DeviceChoice;
use crate::failure::{InputError, UsageError};
use crate::hub;
use crate::stamp::hash_path;
use crate::write_whole::write_json;

/// File of a model folder with the note.
pub const NOTE_FILE: &str = "monopass.json";

/// What a trained model must be evaluated with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelNote {
    /// Version of the program that wrote it.
    pub program: String,
    /// Training stage.
    pub stage: String,
    /// Settings of the prompt.
    pub prompt: serde_json::Value,
    /// Hash of wording, settings, template and tokenizer.
    pub prompt_hash: String,
    /// Tokens that a text had at most, where the experiment gave the model fewer than it can read: prompts that are made to fit were made to fit these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<usize>,
    /// Normalised query texts it was trained on (hashes), those of earlier stages included.
    pub trained_queries: BTreeSet<String>,
    /// BLAKE3 of the weights' files: a safetensors file itself cannot tell a flipped bit.
    pub weights: BTreeMap<String, String>,
}

impl ModelNote {
    /// The note of a model folder; none when it was made elsewhere.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(NOTE_FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                serde_json::from_str(&text).with_context(|| format!("`{}` is damaged", path.display())).map(Some)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        }
    }

    /// Hashes of a folder's weights.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn hash_weights(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
        let mut hashes = BTreeMap::new();
        let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("cannot list `{}`", folder.display()))?.path();
            if path.extension().is_some_and(|extension| extension == "safetensors") {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                hashes.insert(name, hash_path(&path)?);
            }
        }
        Ok(hashes)
    }

    /// Compares the weights with what was written.
    ///
    /// # Errors
    /// When a file changed since.
    pub fn verify(&self, folder: &Path) -> anyhow::Result<()> {
        let found = Self::hash_weights(folder)?;
        match self.weights.iter().find(|(name, hash)| found.get(*name) != Some(*hash)) {
            None => Ok(()),
            Some((name, _)) => Err(InputError::new(
                format!("`{}` is damaged: its bytes are not those that training wrote", folder.join(name).display()),
                "remove the model's folder and run again: the last checkpoint still holds the weights",
            )
            .into()),
        }
    }

    /// Writes it into a model folder.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        write_json(&folder.join(NOTE_FILE), self)
    }
}

/// A loaded model.
#[derive(Debug)]
pub struct LoadedModel {
    /// Where it came from.
    pub folder: PathBuf,
    /// The model.
    pub model: CausalLm,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
}

/// Loads what the command line names.
///
/// # Errors
/// When there is no such model, its files are damaged, or the device is not there.
pub fn load(args: &ModelArgs) -> anyhow::Result<LoadedModel> {
    let device: DeviceChoice = args.device.parse()?;
    let folder = hub::model_folder(&args.model)?;
    load_folder(&folder, None, device.resolve()?, args.precision.kind())
}

/// Loads a model folder; the tokenizer from elsewhere when `tokenizer` is given.
///
/// # Errors
/// When files are missing or damaged.
pub fn load_folder(folder: &Path, tokenizer: Option<&Path>, device: Device, kind: Kind) -> anyhow::Result<LoadedModel> {
    if let Some(note) = ModelNote::read(folder)? {
        note.verify(folder)?;
    }
    let tokenizer = Tokenizer::load(tokenizer.unwrap_or(folder))?;
    let model = CausalLm::load(folder, &LoadOptions { device, kind })?;
    let tokenizer = Arc::new(tokenizer.for_vocabulary(model.config.vocab_size));
    tracing::debug!("`{}`: {} weights, {kind:?} on {device:?}", folder.display(), model.num_parameters());
    Ok(LoadedModel { folder: folder.to_owned(), model, tokenizer })
}

/// Gives a model that was not trained in columns positions to read them by.
///
/// # Errors
/// When it has positions of its own, or its heads do not have the pairs named.
pub fn give_columns(loaded: &mut LoadedModel, rope: &ColumnarRope) -> anyhow::Result<()> {
    if let Some(own) = loaded.model.config.columnar_rope.as_ref().filter(|own| *own != rope) {
        let message = format!("`{}` was trained in columns with other positions: {own:?}", loaded.folder.display());
        return Err(UsageError::new(message, "leave `rope` out").into());
    }
    loaded
        .model
        .set_columnar_rope(rope.clone())
        .map_err(|problem| UsageError::new(problem, "see docs/columnar.md").into())
}

impl PrecisionArg {
    /// Kind of the weights.
    pub fn kind(self) -> Kind {
        match self {
            Self::Fp32 => Kind::Float,
            Self::Bf16 | Self::Bf16Master => Kind::BFloat16,
        }
    }

    /// As training knows it.
    pub fn training(self) -> trainer::Precision {
        match self {
            Self::Fp32 => trainer::Precision::Fp32,
            Self::Bf16Master => trainer::Precision::Bf16Master,
            Self::Bf16 => trainer::Precision::Bf16,
        }
    }
}
