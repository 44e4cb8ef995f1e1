//! Training stages: each from `base` or an earlier stage, to a model folder of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use data::DataError;
use data::batch::{Loader, LoaderConfig, LoaderOptions, StepBatch};
use model::{CausalLm, SaveOptions};
use tch::Device;
use trainer::checkpoint::TrainerState;
use trainer::objectives::TrainsOn;
use trainer::{Outcome, Run};

use super::held_out::HeldOut;
use super::training_material::Material;
use super::{Experiment, heads, prepare, remove_folder, replace_folder, set_aside, subject};
use crate::config::experiment::{BASE, StageSection};
use crate::failure::Interrupted;
use crate::logging::draws_bars;
use crate::model_card;
use crate::model_source::{LoadedModel, ModelNote, load_folder};
use crate::origin::PROGRAM;
use crate::stamp::{self, Freshness, Inputs};
use crate::write_whole::write_whole;

/// Name of a training stage.
pub fn stage_name(stage: &str) -> String {
    format!("train/{stage}")
}

/// Trains every stage that is not finished.
///
/// # Errors
/// When data or weights cannot be used, training fails, or a signal came (everything is then checkpointed).
pub fn run(experiment: &Experiment<'_>) -> anyhow::Result<()> {
    for stage in experiment.stages() {
        experiment.stop.check()?;
        let name = stage_name(&stage.name);
        let inputs = inputs(experiment, stage)?;
        // Rank 0 looks, all ranks do as it says.
        let finished = experiment.ranks.is_main() && experiment.is_finished(&name, &inputs)?;
        if experiment.ranks.from_main(f64::from(u8::from(finished)))? > 0.0 {
            continue;
        }
        train(experiment, stage, &inputs).with_context(|| format!("stage `{}`", stage.name))?;
    }
    Ok(())
}

/// Says which stages were trained by other settings or data than the experiment's present ones: what follows is about the models as
/// they are.
pub fn warn_of_other_settings(experiment: &Experiment<'_>) {
    for stage in experiment.stages() {
        // Data that is gone or not prepared cannot be compared, and is told where it is needed.
        let Ok(inputs) = inputs(experiment, stage) else { continue };
        let stamp = experiment.folder.stamp(&stage_name(&stage.name));
        if let Freshness::Changed(what) = stamp::freshness(&stamp, &inputs) {
            tracing::warn!(
                "stage `{}` was trained before these changed: {}; this is about the model as it is (`monopass train {}` trains it anew)",
                stage.name,
                what.join(", "),
                experiment.source.file.display()
            );
        }
    }
    heads::warn_of_other_settings(experiment);
}

fn inputs(experiment: &Experiment<'_>, stage: &StageSection) -> anyhow::Result<Inputs> {
    let mut inputs = Inputs::new();
    let config = &experiment.config;
    inputs.settings("settings", &stage.settings.what_is_learned())?;
    inputs.settings("seed", &config.seed)?;
    match stage.settings.objective.trains_on() {
        TrainsOn::Lists => {
            subject::add_prompt(&mut inputs, experiment, BASE, &experiment.tokenizer_folder()?)?;
        }
        TrainsOn::Columns { .. } | TrainsOn::Questions => {
            inputs.settings("branch_prompt", &config.data.branch_prompt)?
        }
    }
    inputs.settings("context_length", &config.model.context_length)?;
    let from = config.start_of(stage);
    inputs.hash("weights", experiment.weights_hash(from)?);
    if config.model.tokenizer.is_some() {
        inputs.path("tokenizer", &experiment.tokenizer_folder()?)?;
    }
    // Sets are read one after the other, a set twice where it is named twice. Nothing for those in the order of their names.
    if !stage.data.0.is_sorted_by(|a, b| a < b) {
        inputs.settings("order of data", &stage.data.0)?;
    }
    for set in &stage.data.0 {
        inputs.hash(&format!("data {set}"), experiment.stamp_hash(&prepare::stage_name(set))?);
    }
    Ok(inputs)
}

fn train(experiment: &Experiment<'_>, stage: &StageSection, inputs: &Inputs) -> anyhow::Result<()> {
    let (config, settings) = (&experiment.config, &stage.settings);
    let folder = experiment.folder.train(&stage.name);
    let begun = if experiment.ranks.is_main() { begin(experiment, stage, inputs) } else { Ok(()) };
    experiment.agree(begun)?;
    let from = config.start_of(stage);
    let start = experiment.model_folder(from)?;
    let tokenizer = experiment.tokenizer_folder()?;
    let device = config.model.device.resolve()?;
    let mut loaded = load_folder(&start, Some(&tokenizer), device, settings.precision.weights())?;
    let mut material = Material::read(experiment, stage, &loaded)?;
    if let Some(problem) = material.unlearnable.take() {
        return Err(problem.into());
    }
    tracing::info!("  {} {}, from `{from}`, on {device:?}", material.tokens.len(), material.kind);
    let stop = experiment.stop.shared();
    let context = context_length(experiment, &loaded);
    let options = LoaderOptions { max_sample_tokens: Some(context), ..settings.loader_options() };
    let mut open = |loader: &LoaderConfig, first_step: u64| -> Result<trainer::StepBatches, DataError> {
        let loader = Loader::of_tokens(Arc::clone(&material.tokens), loader.clone(), options.clone(), first_step)?;
        Ok(Box::new(CountedSteps { loader, kind: material.kind }))
    };
    let held_out = HeldOut::of(experiment, stage, &loaded)?;
    let mut between_steps = |model: &CausalLm, _step: u64| match &held_out {
        Some(held_out) => held_out.evaluate(model),
        None => Ok(Vec::new()),
    };
    let report = trainer::train(
        &mut loaded.model,
        &mut open,
        settings,
        Run {
            folder: &folder,
            seed: config.seed,
            num_samples: material.tokens.len() as u64,
            context_length: context,
            data_fingerprint: &inputs.digest(),
            ranks: &experiment.ranks,
            stop: &stop,
            evaluate: match held_out {
                Some(_) => Some(&mut between_steps),
                None => None,
            },
            quiet: !draws_bars(),
        },
    )?;
    for damaged in &report.damaged_checkpoints {
        tracing::warn!("checkpoint passed over: {damaged}");
    }
    if report.outcome == Outcome::Interrupted {
        let (step, of) = (report.state.step, report.state.num_steps);
        let saved = format!(
            "stage `{}` is checkpointed after step {step} of {of}; the same command goes on from there",
            stage.name
        );
        return Err(Interrupted { saved }.into());
    }
    if let Some(step) = report.resumed_from {
        tracing::info!("  resumed from step {step}");
    }
    let saved = if experiment.ranks.is_main() { save(experiment, stage, &loaded, &material, inputs) } else { Ok(()) };
    experiment.agree(saved)
}

/// Steps of a loader; says at the end how many samples did not fit.
struct CountedSteps {
    loader: Loader,
    kind: &'static str,
}

impl Iterator for CountedSteps {
    type Item = Result<StepBatch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.loader.next()
    }
}

impl Drop for CountedSteps {
    fn drop(&mut self) {
        let (skipped, kind) = (self.loader.skipped().too_long, self.kind);
        if skipped > 0 {
            tracing::warn!(
                "{skipped} {kind} were longer than a micro-batch or the context and were not trained on; raise \
                 `max_micro_batch_tokens`, shorten them, or write `too_long: error` to stop at them"
            );
        }
    }
}

/// Clears what an attempt with other inputs left, so that training resumes only what it may.
fn begin(experiment: &Experiment<'_>, stage: &StageSection, inputs: &Inputs) -> anyhow::Result<()> {
    let folder = experiment.folder.train(&stage.name);
    let marker = folder.join("inputs");
    let digest = inputs.digest();
    let before = std::fs::read_to_string(&marker).ok();
    let finished_before = experiment.folder.model(&stage.name).exists();
    let resumable = before.as_deref() == Some(digest.as_str()) && !(experiment.force && finished_before);
    if !resumable {
        if folder.exists() && before.is_some() && !finished_before {
            tracing::warn!("stage `{}`: its inputs changed, so its unfinished training is discarded", stage.name);
        }
        remove_folder(&folder)?;
    }
    let model = experiment.folder.model(&stage.name);
    if model.exists() {
        let aside = set_aside(&model)?;
        tracing::info!("  the model of before is kept in `{}` until the new one is whole", aside.display());
    }
    write_whole(&marker, digest.as_bytes())
}

/// Tokens of prompt and answer at most.
pub fn context_length(experiment: &Experiment<'_>, loaded: &LoadedModel) -> usize {
    let of_model = usize::try_from(loaded.model.config.max_position_embeddings).unwrap_or(usize::MAX);
    experiment.config.model.context_length.map_or(of_model, |wanted| wanted.min(of_model))
}

fn save(
    experiment: &Experiment<'_>,
    stage: &StageSection,
    loaded: &LoadedModel,
    material: &Material,
    inputs: &Inputs,
) -> anyhow::Result<()> {
    let folder = experiment.folder.model(&stage.name);
    write_model(experiment, stage, loaded, material, &folder)?;
    tracing::info!("  model: {}", folder.display());
    let outputs: Vec<PathBuf> = vec![folder, experiment.folder.train(&stage.name)];
    stamp::write(&experiment.folder.stamp(&stage_name(&stage.name)), inputs, &outputs)
}

/// Writes the model that a checkpoint of the stage holds into `out`.
///
/// # Errors
/// When the checkpoint is damaged, or what the stage started from or learned is gone.
pub fn export(
    experiment: &Experiment<'_>,
    stage: &StageSection,
    checkpoint: &Path,
    out: &Path,
) -> anyhow::Result<TrainerState> {
    let start = experiment.model_folder(experiment.config.start_of(stage))?;
    let tokenizer = experiment.tokenizer_folder()?;
    let mut loaded = load_folder(&start, Some(&tokenizer), Device::Cpu, stage.settings.precision.weights())?;
    let material = Material::read(experiment, stage, &loaded)?;
    let state = trainer::resume::load_weights(&mut loaded.model, checkpoint)?;
    write_model(experiment, stage, &loaded, &material, out)?;
    Ok(state)
}

/// A folder with the model, its adapter and the note of what it learned.
fn write_model(
    experiment: &Experiment<'_>,
    stage: &StageSection,
    loaded: &LoadedModel,
    material: &Material,
    folder: &Path,
) -> anyhow::Result<()> {
    let mut trained_queries = material.queries.clone();
    let from = experiment.config.start_of(stage);
    // A base that was trained by this program says what on, and so does an adapter's.
    let start = experiment.model_folder(from)?;
    for folder in [Some(start.clone()), model::folder::base_of(&start)?].into_iter().flatten() {
        trained_queries.extend(ModelNote::read(&folder)?.into_iter().flat_map(|note| note.trained_queries));
    }
    let mut note = ModelNote {
        weights: BTreeMap::new(),
        program: PROGRAM.to_owned(),
        stage: stage.name.clone(),
        prompt: material.prompt.clone(),
        prompt_hash: material.prompt_hash.clone(),
        context_length: experiment.config.model.context_length,
        trained_queries,
    };
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make `{}`", parent.display()))?;
    }
    replace_folder(folder, |partial| {
        loaded.model.save(partial, &SaveOptions { kind: None, merge_lora: true, adapter_only: None })?;
        loaded.tokenizer.save(partial)?;
        if loaded.model.lora_config().is_some() {
            // An adapter that was trained on belongs to the same model as before.
            let base = model::folder::base_of(&loaded.folder)?.unwrap_or_else(|| loaded.folder.clone());
            let (base, adapter) = (base.display().to_string(), partial.join("adapter"));
            loaded.model.save(&adapter, &SaveOptions { kind: None, merge_lora: false, adapter_only: Some(base) })?;
            // Whoever reads the adapter reads it with the same prompt, and is told of queries that it has learned from.
            note.weights = ModelNote::hash_weights(&adapter)?;
            note.write(&adapter)?;
        }
        note.weights = ModelNote::hash_weights(partial)?;
        note.write(partial)?;
        let (samples, kind) = (material.tokens.len(), material.kind);
        let in_columns = loaded.model.config.columnar_rope.is_some();
        let learned = model_card::Learned { samples, kind, prompt_hash: &material.prompt_hash, in_columns };
        let card = model_card::text(&experiment.config, stage, learned)?;
        write_whole(&partial.join(model_card::CARD_FILE), card.as_bytes())
    })
}
