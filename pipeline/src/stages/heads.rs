//! Heads on frozen models: the model's own rankings first, then a head for each decoder that needs one.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use data::RankingSample;
use evaluator::EvaluatorError;
use evaluator::decode::NeededHead;
use evaluator::teacher::{Collected, TeacherJob, candidates_per_list, tree_key};
use model::blockwise::BlockwiseHeads;
use model::draft_heads::{DraftHeads, identifier_rows};
use model::head_folder::HeadCard;
use model::medusa::MedusaHeads;
use model::one_pass::{OnePassSettings, Scorer};
use tch::{Device, Tensor};
use trainer::heads::{OnePassLists, StateTable, train_draft_heads, train_one_pass};

use super::subject::{self, Subject};
use super::{Experiment, prepare, remove_folder, replace_folder};
use crate::config::heads::HeadsSection;
use crate::failure::{InputError, Interrupted};
use crate::model_source::ModelNote;
use crate::progress::QueryProgress;
use crate::stamp::{self, Inputs};
use crate::write_whole::write_whole;

/// Name of a head's stage.
pub fn stage_name(model: &str, head: &NeededHead) -> String {
    format!("head/{}/{}", subject::file_name(model), head.name())
}

/// Trains the heads that the evaluated decoders need, for every evaluated model.
///
/// # Errors
/// When data or models cannot be used, or a signal came (finished parts are then kept).
pub fn run(experiment: &Experiment<'_>) -> anyhow::Result<()> {
    let (Some(section), Some(evaluate)) = (&experiment.config.heads, &experiment.config.evaluate) else {
        return Ok(());
    };
    check_lengths(experiment, section)?;
    let needed: BTreeSet<NeededHead> = evaluate.decoders.iter().filter_map(|kind| kind.head()).collect();
    for model in &evaluate.models {
        let folder = subject::folder_of(experiment, model)?;
        let work = Work { experiment, section, model, folder, needed: needed.iter().cloned().collect() };
        let mut subject = None;
        let mut of_sets = Vec::new();
        for set in work.sets() {
            of_sets.push((set, work.teacher(set, &mut subject)?));
        }
        let trained = if experiment.ranks.is_main() { work.train(&of_sets, &mut subject) } else { Ok(()) };
        experiment.agree(trained)?;
    }
    Ok(())
}

/// Heads learn for one number of candidates.
fn check_lengths(experiment: &Experiment<'_>, section: &HeadsSection) -> anyhow::Result<()> {
    let mut first: Option<(&str, usize)> = None;
    for set in section.train.0.iter().chain(&section.validation.0) {
        let n =
            candidates_per_list(set, &prepare::samples(experiment, set)?).with_context(|| experiment.place("heads"))?;
        let (other, wanted) = *first.get_or_insert((set, n));
        if n != wanted {
            let text = format!("lists of `{other}` have {wanted} candidates, those of `{set}` have {n}");
            let hint = "heads learn for one number of candidates: set `exact_candidates`";
            return Err(InputError::new(text, hint)).with_context(|| experiment.place("heads"));
        }
    }
    Ok(())
}

/// One model's heads.
struct Work<'a> {
    experiment: &'a Experiment<'a>,
    section: &'a HeadsSection,
    model: &'a str,
    folder: PathBuf,
    needed: Vec<NeededHead>,
}

/// A set's queries and the hash of what was collected of them.
struct TeacherSet {
    samples: Vec<RankingSample>,
    inputs: Inputs,
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

    fn trees(&self) -> Vec<OnePassSettings> {
        let settings = |head: &NeededHead| match head {
            NeededHead::OnePass(settings) => Some(*settings),
            _ => None,
        };
        self.needed.iter().filter_map(settings).collect()
    }

    /// Whether draft heads are needed, which learn from states.
    fn states(&self) -> bool {
        self.needed.iter().any(|head| !matches!(head, NeededHead::OnePass(_)))
    }

    fn load<'s>(&self, subject: &'s mut Option<Subject>) -> anyhow::Result<&'s Subject> {
        if subject.is_none() {
            *subject = Some(Subject::load(self.experiment, self.model, &self.folder)?);
        }
        Ok(subject.as_ref().expect("loaded above"))
    }

    fn job<'j>(
        &'j self,
        subject: &'j Subject,
        set: &str,
        of: &'j TeacherSet,
        trees: &'j [OnePassSettings],
        folder: &'j Path,
    ) -> TeacherJob<'j> {
        debug_assert!(folder.ends_with(format!("{set}.{}", subject::file_name(self.model))));
        let ranks = &self.experiment.ranks;
        TeacherJob {
            model: &subject.loaded.model,
            prompts: &subject.prompts,
            samples: &of.samples,
            trees,
            states: self.states(),
            folder,
            rank: ranks.rank(),
            world_size: ranks.world_size(),
        }
    }

    fn teacher_folder(&self, set: &str) -> PathBuf {
        self.experiment.folder.teacher(&subject::file_name(self.model), set)
    }

    /// Collects the model's rankings of a set, on all ranks, unless it is done.
    fn teacher(&self, set: &str, subject: &mut Option<Subject>) -> anyhow::Result<TeacherSet> {
        let experiment = self.experiment;
        let samples = prepare::samples(experiment, set)?;
        let mut inputs = subject::inputs(experiment, self.model, &self.folder)?;
        inputs.hash("data", experiment.stamp_hash(&prepare::stage_name(set))?);
        let keys: BTreeSet<String> = self.trees().iter().map(tree_key).collect();
        inputs.settings("collected", &(keys, self.states()))?;
        inputs.settings("context", &experiment.config.model.context_length)?;
        let of_set = TeacherSet { samples, inputs };
        let name = format!("teacher/{}/{set}", subject::file_name(self.model));
        let finished = experiment.ranks.is_main() && experiment.is_finished(&name, &of_set.inputs)?;
        if experiment.ranks.from_main(f64::from(u8::from(finished)))? > 0.0 {
            return Ok(of_set);
        }
        let folder = self.teacher_folder(set);
        let begun = if experiment.ranks.is_main() { begin(&folder, &of_set.inputs) } else { Ok(()) };
        experiment.agree(begun)?;
        let subject = self.load(subject)?;
        let trees = self.trees();
        let job = self.job(subject, set, &of_set, &trees, &folder);
        self.collect(&job, &name)?;
        // The parts of all ranks are on disk once each of them has come here.
        experiment.ranks.barrier()?;
        let rankings = experiment.folder.rankings(&subject::file_name(self.model), set);
        let written = if experiment.ranks.is_main() { write_rankings(&job, &rankings) } else { Ok(()) };
        experiment.agree(written)?;
        if experiment.ranks.is_main() {
            stamp::write(&experiment.folder.stamp(&name), &of_set.inputs, &[folder.clone(), rankings])?;
        }
        Ok(of_set)
    }

    fn collect(&self, job: &TeacherJob, name: &str) -> anyhow::Result<()> {
        let mut progress = QueryProgress::new(&format!("  {name}"));
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

    fn train(&self, of_sets: &[(&str, TeacherSet)], subject: &mut Option<Subject>) -> anyhow::Result<()> {
        for head in &self.needed {
            self.experiment.stop.check()?;
            let name = stage_name(self.model, head);
            let mut inputs = Inputs::new();
            for (set, of) in of_sets {
                inputs.hash(&format!("teacher {set}"), of.inputs.digest());
            }
            inputs.settings("roles", &(&self.section.train, &self.section.validation))?;
            inputs.settings("head", &(head.method(), head.settings()))?;
            inputs.settings("seed", &self.experiment.config.seed)?;
            match head {
                NeededHead::OnePass(_) => inputs.settings("settings", &self.section.one_pass)?,
                _ => inputs.settings("settings", &self.section.draft)?,
            }
            if self.experiment.is_finished(&name, &inputs)? {
                continue;
            }
            let subject = self.load(subject)?;
            let folder = self.experiment.folder.head(&subject::file_name(self.model), &head.name());
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
        let train = self.together(&self.section.train.0, of_sets, subject)?;
        let validation = self.together(&self.section.validation.0, of_sets, subject)?;
        let weights = match head {
            NeededHead::OnePass(settings) => {
                let scorer = Scorer::new(n, *settings, Device::Cpu)?;
                let key = tree_key(settings);
                let lists =
                    |of: &'_ Collected| (of.trees[&key].probabilities.shallow_clone(), of.trees[&key].orders.clone());
                let ((p, orders), (vp, vorders)) = (lists(&train), lists(&validation));
                let train = OnePassLists { probabilities: &p, orders: &orders };
                let validation = OnePassLists { probabilities: &vp, orders: &vorders };
                let (head, report) = train_one_pass(&scorer, &train, &validation, &self.section.one_pass, seed)?;
                let scores = &report.validation;
                tracing::info!(
                    "  {} lists, {:.1} s; pairs kept on validation: {:.4} untrained, {:.4} after epoch {} of {}",
                    orders.len(),
                    report.seconds,
                    scores[0],
                    scores[report.best_epoch],
                    report.best_epoch,
                    scores.len() - 1
                );
                head.named_tensors()
            }
            NeededHead::Blockwise => {
                let rows = identifier_rows(&subject.loaded.model, &identifiers(subject, n)?);
                let heads =
                    BlockwiseHeads::new(&rows, BlockwiseHeads::default_num_heads(n), BlockwiseHeads::BOTTLENECK, seed);
                self.train_draft(&heads, &train, &validation)?
            }
            NeededHead::Medusa { num_heads } => {
                let rows = identifier_rows(&subject.loaded.model, &identifiers(subject, n)?);
                self.train_draft(&MedusaHeads::new(&rows, *num_heads), &train, &validation)?
            }
        };
        let card = card(head, n, &self.folder, &subject.prompts.hash())?;
        let above = folder.parent().expect("a head's folder is below the run's");
        fs::create_dir_all(above).with_context(|| format!("cannot make `{}`", above.display()))?;
        replace_folder(folder, |partial| Ok(model::head_folder::save(partial, &card, &weights)?))
    }

    fn train_draft(
        &self,
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
        )?;
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

    /// What was collected of several sets, end to end.
    fn together(
        &self,
        names: &[String],
        of_sets: &[(&str, TeacherSet)],
        subject: &Subject,
    ) -> anyhow::Result<Collected> {
        let trees = self.trees();
        let mut all: Option<Collected> = None;
        for name in names {
            let (set, of) = of_sets.iter().find(|(set, _)| set == name).context("every set was collected")?;
            let folder = self.teacher_folder(set);
            let next = self.job(subject, set, of, &trees, &folder).read()?;
            all = Some(match all {
                None => next,
                Some(before) => before.and(next),
            });
        }
        all.context("no set to learn from")
    }
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

/// Clears parts of other inputs, so that only what fits is gone on with.
fn begin(folder: &Path, inputs: &Inputs) -> anyhow::Result<()> {
    let marker = folder.join("inputs");
    let digest = inputs.digest();
    if fs::read_to_string(&marker).ok().as_deref() != Some(digest.as_str()) {
        remove_folder(folder)?;
    }
    write_whole(&marker, digest.as_bytes())
}

fn write_rankings(job: &TeacherJob, path: &Path) -> anyhow::Result<()> {
    let above = path.parent().expect("a file of the run");
    fs::create_dir_all(above).with_context(|| format!("cannot make `{}`", above.display()))?;
    Ok(data::prepared::write_rankings(path, &job.read()?.records)?)
}

/// What a head belongs to.
///
/// # Errors
/// When the model's weights cannot be read.
pub fn card(head: &NeededHead, n: usize, model_folder: &Path, prompt_hash: &str) -> anyhow::Result<HeadCard> {
    let weights = Inputs(ModelNote::hash_weights(model_folder)?);
    Ok(HeadCard {
        method: head.method().to_owned(),
        num_candidates: n,
        model: weights.digest(),
        prompt: prompt_hash.to_owned(),
        settings: head.settings(),
    })
}
