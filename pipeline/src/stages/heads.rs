//! Heads on frozen models: the model's own rankings first, then a head for each decoder that needs one.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Context as _;
use evaluator::decode::NeededHead;
use evaluator::teacher::{Collected, TreeRows, candidates_per_list, tree_key};
use model::blockwise::BlockwiseHeads;
use model::draft_heads::{DraftHeads, identifier_rows};
use model::head_folder::HeadCard;
use model::medusa::MedusaHeads;
use model::one_pass::{OnePassSettings, Scorer};
use tch::{Device, Tensor};
use trainer::TrainError;
use trainer::heads::{HeadProgress, OnePassLists, StateTable, train_draft_heads, train_one_pass};

use super::subject::{self, Subject};
use super::teacher::{Teacher, TeacherSet};
use super::{Experiment, replace_folder};
use crate::config::heads::HeadsSection;
use crate::failure::{InputError, Interrupted};
use crate::model_source::ModelNote;
use crate::progress::SetProgress;
use crate::run_folder::file_name;
use crate::stamp::{self, Inputs};

/// Name of a head's stage.
pub fn stage_name(model: &str, head: &NeededHead) -> String {
    format!("head/{}/{}", file_name(model), head.name())
}

/// Trains the heads that the evaluated decoders need, for every evaluated model.
///
/// # Errors
/// When data or models cannot be used, or a signal came (finished parts are then kept).
pub fn run(experiment: &Experiment<'_>) -> anyhow::Result<()> {
    let (Some(section), Some(evaluate)) = (&experiment.config.heads, &experiment.config.evaluate) else {
        return Ok(());
    };
    let needed: BTreeSet<NeededHead> = evaluate.decoders.iter().filter_map(|kind| kind.head()).collect();
    for model in &evaluate.models {
        let teacher = Teacher {
            experiment,
            model,
            folder: subject::folder_of(experiment, model)?,
            trees: needed.iter().filter_map(tree_of).collect(),
            states: needed.iter().any(|head| tree_of(head).is_none()),
        };
        let work = Work { experiment, section, teacher, needed: &needed, weights: OnceCell::new() };
        let mut subject = None;
        let mut of_sets = Vec::new();
        for set in work.sets() {
            of_sets.push((set, work.teacher.of_set(set, &mut subject)?));
        }
        let trained = if experiment.ranks.is_main() { work.train(&of_sets, &mut subject) } else { Ok(()) };
        experiment.agree(trained)?;
    }
    Ok(())
}

/// Says which heads were trained by other settings than the present ones.
pub fn warn_of_other_settings(experiment: &Experiment<'_>) {
    let (Some(section), Some(evaluate)) = (&experiment.config.heads, &experiment.config.evaluate) else { return };
    let needed: BTreeSet<NeededHead> = evaluate.decoders.iter().filter_map(|kind| kind.head()).collect();
    for (model, head) in evaluate.models.iter().flat_map(|model| needed.iter().map(move |head| (model, head))) {
        let mut inputs = Inputs::default();
        if add_settings(&mut inputs, experiment, section, head).is_err() {
            continue;
        }
        let stage = stage_name(model, head);
        let changed = stamp::changed(&experiment.folder.stamp(&stage), &inputs);
        if !changed.is_empty() {
            let file = experiment.source.file.display();
            let what = changed.join(", ");
            tracing::warn!(
                "{stage} was trained before these changed: {what}; it is used as it is (`monopass train {file}` trains it anew)"
            );
        }
    }
}

/// Settings that a head depends on.
fn add_settings(
    inputs: &mut Inputs,
    experiment: &Experiment<'_>,
    section: &HeadsSection,
    head: &NeededHead,
) -> anyhow::Result<()> {
    inputs.settings("roles", &(&section.train, &section.validation))?;
    inputs.settings("head", &(head.method(), head.settings()))?;
    inputs.settings("seed", &experiment.config.seed)?;
    match head {
        NeededHead::OnePass(_) => inputs.settings("settings", &section.one_pass),
        _ => inputs.settings("settings", &section.draft),
    }
}

/// What a head of ONE-PASS reads; the other heads learn from states.
fn tree_of(head: &NeededHead) -> Option<OnePassSettings> {
    match head {
        NeededHead::OnePass(settings) => Some(*settings),
        _ => None,
    }
}

/// One model's heads.
struct Work<'a> {
    experiment: &'a Experiment<'a>,
    section: &'a HeadsSection,
    teacher: Teacher<'a>,
    needed: &'a BTreeSet<NeededHead>,
    /// Digest of the model's weights: reading them all for each head takes minutes of a large model.
    weights: OnceCell<String>,
}

impl Work<'_> {
    fn sets(&self) -> Vec<&str> {
        let mut sets: Vec<&str> = Vec::new();
        for set in self.section.train.0.iter().chain(&self.section.validation.0) {
            if !sets.contains(&set.as_str()) {
                sets.push(set);
            }
        }
        sets
    }

    fn train(&self, of_sets: &[(&str, TeacherSet)], subject: &mut Option<Subject>) -> anyhow::Result<()> {
        for head in self.needed {
            self.experiment.stop.check()?;
            let name = stage_name(self.teacher.model, head);
            let mut inputs = Inputs::new();
            for (set, of) in of_sets {
                inputs.hash(&format!("teacher {set}"), of.inputs.digest());
            }
            add_settings(&mut inputs, self.experiment, self.section, head)?;
            if self.experiment.is_finished(&name, &inputs)? {
                continue;
            }
            let subject = self.teacher.load(subject)?;
            let folder = self.experiment.folder.head(self.teacher.model, &head.name());
            self.train_one(head, of_sets, subject, &folder).with_context(|| name.clone())?;
            stamp::write(&self.experiment.folder.stamp(&name), &inputs, &[folder])?;
        }
        Ok(())
    }

    fn train_one(
        &self,
        head: &NeededHead,
        of_sets: &[(&str, TeacherSet)],
        subject: &Subject,
        folder: &Path,
    ) -> anyhow::Result<()> {
        let n = candidates_per_list("train", &of_sets[0].1.samples)?;
        let seed = self.experiment.config.seed;
        // Trees of other heads may take gigabytes.
        let (trees, states) = tree_of(head).map_or((Vec::new(), true), |tree| (vec![tree], false));
        let own = self.teacher.with_pieces(trees, states);
        let train = own.together(&self.section.train.0, of_sets, subject)?;
        let validation = own.together(&self.section.validation.0, of_sets, subject)?;
        let weights = match head {
            NeededHead::OnePass(settings) => self.train_one_pass(head, *settings, &train, &validation)?,
            NeededHead::Blockwise => {
                let rows = identifier_rows(&subject.loaded.model, &identifiers(subject, n)?);
                let heads =
                    BlockwiseHeads::new(&rows, BlockwiseHeads::default_num_heads(n), BlockwiseHeads::BOTTLENECK, seed);
                self.train_draft(head, &heads, &train, &validation)?
            }
            NeededHead::Medusa { num_heads } => {
                let rows = identifier_rows(&subject.loaded.model, &identifiers(subject, n)?);
                self.train_draft(head, &MedusaHeads::new(&rows, *num_heads), &train, &validation)?
            }
        };
        let card = card(head, n, &weights_of(&self.weights, &self.teacher.folder)?, &subject.prompts.hash());
        let above = folder.parent().expect("a head's folder is below the run's");
        fs::create_dir_all(above).with_context(|| format!("cannot make `{}`", above.display()))?;
        replace_folder(folder, |partial| Ok(model::head_folder::save(partial, &card, &weights)?))
    }

    /// Shows how far a head is, and breaks off after a signal.
    fn watch(&self, head: &NeededHead, metric: &'static str) -> impl FnMut(HeadProgress) -> ControlFlow<()> + use<'_> {
        let mut progress = SetProgress::new(&format!("  {}", stage_name(self.teacher.model, head)), "steps");
        move |now| {
            progress.measured(format!("{metric} {:.4}", now.validation));
            progress.show(now.step, now.steps);
            if self.experiment.stop.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }

    /// A stop on request as what it is.
    fn told<T>(&self, head: &NeededHead, result: Result<T, TrainError>) -> anyhow::Result<T> {
        match result {
            Err(TrainError::Stopped) => {
                let name = stage_name(self.teacher.model, head);
                let saved = format!("{name} begins anew; what it learns from and the heads before it are kept");
                Err(Interrupted { saved }.into())
            }
            other => Ok(other?),
        }
    }

    fn train_one_pass(
        &self,
        head: &NeededHead,
        settings: OnePassSettings,
        train: &Collected,
        validation: &Collected,
    ) -> anyhow::Result<Vec<(String, Tensor)>> {
        let key = tree_key(&settings);
        let (train, validation) = (&train.trees[&key], &validation.trees[&key]);
        let scorer = Scorer::new(train.orders[0].len(), settings, Device::Cpu)?;
        let trained = train_one_pass(
            &scorer,
            &lists_of(train),
            &lists_of(validation),
            &self.section.one_pass,
            self.experiment.config.seed,
            &mut self.watch(head, "pairs kept on validation"),
        );
        let (trained, report) = self.told(head, trained)?;
        let scores = &report.validation;
        tracing::info!(
            "  {} lists, {:.1} s; pairs kept on validation: {:.4} untrained, {:.4} after {} {} of {}",
            train.orders.len(),
            report.seconds,
            scores[0],
            scores[report.best_look],
            if self.section.one_pass.eval_every.is_some() { "look" } else { "epoch" },
            report.best_look,
            scores.len() - 1
        );
        Ok(trained.named_tensors())
    }

    fn train_draft(
        &self,
        head: &NeededHead,
        heads: &dyn DraftHeads,
        train: &Collected,
        validation: &Collected,
    ) -> anyhow::Result<Vec<(String, Tensor)>> {
        let table = |of: &Collected| -> anyhow::Result<StateTable> {
            let orders: Vec<i64> =
                of.records.iter().flat_map(|record| record.order.iter().map(|c| i64::from(*c))).collect();
            let orders = Tensor::from_slice(&orders).view([of.records.len() as i64, -1]);
            let states = of.states.as_ref().context("the states were not collected")?.shallow_clone();
            Ok(StateTable { states, orders })
        };
        let report = train_draft_heads(
            heads,
            &table(train)?,
            &table(validation)?,
            &self.section.draft,
            self.experiment.config.seed,
            &mut self.watch(head, "loss on validation"),
        );
        let report = self.told(head, report)?;
        let accuracy: Vec<String> = report.top1_accuracy.iter().flatten().map(|a| format!("{a:.2}")).collect();
        tracing::info!(
            "  {} lists, {:.1} s; best after epoch {} of {}; right first guesses by head: {}",
            train.records.len(),
            report.seconds,
            report.best_epoch,
            report.epochs,
            accuracy.join(" ")
        );
        Ok(heads.named_tensors())
    }
}

fn lists_of(rows: &TreeRows) -> OnePassLists<'_> {
    OnePassLists { probabilities: &rows.probabilities, orders: &rows.orders }
}

/// Tokens of the identifiers of lists of `n`.
fn identifiers(subject: &Subject, n: usize) -> anyhow::Result<Vec<i64>> {
    let mut tokens = subject.prompts.single_identifier_tokens();
    if tokens.len() < n {
        let text = format!("lists have {n} candidates, but only {} identifiers are one token each", tokens.len());
        return Err(InputError::new(text, "write `identifiers: alphabetic` in `data.prompt`, or shorter lists").into());
    }
    tokens.truncate(n);
    Ok(tokens)
}

/// Digest of a model's weights, an adapter's base included, read once.
///
/// # Errors
/// When they cannot be read.
pub fn weights_of(known: &OnceCell<String>, model_folder: &Path) -> anyhow::Result<String> {
    if let Some(digest) = known.get() {
        return Ok(digest.clone());
    }
    let mut weights = Inputs(ModelNote::hash_weights(model_folder)?);
    if let Some(base) = model::folder::base_of(model_folder)? {
        weights.settings("base", &ModelNote::hash_weights(&base)?)?;
    }
    Ok(known.get_or_init(|| weights.digest()).clone())
}

/// What a head belongs to; `weights` as [`weights_of`].
#[must_use]
pub fn card(head: &NeededHead, n: usize, weights: &str, prompt_hash: &str) -> HeadCard {
    HeadCard {
        method: head.method().to_owned(),
        num_candidates: n,
        model: weights.to_owned(),
        prompt: prompt_hash.to_owned(),
        settings: head.settings(),
    }
}
