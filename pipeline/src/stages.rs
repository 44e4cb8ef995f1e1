//! The four stages of an experiment, and what they share.

pub mod answer;
pub mod answered;
pub mod decoder_needs;
pub mod evaluate;
pub mod heads;
mod held_out;
pub mod overlap;
pub mod plan;
pub mod prepare;
pub mod report;
mod report_answers;
mod report_layouts;
mod report_queries;
mod share;
pub mod subject;
pub mod teacher;
pub mod train;
pub mod training_material;
mod trec_runs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use trainer::Ranks;

use crate::config::experiment::{BASE, ExperimentConfig, StageSection};
use crate::config::load::ConfigSource;
use crate::config::problem::Problem;
use crate::failure::{Ending, InputError, OtherRankFailed, ending};
use crate::hub;
use crate::interrupt::StopFlag;
use crate::model_source::ModelNote;
use crate::run_folder::RunFolder;
use crate::stamp::{self, Freshness, Inputs};

/// One experiment at work.
#[derive(Debug)]
pub struct Experiment<'a> {
    /// What to do.
    pub config: ExperimentConfig,
    /// Where the settings were written.
    pub source: ConfigSource,
    /// Where results go.
    pub folder: RunFolder,
    /// Do finished stages again.
    pub force: bool,
    /// Set by the first signal.
    pub stop: &'a StopFlag,
    /// The processes of the run.
    pub ranks: Ranks,
}

impl Experiment<'_> {
    /// All ranks fail when one did.
    ///
    /// # Errors
    /// The given one, or that another rank failed.
    pub fn agree(&self, result: anyhow::Result<()>) -> anyhow::Result<()> {
        // What is agreed on took each rank as long as it took.
        self.ranks.meet()?;
        let mut codes = vec![0.0; self.ranks.world_size()];
        codes[self.ranks.rank()] = result.as_ref().err().map_or(0.0, |error| f64::from(ending(error) as u8));
        let codes = self.ranks.sum(&codes)?;
        result?;
        match codes.iter().position(|code| *code > 0.0) {
            None => Ok(()),
            Some(rank) => Err(OtherRankFailed { rank, ending: Ending::of_code(codes[rank] as u8) }.into()),
        }
    }

    /// Whether the stage's stamp fits; says so. A stage that must be done loses its stamp.
    ///
    /// # Errors
    /// When a stamp cannot be taken away.
    pub fn is_finished(&self, name: &str, inputs: &Inputs) -> anyhow::Result<bool> {
        let path = self.folder.stamp(name);
        match stamp::freshness(&path, inputs) {
            Freshness::Fresh if !self.force => {
                tracing::info!("{name}: unchanged, skipped");
                return Ok(true);
            }
            Freshness::Fresh => tracing::info!("{name}: done again (--force)"),
            Freshness::New => tracing::info!("{name}"),
            Freshness::Changed(what) => tracing::info!("{name}: done again, changed: {}", what.join(", ")),
            Freshness::Missing(path) => tracing::info!("{name}: done again, `{}` is gone", path.display()),
        }
        stamp::remove(&path)?;
        Ok(false)
    }

    /// Does the work and leaves the stamp.
    ///
    /// # Errors
    /// Whatever `work` fails with.
    pub fn stamped(
        &self,
        name: &str,
        inputs: &Inputs,
        work: impl FnOnce() -> anyhow::Result<Vec<PathBuf>>,
    ) -> anyhow::Result<()> {
        self.stop.check()?;
        let outputs = work()?;
        stamp::write(&self.folder.stamp(name), inputs, &outputs)
    }

    /// Folder of the weights that all stages start from.
    ///
    /// # Errors
    /// When it is not on disk and cannot be had.
    pub fn base_folder(&self) -> anyhow::Result<PathBuf> {
        hub::model_folder(&self.config.model.path).with_context(|| self.place("model.path"))
    }

    /// Folder of `base` or of a stage's result.
    ///
    /// # Errors
    /// When it is not there.
    pub fn model_folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        if name == BASE {
            return self.base_folder();
        }
        let folder = self.folder.model(name);
        if model::folder::is_model_folder(&folder) {
            return Ok(folder);
        }
        Err(InputError::new(
            format!("stage `{name}` has not been trained: there is no `{}`", folder.display()),
            format!("`monopass train {}` trains it", self.source.file.display()),
        )
        .into())
    }

    /// Folder of the tokenizer.
    ///
    /// # Errors
    /// When it is not on disk and cannot be had.
    pub fn tokenizer_folder(&self) -> anyhow::Result<PathBuf> {
        match &self.config.model.tokenizer {
            Some(path) => hub::model_folder(path).with_context(|| self.place("model.tokenizer")),
            None => self.base_folder(),
        }
    }

    /// What identifies the weights of `base` or a stage: the hash of the files and of an adapter's base, or the stamp of the stage with
    /// the weights' own hashes (another number of ranks or another device trains other bits from the same inputs).
    ///
    /// # Errors
    /// When there are no such weights.
    pub fn weights_hash(&self, name: &str) -> anyhow::Result<String> {
        let mut parts = Inputs(BTreeMap::new());
        if name == BASE {
            let folder = self.base_folder()?;
            let Some(base) = model::folder::base_of(&folder)? else { return stamp::hash_path(&folder) };
            parts.path("adapter", &folder)?;
            parts.path("base", &base)?;
        } else {
            parts.hash("stamp", self.stamp_hash(&train::stage_name(name))?);
            let note = ModelNote::read(&self.folder.model(name))?;
            parts.settings("weights", &note.map(|note| note.weights))?;
        }
        Ok(parts.digest())
    }

    /// Hash of a finished stage's stamp.
    ///
    /// # Errors
    /// When the stage is not finished.
    pub fn stamp_hash(&self, name: &str) -> anyhow::Result<String> {
        let path = self.folder.stamp(name);
        stamp::hash_path(&path).map_err(|_| {
            InputError::new(
                format!("stage `{name}` is not finished: there is no `{}`", path.display()),
                format!("`monopass run {}` does all stages in order", self.source.file.display()),
            )
            .into()
        })
    }

    /// `path:line: key`, for errors about a value.
    pub fn place(&self, key: &str) -> String {
        let error = self.source.error(vec![Problem::new(key, "")]);
        error.to_string().trim_end_matches([' ', ':']).to_owned()
    }

    /// The training stages in order.
    pub fn stages(&self) -> &[StageSection] {
        self.config.stages()
    }
}

/// Makes `path` anew from what `fill` writes: beside it first, then in one rename.
///
/// # Errors
/// When the folder cannot be written; what stood there before is then untouched.
pub fn replace_folder(path: &Path, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let partial = path.with_file_name(format!(".{name}.partial"));
    remove_folder(&partial)?;
    std::fs::create_dir_all(&partial).with_context(|| format!("cannot make `{}`", partial.display()))?;
    fill(&partial)?;
    if path.exists() {
        set_aside(path)?;
    }
    std::fs::rename(&partial, path).with_context(|| format!("cannot move `{}` into place", path.display()))?;
    remove_folder(&aside(path))
}

/// Moves a folder to a hidden place beside it, where the next [`replace_folder`] removes it; returns the place.
///
/// # Errors
/// When it cannot be moved.
pub fn set_aside(path: &Path) -> anyhow::Result<PathBuf> {
    let aside = aside(path);
    remove_folder(&aside)?;
    std::fs::rename(path, &aside).with_context(|| format!("cannot move `{}` away", path.display()))?;
    Ok(aside)
}

fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.old"))
}

/// Removes a folder that may not be there.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove_folder(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}
