//! Sources to parquet, one folder and card per data set.

use std::collections::BTreeSet;

use anyhow::Context as _;
use data::RankingSample;
use data::branched::{BranchedSetConfig, BranchedText};
use data::prepared::PreparedSet;
use data::sources::RankingSetConfig;

use super::Experiment;
use crate::failure::InputError;
use crate::hub;
use crate::stamp::{self, Inputs};

/// Name of a set's stage.
pub fn stage_name(set: &str) -> String {
    format!("prepare/{set}")
}

/// Prepares every set the experiment uses.
///
/// # Errors
/// When a source is missing or malformed, or a set comes out empty.
pub fn run(experiment: &Experiment<'_>) -> anyhow::Result<()> {
    let used = used_sets(experiment);
    let sets: Vec<(&str, RankingSetConfig)> = used
        .iter()
        .filter_map(|name| Some((*name, experiment.config.data.sets.get(*name)?.clone())))
        .map(|(name, set)| Ok((name, located(experiment, name, set)?)))
        .collect::<anyhow::Result<_>>()?;
    for (name, set) in &sets {
        forget_if_damaged(experiment, name)?;
        let mut inputs = Inputs::new();
        inputs.settings("settings", set)?;
        for file in set.files() {
            inputs.path(&file.display().to_string(), &file)?;
        }
        experiment.on_main(&stage_name(name), &inputs, || {
            let folder = experiment.folder.set(name);
            std::fs::create_dir_all(experiment.folder.root().join("data"))
                .with_context(|| format!("cannot make `{}`", folder.display()))?;
            let card = data::prepared::prepare(name, set, &folder)
                .with_context(|| experiment.place(&format!("data.sets.{name}")))?;
            tracing::info!("  {name}: {}", card.report);
            Ok(vec![folder])
        })?;
    }
    prepare_branched(experiment, &used)
}

fn prepare_branched(experiment: &Experiment<'_>, used: &BTreeSet<&str>) -> anyhow::Result<()> {
    for (name, set) in experiment.config.data.branched.iter().filter(|(name, _)| used.contains(name.as_str())) {
        let set = located_branched(experiment, name, set.clone())?;
        forget_if_damaged(experiment, name)?;
        let mut inputs = Inputs::new();
        inputs.settings("settings", &set)?;
        for file in set.files() {
            inputs.path(&file.display().to_string(), &file)?;
        }
        experiment.on_main(&stage_name(name), &inputs, || {
            let folder = experiment.folder.set(name);
            std::fs::create_dir_all(experiment.folder.root().join("data"))
                .with_context(|| format!("cannot make `{}`", folder.display()))?;
            let card = data::prepared::prepare_branched(name, &set, &folder)
                .with_context(|| experiment.place(&format!("data.branched.{name}")))?;
            tracing::info!("  {name}: {}", card.report);
            Ok(vec![folder])
        })?;
    }
    Ok(())
}

/// A set whose samples were changed or cut short since is made anew; its models stand, as it comes out the same.
fn forget_if_damaged(experiment: &Experiment<'_>, name: &str) -> anyhow::Result<()> {
    let folder = experiment.folder.set(name);
    if !experiment.ranks.is_main() || !folder.exists() {
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
