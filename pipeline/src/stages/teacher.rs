//! A model's own rankings of whole sets, and what heads learn from, collected by all ranks together.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use data::RankingSample;
use evaluator::EvaluatorError;
use evaluator::teacher::{Collected, TeacherJob, tree_key};
use model::one_pass::OnePassSettings;

use super::subject::{self, Subject};
use super::{Experiment, prepare, remove_folder, set_aside, trec_runs};
use crate::failure::Interrupted;
use crate::progress::SetProgress;
use crate::run_folder::file_name;
use crate::stamp::{self, Inputs};
use crate::write_whole::write_whole;

/// One model as a teacher of its heads.
pub struct Teacher<'a> {
    /// The experiment.
    pub experiment: &'a Experiment<'a>,
    /// Name of the model in `evaluate.models`.
    pub model: &'a str,
    /// Its folder.
    pub folder: PathBuf,
    /// Settings whose trees are read.
    pub trees: Vec<OnePassSettings>,
    /// Whether states are kept, which draft heads learn from.
    pub states: bool,
}

/// A set's queries and what everything collected of them depends on.
pub struct TeacherSet {
    /// Queries.
    pub samples: Vec<RankingSample>,
    /// Weights, prompt and data: not which trees were read, so that a head is trained anew for its own alone.
    pub inputs: Inputs,
}

impl Teacher<'_> {
    /// The model, loaded when it is needed first.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub fn load<'s>(&self, subject: &'s mut Option<Subject>) -> anyhow::Result<&'s Subject> {
        if subject.is_none() {
            *subject = Some(Subject::load(self.experiment, self.model, &self.folder)?);
        }
        Ok(subject.as_ref().expect("loaded above"))
    }

    fn job<'j>(&'j self, subject: &'j Subject, set: &str, of: &'j TeacherSet, folder: &'j Path) -> TeacherJob<'j> {
        debug_assert!(folder.ends_with(format!("{set}.{}", file_name(self.model))));
        let ranks = &self.experiment.ranks;
        TeacherJob {
            model: &subject.loaded.model,
            prompts: &subject.prompts,
            samples: &of.samples,
            trees: &self.trees,
            states: self.states,
            folder,
            rank: ranks.rank(),
            world_size: ranks.world_size(),
        }
    }

    fn folder_of(&self, set: &str) -> PathBuf {
        self.experiment.folder.teacher(self.model, set)
    }

    /// Collects the model's rankings of a set, on all ranks, unless it is done.
    ///
    /// # Errors
    /// When data or the model cannot be used, or a signal came (finished parts are then kept).
    pub fn of_set(&self, set: &str, subject: &mut Option<Subject>) -> anyhow::Result<TeacherSet> {
        let experiment = self.experiment;
        let samples = prepare::samples(experiment, set)?;
        let mut inputs = subject::inputs(experiment, self.model, &self.folder)?;
        subject::add_prompt(&mut inputs, experiment, self.model, &self.folder)?;
        inputs.hash("data", experiment.stamp_hash(&prepare::stage_name(set))?);
        inputs.settings("context", &experiment.config.model.context_length)?;
        let of_set = TeacherSet { samples, inputs };
        // A tree more is another stage to do, and not another folder: what is there stays.
        let mut asked = of_set.inputs.clone();
        let keys: BTreeSet<String> = self.trees.iter().map(tree_key).collect();
        asked.settings("pieces", &(keys, self.states))?;
        let name = format!("teacher/{}/{set}", file_name(self.model));
        let finished = experiment.ranks.is_main() && experiment.is_finished(&name, &asked)?;
        if experiment.ranks.from_main(f64::from(u8::from(finished)))? > 0.0 {
            return Ok(of_set);
        }
        let folder = self.folder_of(set);
        let begun = if experiment.ranks.is_main() { begin(&folder, &of_set.inputs, experiment.force) } else { Ok(()) };
        experiment.agree(begun)?;
        let subject = self.load(subject)?;
        let job = self.job(subject, set, &of_set, &folder);
        // The parts of all ranks are on disk once each of them has come here; one that failed does not leave the others waiting.
        experiment.agree(self.collect(&job, &name))?;
        let rankings = experiment.folder.rankings(self.model, set);
        let done = || {
            let mut written = vec![folder.clone(), rankings.clone()];
            written.extend(write_rankings(&job, &rankings)?);
            stamp::write(&experiment.folder.stamp(&name), &asked, &written)
        };
        experiment.agree(if experiment.ranks.is_main() { done() } else { Ok(()) })?;
        Ok(of_set)
    }

    fn collect(&self, job: &TeacherJob, name: &str) -> anyhow::Result<()> {
        let mut progress = SetProgress::new(&format!("  {name}"), "lists");
        let collected = job.collect(&mut |done, total| {
            progress.show(done, total);
            if self.experiment.stop.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match collected {
            Err(EvaluatorError::Interrupted) => {
                let saved = format!("{name}: finished parts are kept; the same command goes on from there");
                Err(Interrupted { saved }.into())
            }
            other => other.with_context(|| name.to_owned()),
        }
    }

    /// This one as a head needs it: of all that was collected, its own tree or the states.
    #[must_use]
    pub fn with_pieces(&self, trees: Vec<OnePassSettings>, states: bool) -> Self {
        Self { experiment: self.experiment, model: self.model, folder: self.folder.clone(), trees, states }
    }

    /// What was collected of several sets, end to end.
    ///
    /// # Errors
    /// A part that is missing or damaged.
    pub fn together(
        &self,
        names: &[String],
        of_sets: &[(&str, TeacherSet)],
        subject: &Subject,
    ) -> anyhow::Result<Collected> {
        let mut all: Option<Collected> = None;
        for name in names {
            let (set, of) = of_sets.iter().find(|(set, _)| set == name).context("every set was collected")?;
            let folder = self.folder_of(set);
            let next = self.job(subject, set, of, &folder).read()?;
            all = Some(match all {
                None => next,
                Some(before) => before.and(next),
            });
        }
        all.context("no set to learn from")
    }
}

/// Puts parts of other inputs aside, and says so, so that only what fits is gone on with: they may have taken hours.
fn begin(folder: &Path, inputs: &Inputs, force: bool) -> anyhow::Result<()> {
    if force {
        remove_folder(folder)?;
    }
    let marker = folder.join("inputs");
    let digest = inputs.digest();
    if fs::read_to_string(&marker).ok().as_deref() != Some(digest.as_str()) {
        let parts = fs::read_dir(folder).map_or(0, |entries| {
            entries.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "safetensors")).count()
        });
        if parts > 0 {
            let aside = set_aside(folder)?;
            tracing::warn!(
                "`{}` holds {parts} files of another model, prompt, data or precision: they are not used, and kept in `{}` until the next such change",
                folder.display(),
                aside.display()
            );
        }
        remove_folder(folder)?;
    }
    write_whole(&marker, digest.as_bytes())
}

/// Also as a TREC run, which another experiment can take as its `target`; what was written of it.
fn write_rankings(job: &TeacherJob, path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let above = path.parent().expect("a file of the run");
    fs::create_dir_all(above).with_context(|| format!("cannot make `{}`", above.display()))?;
    // The orders alone: trees and states of a set may take gigabytes.
    let records = TeacherJob { trees: &[], states: false, ..*job }.read()?.records;
    data::prepared::write_rankings(path, &records)?;
    let decoders: BTreeSet<String> = records.iter().map(|record| record.decoder.clone()).collect();
    trec_runs::write(path, &decoders.into_iter().collect::<Vec<_>>(), job.samples, &records)
}
