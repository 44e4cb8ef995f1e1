//! Sources to parquet, one folder and card per data set.

use std::collections::BTreeSet;

use anyhow::Context as _;
use data::RankingSample;
use data::branched::{BranchedSetConfig, BranchedText};
use data::prepared::{Card, PreparedSet};
use data::sources::RankingSetConfig;

use super::Experiment;
use crate::failure::InputError;
use crate::hub;
use crate::stamp::{self, Inputs};

/// Name of a set's stage.
pub fn stage_name(set: &str) -> String {
    format!("prepare/{set}")
}

/// Prepares every set the experiment uses; several ranks share them out.
///
/// # Errors
/// When a source is missing or malformed, or a set comes out empty.
pub fn run(experiment: &Experiment<'_>) -> anyhow::Result<()> {
    let ranks = &experiment.ranks;
    let names: Vec<&str> = used_sets(experiment).into_iter().collect();
    let mut made = vec![0.0; names.len()];
    experiment.agree(prepare_share(experiment, &names, &mut made))?;
    let made = ranks.sum(&made)?;
    // Only rank 0 is heard: it tells what the others did.
    let others = names.iter().zip(&made).enumerate().filter(|(place, _)| place % ranks.world_size() != 0);
    for (place, (name, made)) in others.filter(|_| ranks.is_main()) {
        let stage = stage_name(name);
        if *made == 0.0 {
            tracing::info!("{stage}: unchanged, skipped");
            continue;
        }
        tracing::info!("{stage} (rank {})", place % ranks.world_size());
        tracing::info!("  {name}: {}", Card::read(&experiment.folder.set(name))?.report);
    }
    Ok(())
}

/// Every so-manieth set; `made` says of each whether it was made.
fn prepare_share(experiment: &Experiment<'_>, names: &[&str], made: &mut [f64]) -> anyhow::Result<()> {
    let (rank, step) = (experiment.ranks.rank(), experiment.ranks.world_size());
    let own = names.iter().zip(made).skip(rank).step_by(step);
    // All files are looked for before the first set is made.
    let planned = own.filter_map(|(name, made)| Some(Planned::of(experiment, name)?.map(|planned| (planned, made))));
    for (planned, made) in planned.collect::<anyhow::Result<Vec<_>>>()? {
        *made = f64::from(u8::from(planned.prepare(experiment)?));
    }
    Ok(())
}

/// A set with its files on this machine.
struct Planned<'a> {
    name: &'a str,
    set: PlannedSet,
}

enum PlannedSet {
    Lists(RankingSetConfig),
    Branched(BranchedSetConfig),
}

impl<'a> Planned<'a> {
    /// None when there is no set of that name.
    fn of(experiment: &Experiment<'_>, name: &'a str) -> Option<anyhow::Result<Self>> {
        let data = &experiment.config.data;
        let lists = data.sets.get(name).map(|set| located(experiment, name, set.clone()).map(PlannedSet::Lists));
        let set = lists.or_else(|| {
            data.branched.get(name).map(|set| located_branched(experiment, name, set.clone()).map(PlannedSet::Branched))
        });
        set.map(|set| set.map(|set| Self { name, set }))
    }

    /// Whether there was something to do.
    fn prepare(&self, experiment: &Experiment<'_>) -> anyhow::Result<bool> {
        let (name, stage) = (self.name, stage_name(self.name));
        forget_if_damaged(experiment, name)?;
        let inputs = self.inputs()?;
        if experiment.is_finished(&stage, &inputs)? {
            return Ok(false);
        }
        experiment.stamped(&stage, &inputs, || {
            let folder = experiment.folder.set(name);
            std::fs::create_dir_all(experiment.folder.root().join("data"))
                .with_context(|| format!("cannot make `{}`", folder.display()))?;
            let (card, section) = match &self.set {
                PlannedSet::Lists(set) => (data::prepared::prepare(name, set, &folder), "sets"),
                PlannedSet::Branched(set) => (data::prepared::prepare_branched(name, set, &folder), "branched"),
            };
            let card = card.with_context(|| experiment.place(&format!("data.{section}.{name}")))?;
            tracing::info!("  {name}: {}", card.report);
            Ok(vec![folder])
        })?;
        Ok(true)
    }

    fn inputs(&self) -> anyhow::Result<Inputs> {
        let mut inputs = Inputs::new();
        let (files, version) = match &self.set {
            PlannedSet::Lists(set) => {
                inputs.settings("settings", set)?;
                (set.files(), set.version())
            }
            PlannedSet::Branched(set) => {
                inputs.settings("settings", set)?;
                (set.files(), set.version())
            }
        };
        if version > 1 {
            inputs.settings("source's version", &version)?;
        }
        for file in files {
            inputs.path(&file.display().to_string(), &file)?;
        }
        Ok(inputs)
    }
}

/// A set whose samples were changed or cut short since is made anew; its models stand, as it comes out the same.
fn forget_if_damaged(experiment: &Experiment<'_>, name: &str) -> anyhow::Result<()> {
    let folder = experiment.folder.set(name);
    if !folder.exists() {
        return Ok(());
    }
    if let Err(error) = data::prepared::verified_card(&folder) {
        tracing::warn!("{error}; the set is made anew");
        stamp::remove(&experiment.folder.stamp(&stage_name(name)))?;
    }
    Ok(())
}

/// The sets that stages and evaluations name; all of them when there are neither.
fn used_sets<'a>(experiment: &'a Experiment<'_>) -> BTreeSet<&'a str> {
    let config = &experiment.config;
    let mut used: BTreeSet<&str> = config.stages().iter().flat_map(|stage| &stage.data.0).map(String::as_str).collect();
    used.extend(config.evaluation_sets());
    used.extend(
        config.heads.iter().flat_map(|heads| heads.train.0.iter().chain(&heads.validation.0)).map(String::as_str),
    );
    used.extend(config.answer.iter().flat_map(|answer| &answer.sets).map(String::as_str));
    if used.is_empty() {
        used.extend(config.data.sets.keys().chain(config.data.branched.keys()).map(String::as_str));
    }
    used
}

/// The set with files on this machine: hub addresses downloaded, missing files named with the line that names them.
fn located(experiment: &Experiment<'_>, name: &str, mut set: RankingSetConfig) -> anyhow::Result<RankingSetConfig> {
    let place = || experiment.place(&format!("data.sets.{name}.source"));
    set.strict |= experiment.config.data.strict;
    for path in set.paths_mut() {
        *path = hub::data_path(path).with_context(place)?;
    }
    exist(name, &set.files()).with_context(place)?;
    Ok(set)
}

/// As [`located`], of a branched set.
fn located_branched(
    experiment: &Experiment<'_>,
    name: &str,
    mut set: BranchedSetConfig,
) -> anyhow::Result<BranchedSetConfig> {
    let place = || experiment.place(&format!("data.branched.{name}.source"));
    set.strict |= experiment.config.data.strict;
    for path in set.paths_mut() {
        *path = hub::data_path(path).with_context(place)?;
    }
    exist(name, &set.files()).with_context(place)?;
    Ok(set)
}

fn exist(set: &str, files: &[std::path::PathBuf]) -> anyhow::Result<()> {
    let Some(missing) = files.iter().find(|file| !file.exists()) else { return Ok(()) };
    let hint = "check the path; relative paths start from the folder the command runs in";
    Err(InputError::new(format!("set `{set}`: there is no file `{}`", missing.display()), hint).into())
}

/// The samples of a prepared set.
///
/// # Errors
/// When the set was not prepared or is damaged.
pub fn samples(experiment: &Experiment<'_>, set: &str) -> anyhow::Result<Vec<RankingSample>> {
    rows(experiment, set)
}

/// The texts of a prepared branched set.
///
/// # Errors
/// As [`samples`].
pub fn texts(experiment: &Experiment<'_>, set: &str) -> anyhow::Result<Vec<BranchedText>> {
    rows(experiment, set)
}

fn rows<R: data::prepared::Record>(experiment: &Experiment<'_>, set: &str) -> anyhow::Result<Vec<R>> {
    Ok(open(experiment, set)?.samples()?)
}

/// A prepared set, its rows still on disk.
///
/// # Errors
/// As [`samples`].
pub fn open<R: data::prepared::Record>(experiment: &Experiment<'_>, set: &str) -> anyhow::Result<PreparedSet<R>> {
    let folder = experiment.folder.set(set);
    if !folder.exists() {
        return Err(InputError::new(
            format!("set `{set}` is not prepared: there is no `{}`", folder.display()),
            format!("`monopass prepare {}` prepares it", experiment.source.file.display()),
        )
        .into());
    }
    Ok(PreparedSet::open(&folder)?)
}
