//! Every model on every set by every decoder; predictions and tables.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Context as _;
use data::sources::{RankingSetConfig, SourceConfig};
use data::{Qrels, RankingSample};
use evaluator::decode::{BuildDecoder, DecoderKind, LastPrompt, LastRead};
use evaluator::evaluate::{
    EvaluateConfig, EvaluationJob, Predictions, Progress, SetEvaluation, SignificanceBaseline, comparison_table,
    cost_table, evaluate, evaluate_share, fidelity_table, measure_memory, merge_shares, results_table,
};
use evaluator::measures::trec_eval::{Judgements, judgements};
use evaluator::table::{Table, TableFormat};

use super::overlap::{Overlap, query_hashes};
use super::share::{self, Sharing};
use super::subject::{self, Subject};
use super::{Experiment, heads, prepare, trec_runs};
use crate::head_parts::{HeadParts, Known};
use crate::hub;
use crate::model_source::ModelNote;
use crate::paper_table::config::RunTable;
use crate::progress::SetProgress;
use crate::run_folder::file_name;
use crate::stamp::{self, Freshness, Inputs};
use crate::write_whole::{read_json, write_json, write_whole};

/// File with all evaluations, beside the tables.
pub const EVALUATIONS_FILE: &str = "evaluations.json";
/// File with the queries that training and evaluation share.
pub const OVERLAPS_FILE: &str = "overlaps.json";

/// Evaluates and writes predictions and tables.
///
/// # Errors
/// When a model or set cannot be used, or a signal came (finished queries are then kept).
pub fn run(experiment: &Experiment<'_>) -> anyhow::Result<Vec<Table>> {
    let Some(config) = &experiment.config.evaluate else {
        if experiment.config.answer.is_none() {
            tracing::info!("evaluate: nothing to do, the file has neither `evaluate` nor `answer`");
        }
        return Ok(Vec::new());
    };
    let mut evaluations = Vec::new();
    let mut overlaps = if experiment.ranks.is_main() { of_heads(experiment, config)? } else { Vec::new() };
    for model in &config.models {
        let folder = subject::folder_of(experiment, model)?;
        let note = ModelNote::read(&folder)?;
        let trained = note.as_ref().map(|note| note.trained_queries.clone()).unwrap_or_default();
        let mut loaded = None;
        let of_model = of_model(experiment, model, &folder)?;
        for set in &config.sets {
            let samples = prepare::samples(experiment, set)?;
            if experiment.ranks.is_main() {
                overlaps.extend(warn_of_overlap(model, &trained, set, &samples));
            }
            let (stage, worked) = (stage_name(model, set), Cell::new(false));
            let sharing = Sharing { experiment, stage, model, set, unit: "queries", worked };
            let one = One {
                experiment,
                config,
                model,
                set,
                folder: &folder,
                of_model: &of_model,
                samples: &samples,
                sharing,
            };
            evaluations.push(one.evaluate(&mut loaded)?);
        }
    }
    if !experiment.ranks.is_main() {
        return Ok(Vec::new());
    }
    write_json(&experiment.folder.tables().join(OVERLAPS_FILE), &overlaps)?;
    write_tables(experiment, config, &evaluations)
}

fn warn_of_overlap(model: &str, trained: &BTreeSet<String>, set: &str, samples: &[RankingSample]) -> Option<Overlap> {
    let overlap = Overlap::find(model, trained, set, samples)?;
    tracing::warn!("{}", overlap.warning());
    Some(overlap)
}

/// Queries of the evaluated sets that heads learned from or were chosen by: such a set says nothing about new queries either.
fn of_heads(experiment: &Experiment<'_>, config: &EvaluateConfig) -> anyhow::Result<Vec<Overlap>> {
    let Some(heads) = &experiment.config.heads else { return Ok(Vec::new()) };
    if !config.decoders.iter().any(|kind| kind.head().is_some()) {
        return Ok(Vec::new());
    }
    let mut learned = BTreeSet::new();
    for set in heads.train.0.iter().chain(&heads.validation.0) {
        learned.extend(query_hashes(&prepare::samples(experiment, set)?));
    }
    let mut overlaps = Vec::new();
    for set in &config.sets {
        let overlap = Overlap::of_heads(&learned, set, &prepare::samples(experiment, set)?);
        overlaps.extend(overlap.inspect(|overlap| tracing::warn!("{}", overlap.warning())));
    }
    Ok(overlaps)
}

/// One model on one set.
struct One<'a> {
    experiment: &'a Experiment<'a>,
    config: &'a EvaluateConfig,
    model: &'a str,
    set: &'a str,
    folder: &'a Path,
    /// What all sets depend on alike: reading it may read all weights.
    of_model: &'a Inputs,
    samples: &'a [RankingSample],
    sharing: Sharing<'a>,
}

fn of_model(experiment: &Experiment<'_>, model: &str, folder: &Path) -> anyhow::Result<Inputs> {
    let mut inputs = subject::inputs(experiment, model, folder)?;
    subject::add_prompt(&mut inputs, experiment, model, folder)?;
    Ok(inputs)
}

fn stage_name(model: &str, set: &str) -> String {
    format!("evaluate/{}/{set}", file_name(model))
}

impl One<'_> {
    /// File of this evaluation, with the given ending.
    fn file(&self, ending: &str) -> PathBuf {
        self.experiment.folder.predictions_of(self.set, self.model, ending)
    }

    /// The evaluation, done now or before; `loaded` keeps the model for the next set.
    fn evaluate(&self, loaded: &mut Option<Subject>) -> anyhow::Result<SetEvaluation> {
        let (content_key, inputs) = self.inputs()?;
        let result = self.file("json");
        // What is told is always what the file tells, so that a skipped evaluation gives the same tables to the last digit.
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
            *loaded = Some(Subject::load(self.experiment, self.model, self.folder)?);
        }
        let Some(loaded) = loaded.as_ref() else { unreachable!("loaded above") };
        let written = match self.decode(loaded, &content_key)? {
            Some(evaluation) => self.write(&evaluation, &content_key, &inputs),
            None => Ok(()),
        };
        self.experiment.agree(written)?;
        from_file()
    }

    /// What the evaluation depends on, and the digest of what its predictions depend on.
    fn inputs(&self) -> anyhow::Result<(String, Inputs)> {
        let mut inputs = self.predictions_inputs()?;
        let content_key = inputs.digest();
        // What is evaluated beside it, and how tables show it, changes nothing of one model on one set.
        let settings = EvaluateConfig {
            sets: Vec::new(),
            models: Vec::new(),
            table_formats: Vec::new(),
            significance_baseline: SignificanceBaseline::default(),
            ..self.config.clone()
        };
        inputs.settings("evaluate", &settings)?;
        let set = &self.experiment.config.data.sets[self.set];
        if let Some(qrels) = qrels_file(set)? {
            inputs.path("qrels", &qrels)?;
            inputs.settings("queries left out", &set.leaves_queries_out())?;
        }
        Ok((content_key, inputs))
    }

    fn write(&self, evaluation: &SetEvaluation, content_key: &str, inputs: &Inputs) -> anyhow::Result<()> {
        let result = self.file("json");
        write_json(&result, evaluation)?;
        let predictions = Predictions::open(&self.file("jsonl"), content_key, self.samples)?;
        let samples = &self.samples[..evaluation.num_queries];
        let records = predictions.records(samples);
        data::prepared::write_rankings(&self.file("parquet"), &records)?;
        let decoders: Vec<String> = self.config.decoders.iter().map(DecoderKind::name).collect();
        let mut outputs = vec![result, self.file("jsonl"), self.file("parquet")];
        outputs.extend(trec_runs::write(&self.file("jsonl"), &decoders, samples, &records)?);
        stamp::write(&self.experiment.folder.stamp(&self.sharing.stage), inputs, &outputs)
    }

    /// What the predictions depend on.
    fn predictions_inputs(&self) -> anyhow::Result<Inputs> {
        let config = &self.experiment.config;
        let mut inputs = self.of_model.clone();
        inputs.hash("data", self.experiment.stamp_hash(&prepare::stage_name(self.set))?);
        inputs.settings("decoders", &self.config.decoders)?;
        inputs.settings("window", &self.config.window)?;
        inputs.settings("limits", &(self.config.max_new_tokens, config.model.context_length))?;
        inputs.settings("latency", &self.config.latency)?;
        for draft in self.config.decoders.iter().filter_map(DecoderKind::draft_model) {
            let folder = hub::on_disk(&draft.display().to_string());
            let folder = folder.with_context(|| format!("the draft model `{}` is not on disk", draft.display()))?;
            inputs.path(&format!("draft model {}", draft.display()), &folder)?;
        }
        for head in self.config.decoders.iter().filter_map(|kind| kind.head()) {
            let stage = heads::stage_name(self.model, &head);
            inputs.hash(&format!("head {}", head.name()), self.experiment.stamp_hash(&stage)?);
        }
        Ok(inputs)
    }

    /// What the model makes of the set, on rank 0; the other ranks decode their share.
    fn decode(&self, subject: &Subject, content_key: &str) -> anyhow::Result<Option<SetEvaluation>> {
        let data = &self.experiment.config.data;
        let Subject { loaded, prompts } = subject;
        let run = &self.experiment.folder;
        let parts = HeadParts {
            model: &loaded.model,
            model_folder: self.folder,
            prompt_hash: prompts.hash(),
            identifiers: prompts.single_identifier_tokens(),
            folder_of: Box::new(|head| run.head(self.model, &head.name())),
            known: Known::default(),
        };
        let build = |last_read, last_prompt| BuildDecoder {
            tokenizer: &loaded.tokenizer,
            answer: data.prompt.answer_form(),
            max_new_tokens: self.config.max_new_tokens,
            parts: &parts,
            last_read,
            last_prompt,
        };
        let kinds = &self.config.decoders;
        let (last_read, last_prompt) = (Rc::<LastRead>::default(), Rc::<LastPrompt>::default());
        let sharing = build(Rc::clone(&last_read), Some(Rc::clone(&last_prompt)));
        let decoders = kinds.iter().map(|kind| kind.build(&sharing)).collect::<Result<Vec<_>, _>>()?;
        let judgements = judgements_of(&data.sets[self.set], self.samples)?;
        let predictions = self.file("jsonl");
        fs::create_dir_all(self.experiment.folder.predictions())
            .with_context(|| format!("cannot make `{}`", self.experiment.folder.predictions().display()))?;
        let job = EvaluationJob {
            set: self.set,
            model_name: self.model,
            model: &loaded.model,
            prompts,
            samples: self.samples,
            judgements: &judgements,
            decoders: &decoders,
            forget_passes: &|| {
                last_read.forget();
                last_prompt.forget();
            },
            config: self.config,
            content_key,
            predictions: Some(&predictions),
        };
        let sharing = &self.sharing;
        let device = loaded.model.device();
        sharing.share(
            device,
            || merge_shares(&job),
            |share, progress| evaluate_share(&job, share, &mut |now| self.go_on(progress, now)),
        )?;
        if !self.experiment.ranks.is_main() {
            return Ok(None);
        }
        let mut progress = sharing.progress("");
        let evaluated = sharing.told(evaluate(&job, &mut |now| self.go_on(&mut progress, now)));
        sharing.note_origin(device)?;
        let mut evaluation = evaluated?;
        if let Some(figures) = evaluation.key_figures() {
            tracing::info!("  {} on {}: {figures}", self.model, self.set);
        }
        let alone = kinds.iter().map(|kind| kind.build(&build(Rc::default(), None))).collect::<Result<Vec<_>, _>>()?;
        sharing.told(measure_memory(&job, &alone, &mut evaluation))?;
        Ok(Some(evaluation))
    }

    fn go_on(&self, progress: &mut SetProgress, now: &Progress<'_>) -> ControlFlow<()> {
        self.sharing.worked.set(true);
        self.sharing.go_on(progress, now.done, now.total)
    }
}

/// All judgements of a set; of one whose settings leave queries out, those of its queries.
///
/// # Errors
/// A file of judgements that cannot be read.
pub fn judgements_of(set: &RankingSetConfig, samples: &[RankingSample]) -> anyhow::Result<Judgements> {
    let Some(file) = qrels_file(set)? else {
        return Ok(judgements(&Qrels::from_samples(samples)));
    };
    let mut all = judgements(&Qrels::read(&file)?);
    let queries: BTreeSet<&str> = samples.iter().map(|sample| sample.query_id.as_str()).collect();
    // Judgements of none of them are another set's: that is told of all, not taken for a set without judgements.
    if set.leaves_queries_out() && all.keys().any(|query| queries.contains(query.as_str())) {
        all.retain(|query, _| queries.contains(query.as_str()));
    }
    Ok(all)
}

/// The file a set's judgements stand in; none when they are part of the samples.
///
/// # Errors
/// One of the hub's that cannot be had.
fn qrels_file(set: &RankingSetConfig) -> anyhow::Result<Option<PathBuf>> {
    let file = match &set.source {
        SourceConfig::Beir(beir) => Some(beir.qrels()),
        SourceConfig::Trec(trec) => trec.qrels.clone(),
        SourceConfig::RetrieveResults(results) => results.qrels.clone(),
        _ => None,
    };
    file.map(|file| hub::data_path(&file)).transpose()
}

/// A line for each evaluation that would be another one now: of other settings, weights, data or heads. What cannot be compared, because it is gone,
/// is told where it is needed.
#[must_use]
pub fn outdated(experiment: &Experiment<'_>) -> Vec<String> {
    let Some(config) = &experiment.config.evaluate else { return Vec::new() };
    let mut lines = Vec::new();
    for model in &config.models {
        let Some(folder) = subject::folder_on_disk(experiment, model) else { continue };
        let Ok(of_model) = of_model(experiment, model, &folder) else { continue };
        for set in &config.sets {
            let (stage, worked) = (stage_name(model, set), Cell::new(false));
            let sharing = Sharing { experiment, stage: stage.clone(), model, set, unit: "queries", worked };
            let of_model = &of_model;
            let one = One { experiment, config, model, set, folder: &folder, of_model, samples: &[], sharing };
            lines.extend(one.inputs().ok().and_then(|(_, inputs)| shown_as_it_was(experiment, &stage, &inputs)));
        }
    }
    lines
}

/// What has changed since a stage that evaluates was done, in words.
pub(super) fn shown_as_it_was(experiment: &Experiment<'_>, stage: &str, inputs: &Inputs) -> Option<String> {
    let Freshness::Changed(what) = stamp::freshness(&experiment.folder.stamp(stage), inputs) else { return None };
    let (what, file) = (what.join(", "), experiment.source.file.display());
    Some(format!(
        "{stage} was done before these changed: {what}; it is shown as it was (`monopass evaluate {file}` does it anew)"
    ))
}

fn write_tables(
    experiment: &Experiment<'_>,
    config: &EvaluateConfig,
    evaluations: &[SetEvaluation],
) -> anyhow::Result<Vec<Table>> {
    let folder = experiment.folder.tables();
    write_json(&folder.join(EVALUATIONS_FILE), &evaluations)?;
    let tables = tables_of(evaluations, config);
    tables.iter().try_for_each(|table| write_table(&folder, table, &config.table_formats))?;
    let is_empty = |kind: &RunTable| !tables.iter().any(|table| table.name == kind.name());
    let of_rankings = RunTable::ALL.into_iter().filter(|kind| *kind != RunTable::Answers);
    of_rankings.filter(is_empty).try_for_each(|kind| remove_table(&folder, kind.name(), &TableFormat::ALL))?;
    Ok(tables)
}

/// Writes a table as JSON, which other commands read, and in these formats; then takes away what an earlier run wrote in others.
pub(super) fn write_table(folder: &Path, table: &Table, formats: &[TableFormat]) -> anyhow::Result<()> {
    let mut formats = formats.to_vec();
    if !formats.contains(&TableFormat::Json) {
        formats.push(TableFormat::Json);
    }
    for format in &formats {
        let path = folder.join(format!("{}.{}", table.name, format.extension()));
        write_whole(&path, table.render(*format).as_bytes())?;
    }
    let others: Vec<TableFormat> = TableFormat::ALL.into_iter().filter(|format| !formats.contains(format)).collect();
    remove_table(folder, &table.name, &others)
}

/// A table that has no rows any more would tell of an earlier run.
fn remove_table(folder: &Path, name: &str, formats: &[TableFormat]) -> anyhow::Result<()> {
    for format in formats {
        let path = folder.join(format!("{name}.{}", format.extension()));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove `{}`", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The tables that have rows.
pub fn tables_of(evaluations: &[SetEvaluation], config: &EvaluateConfig) -> Vec<Table> {
    let mut tables = vec![
        results_table(evaluations, config),
        comparison_table(evaluations, config),
        fidelity_table(evaluations),
        cost_table(evaluations),
    ];
    tables.retain(|table| !table.rows.is_empty());
    tables
}
