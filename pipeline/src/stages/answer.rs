//! Every model's answers to the questions about every text, by every decoder; predictions and the table.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use data::branched::{BranchPrompts, BranchedText};
use data::prepared::AnswerRecord;
use evaluator::answer::{
    AnswerConfig, AnswerEvaluation, AnswerJob, AnswerLine, AnswerNormalisation, AnswerProgress, AnswerSystem,
    answer_share, answers_table, evaluate_answers, measure_answer_memory, merge_answers, score,
};
use evaluator::table::Table;

use super::evaluate::{shown_as_it_was, write_table};
use super::overlap::{Overlap, question_hashes};
use super::share::{self, Sharing};
use super::{Experiment, prepare, subject, train};
use crate::model_source::{self, LoadedModel, ModelNote, load_folder};
use crate::progress::SetProgress;
use crate::run_folder::file_name;
use crate::stamp::{self, Inputs};
use crate::write_whole::{read_json, write_json};

/// File with all evaluations of answers, beside the tables.
pub const ANSWERS_FILE: &str = "answer_evaluations.json";
/// File with the questions that training and evaluation share.
pub const OVERLAPS_FILE: &str = "answer_overlaps.json";

/// Answers and writes predictions and the table.
///
/// # Errors
/// When a model or set cannot be used, or a signal came (finished texts are then kept).
pub fn run(experiment: &Experiment<'_>) -> anyhow::Result<Option<Table>> {
    let Some(config) = &experiment.config.answer else { return Ok(None) };
    let is_main = experiment.ranks.is_main();
    let mut evaluations = Vec::new();
    let mut overlaps = Vec::new();
    for system in &config.systems {
        let folder = subject::folder_of(experiment, &system.model)?;
        let trained = ModelNote::read(&folder)?.map(|note| note.trained_queries).unwrap_or_default();
        let mut loaded = None;
        let of_model = subject::inputs(experiment, &system.model, &folder)?;
        for set in &config.sets {
            let texts = prepare::texts(experiment, set)?;
            if let Some(overlap) = Overlap::of_hashes(&system.model, &trained, set, &question_hashes(&texts))
                && is_main
            {
                tracing::warn!("{}", overlap.warning());
                overlaps.push(overlap);
            }
            let (stage, model, worked) = (stage_name(system, set), system.name(), Cell::new(false));
            let sharing = Sharing { experiment, stage, model, set, unit: "texts", worked };
            let one =
                One { experiment, config, system, set, folder: &folder, of_model: &of_model, texts: &texts, sharing };
            evaluations.push(one.evaluate(&mut loaded)?);
        }
    }
    if !is_main {
        return Ok(None);
    }
    let tables = experiment.folder.tables();
    write_json(&tables.join(ANSWERS_FILE), &evaluations)?;
    write_json(&tables.join(OVERLAPS_FILE), &overlaps)?;
    let table = answers_table(&evaluations, config)?;
    write_table(&tables, &table, &config.table_formats)?;
    Ok(Some(table))
}

/// One model on one set.
struct One<'a> {
    experiment: &'a Experiment<'a>,
    config: &'a AnswerConfig,
    system: &'a AnswerSystem,
    set: &'a str,
    folder: &'a Path,
    /// What all sets depend on alike: reading it may read all weights.
    of_model: &'a Inputs,
    texts: &'a [BranchedText],
    sharing: Sharing<'a>,
}

fn stage_name(system: &AnswerSystem, set: &str) -> String {
    format!("answer/{}/{set}", file_name(system.name()))
}

impl One<'_> {
    fn file(&self, ending: &str) -> PathBuf {
        self.experiment.folder.answers_of(self.set, self.system.name(), ending)
    }

    /// The evaluation, done now or before; `loaded` keeps the model for the next set.
    fn evaluate(&self, loaded: &mut Option<(LoadedModel, BranchPrompts)>) -> anyhow::Result<AnswerEvaluation> {
        let (content_key, inputs) = self.inputs()?;
        let result = self.file("json");
        let from_file = || read_json(&result);
        let ranks = &self.experiment.ranks;
        // Rank 0 looks, all ranks do as it says.
        let finished = ranks.is_main() && self.experiment.is_finished(&self.sharing.stage, &inputs)?;
        if ranks.from_main(f64::from(u8::from(finished)))? > 0.0 {
            return from_file();
        }
        self.experiment.stop.check()?;
        if self.experiment.force && ranks.is_main() {
            share::forget(&self.file("jsonl"))?;
        }
        if loaded.is_none() {
            *loaded = Some(load(self.experiment, self.system, self.folder)?);
        }
        let Some((model, prompts)) = loaded.as_ref() else { unreachable!("loaded above") };
        let written = match self.answer(model, prompts, &content_key)? {
            Some((lines, evaluation)) => self.write(&lines, &evaluation, &inputs),
            None => Ok(()),
        };
        self.experiment.agree(written)?;
        from_file()
    }

    fn write(&self, lines: &[AnswerLine], evaluation: &AnswerEvaluation, inputs: &Inputs) -> anyhow::Result<()> {
        let result = self.file("json");
        write_json(&result, evaluation)?;
        let mut outputs = vec![result, self.file("jsonl")];
        for (index, decoder) in self.system.decoders.iter().enumerate() {
            let path = self.file(&format!("{}.squad.json", decoder.name()));
            write_json(&path, &squad_predictions(self.texts, lines, index))?;
            outputs.push(path);
        }
        let records = records(self.texts, lines, self.config.normalisation);
        data::prepared::write_answers(&self.file("parquet"), &records)?;
        outputs.push(self.file("parquet"));
        stamp::write(&self.experiment.folder.stamp(&self.sharing.stage), inputs, &outputs)
    }

    /// What the evaluation depends on, and the digest of what its answers depend on.
    fn inputs(&self) -> anyhow::Result<(String, Inputs)> {
        let (experiment, config) = (self.experiment, self.config);
        let mut inputs = self.of_model.clone();
        inputs.hash("data", experiment.stamp_hash(&prepare::stage_name(self.set))?);
        inputs.settings("branch_prompt", &experiment.config.data.branch_prompt)?;
        inputs.settings("decoders", &self.system.decoders)?;
        if let Some(rope) = &self.system.rope {
            inputs.settings("rope", rope)?;
        }
        inputs.settings("limits", &(config.max_new_tokens, experiment.config.model.context_length))?;
        inputs.settings("sampling", &config.sampling)?;
        if config.sampling.temperature > 0.0 {
            // Raised where the same settings draw other answers.
            inputs.settings("draws", &2)?;
        }
        inputs.settings("texts_per_batch", &config.texts_per_batch)?;
        let content_key = inputs.digest();
        inputs.settings("normalisation", &config.normalisation)?;
        Ok((content_key, inputs))
    }

    /// The lines of all texts and what was measured on them, on rank 0; the other ranks answer their share.
    fn answer(
        &self,
        model: &LoadedModel,
        prompts: &BranchPrompts,
        content_key: &str,
    ) -> anyhow::Result<Option<(Vec<AnswerLine>, AnswerEvaluation)>> {
        let folder = self.experiment.folder.predictions();
        fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        let job = AnswerJob {
            model: &model.model,
            prompts,
            texts: self.texts,
            decoders: &self.system.decoders,
            config: self.config,
            content_key,
            predictions: &self.file("jsonl"),
        };
        let sharing = &self.sharing;
        let device = model.model.device();
        sharing.share(
            device,
            || merge_answers(&job),
            |share, progress| answer_share(&job, share, &mut |now| self.go_on(progress, now)),
        )?;
        if !self.experiment.ranks.is_main() {
            return Ok(None);
        }
        let mut progress = sharing.progress("");
        let lines = evaluate_answers(&job, &mut |now| self.go_on(&mut progress, now));
        sharing.note_origin(device)?;
        let (lines, normalisation) = (sharing.told(lines)?, self.config.normalisation);
        let mut evaluation = AnswerEvaluation::of(self.set, self.system.name(), self.texts, &lines, normalisation);
        tracing::info!("  {} on {}: {}", self.system.name(), self.set, evaluation.key_figures());
        sharing.told(measure_answer_memory(&job, &mut evaluation))?;
        Ok(Some((lines, evaluation)))
    }

    fn go_on(&self, progress: &mut SetProgress, now: AnswerProgress) -> ControlFlow<()> {
        // The last report comes though all was kept.
        if now.done < now.total {
            self.sharing.worked.set(true);
        }
        self.sharing.go_on(progress, now.done, now.total)
    }
}

/// As [`super::evaluate::outdated`].
#[must_use]
pub fn outdated(experiment: &Experiment<'_>) -> Vec<String> {
    let Some(config) = &experiment.config.answer else { return Vec::new() };
    let mut lines = Vec::new();
    for system in &config.systems {
        let Some(folder) = subject::folder_on_disk(experiment, &system.model) else { continue };
        let Ok(of_model) = subject::inputs(experiment, &system.model, &folder) else { continue };
        for set in &config.sets {
            let (stage, worked) = (stage_name(system, set), Cell::new(false));
            let sharing =
                Sharing { experiment, stage: stage.clone(), model: system.name(), set, unit: "texts", worked };
            let of_model = &of_model;
            let one = One { experiment, config, system, set, folder: &folder, of_model, texts: &[], sharing };
            lines.extend(one.inputs().ok().and_then(|(_, inputs)| shown_as_it_was(experiment, &stage, &inputs)));
        }
    }
    lines
}

/// A model for answering, and what writes its prompts.
fn load(
    experiment: &Experiment<'_>,
    system: &AnswerSystem,
    folder: &Path,
) -> anyhow::Result<(LoadedModel, BranchPrompts)> {
    let model = system.model.as_str();
    let section = &experiment.config.model;
    let tokenizer = subject::tokenizer_of(experiment, model, folder)?;
    let mut loaded = load_folder(folder, Some(&tokenizer), section.device.resolve()?, section.precision.kind())?;
    let context = train::context_length(experiment, &loaded);
    loaded.model.config.max_position_embeddings = i64::try_from(context).unwrap_or(i64::MAX);
    let prompts = BranchPrompts::new(loaded.tokenizer.clone(), experiment.config.data.branch_prompt.clone())?;
    if let Some(rope) = &system.rope {
        model_source::give_columns(&mut loaded, rope)?;
    }
    subject::check_prompt(experiment, model, folder, &prompts.hash())?;
    Ok((loaded, prompts))
}

/// A row for each question and decoder.
fn records(texts: &[BranchedText], lines: &[AnswerLine], normalisation: AnswerNormalisation) -> Vec<AnswerRecord> {
    let mut records = Vec::new();
    for (text, line) in texts.iter().zip(lines) {
        for decoded in &line.decoders {
            for (branch, answer) in text.branches.iter().zip(&decoded.answers) {
                let scored = (!branch.answers.is_empty()).then(|| score(answer, &branch.answers, normalisation));
                records.push(AnswerRecord {
                    text_id: text.id.clone(),
                    question_id: branch.id.clone(),
                    question: branch.prompt.clone(),
                    decoder: decoded.decoder.name().to_owned(),
                    answer: answer.clone(),
                    exact_match: scored.map(|scores| scores.0),
                    f1: scored.map(|scores| scores.1),
                });
            }
        }
    }
    records
}

/// Predictions as SQuAD's official script reads them: `{"question id": "answer"}`.
fn squad_predictions(texts: &[BranchedText], lines: &[AnswerLine], decoder: usize) -> BTreeMap<String, String> {
    let of_text = |(text, line): (&BranchedText, &AnswerLine)| {
        let ids = text.branches.iter().map(|branch| branch.id.clone());
        ids.zip(line.decoders[decoder].answers.clone()).collect::<Vec<_>>()
    };
    texts.iter().zip(lines).flat_map(of_text).collect()
}
