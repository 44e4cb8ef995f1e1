//! A model under evaluation: loaded, with its prompt.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use data::prompt::{PromptBuilder, leading_tokens};
use model::Tokenizer;

use super::Experiment;
use super::train::context_length;
use crate::config::experiment::BASE;
use crate::failure::InputError;
use crate::hub;
use crate::model_source::{LoadedModel, ModelNote, load_folder};
use crate::stamp::{self, Inputs};

/// A model that is read, not trained.
pub struct Subject {
    /// The model and its tokenizer.
    pub loaded: LoadedModel,
    /// Writes its prompts.
    pub prompts: PromptBuilder,
}

/// Folder of a model by its name in `evaluate.models`.
///
/// # Errors
/// When it is not there.
pub fn folder_of(experiment: &Experiment<'_>, model: &str) -> anyhow::Result<PathBuf> {
    if model.contains('/') { hub::model_folder(model) } else { experiment.model_folder(model) }
}

/// As [`folder_of`], of a model that is here with its base and tokenizer: nobody is asked, and nothing fetched, to say what a report shows.
pub fn folder_on_disk(experiment: &Experiment<'_>, model: &str) -> Option<PathBuf> {
    let config = &experiment.config.model;
    hub::on_disk(&config.path)?;
    config.tokenizer.as_deref().map_or(Some(PathBuf::new()), hub::on_disk)?;
    if model.contains('/') { hub::on_disk(model) } else { folder_of(experiment, model).ok() }
}

/// What everything read from a model depends on, beside the data and how a prompt is written.
///
/// # Errors
/// When there are no such weights.
pub fn inputs(experiment: &Experiment<'_>, model: &str, folder: &Path) -> anyhow::Result<Inputs> {
    let config = &experiment.config;
    let mut inputs = Inputs::new();
    let weights = if model.contains('/') { stamp::hash_path(folder)? } else { experiment.weights_hash(model)? };
    inputs.hash("weights", weights);
    if let Some(base) = model::folder::base_of(folder)? {
        inputs.path("adapter's base", &base)?;
    }
    if config.model.tokenizer.is_some() {
        inputs.path("tokenizer", &tokenizer_of(experiment, model, folder)?)?;
    }
    inputs.settings("precision", &config.model.precision)?;
    Ok(inputs)
}

/// How the lists of a prompt are written for a model: the settings, and a BOS where one stands before them.
///
/// # Errors
/// When the tokenizer cannot be read.
pub fn add_prompt(inputs: &mut Inputs, experiment: &Experiment<'_>, model: &str, folder: &Path) -> anyhow::Result<()> {
    let prompt = &experiment.config.data.prompt;
    inputs.settings("prompt", prompt)?;
    let tokenizer = Tokenizer::load(&tokenizer_of(experiment, model, folder)?)?;
    let lead = leading_tokens(&tokenizer, prompt)?;
    // Nothing where there is none: most have none, and what was made before there were any holds.
    if lead.is_empty() { Ok(()) } else { inputs.settings("leading tokens", &lead) }
}

/// Folder of the tokenizer a model is read with: a model folder made by training holds the one it was trained with.
///
/// # Errors
/// When it is not on disk and cannot be had.
pub fn tokenizer_of(experiment: &Experiment<'_>, model: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    let own = model != BASE && folder.join("tokenizer.json").is_file();
    if own { Ok(folder.to_owned()) } else { experiment.tokenizer_folder() }
}

impl Subject {
    /// Loads a model for reading, with the context the experiment allows.
    ///
    /// # Errors
    /// When files are missing or damaged, or the model was trained with another prompt.
    pub fn load(experiment: &Experiment<'_>, model: &str, folder: &Path) -> anyhow::Result<Self> {
        let section = &experiment.config.model;
        let tokenizer = tokenizer_of(experiment, model, folder)?;
        let mut loaded = load_folder(folder, Some(&tokenizer), section.device.resolve()?, section.precision.kind())?;
        let context = context_length(experiment, &loaded);
        loaded.model.config.max_position_embeddings = i64::try_from(context).unwrap_or(i64::MAX);
        let prompts =
            PromptBuilder::new(loaded.tokenizer.clone(), experiment.config.data.prompt.clone())?.fitting(context);
        check_prompt(experiment, model, folder, &prompts.hash())?;
        Ok(Self { loaded, prompts })
    }
}

/// A model is read with the prompt it was trained with.
///
/// # Errors
/// When it was trained with another one and the experiment does not allow that.
pub fn check_prompt(experiment: &Experiment<'_>, model: &str, folder: &Path, hash: &str) -> anyhow::Result<()> {
    let Some(note) = ModelNote::read(folder)?.filter(|note| note.prompt_hash != hash) else {
        return Ok(());
    };
    let text = format!(
        "model `{model}` was trained with prompt {} ({}), and this experiment's prompt is {hash}",
        note.prompt_hash, note.prompt
    );
    if experiment.config.data.allow_prompt_mismatch {
        tracing::warn!("{text}");
        return Ok(());
    }
    let hint =
        "give `data.prompt` and the tokenizer as they were in training, or set `data.allow_prompt_mismatch: true`";
    Err(InputError::new(text, hint)).with_context(|| experiment.place("data.prompt"))
}
