//! Where ranking samples come from.
//!
//! [`RankingSetConfig`] is what a user writes; [`for_each_sample`] streams the samples through the options common to
//! all sources, [`load`] collects them, [`crate::prepared::prepare`] writes them as parquet.

mod beir;
mod catalogue;
mod conversations;
mod documents;
mod generated;
mod jsonl;
mod kinds;
mod movielens;
mod next_item;
mod passages;
mod quora;
mod retrieve_results;
mod sink;
mod split;
mod squad;
mod trec;
mod tsv;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use beir::BeirConfig;
pub use conversations::{BrokenResponse, ConversationsConfig, parse_prompt};
pub use generated::{GeneratedConfig, GeneratedPart};
pub use jsonl::{JsonlConfig, write_jsonl};
pub use kinds::SourceConfig;
pub use movielens::MovielensConfig;
pub use next_item::NextItemConfig;
pub use quora::QuoraConfig;
pub use retrieve_results::RetrieveResultsConfig;
pub use split::{SplitConfig, SplitPart};
pub use squad::{GoldMissing, SquadConfig, SquadPart, SquadPool};
pub use trec::TrecConfig;

pub(crate) use sink::Sink;

use crate::report::SetReport;
use crate::{DataError, RankingSample};

/// One ranking data set: a source and what to keep of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RankingSetConfig {
    /// Where the samples come from: one key naming the kind, with its settings.
    pub source: SourceConfig,
    /// Candidates kept per query, best of the first stage first. Default: all.
    #[serde(default)]
    pub top_k: Option<usize>,
    /// Candidates a query must have at least, after `top_k`. Default: 1 (training on single passages teaches nothing; use 2).
    #[serde(default = "one")]
    pub min_candidates: usize,
    /// Lists with at least this many candidates, cut to it, after `top_k`; shorter ones are left out. Default: off.
    // This and `split` are left out of what is written when unset, so that sets prepared before they existed hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact_candidates: Option<usize>,
    /// Which part of the rows that the filters leave is used: the last rows are the test, those before them validation,
    /// the others training. Default: all rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitConfig>,
    /// Queries kept at most, of those of the `split`. Default: all.
    #[serde(default)]
    pub max_queries: Option<usize>,
    /// Which queries `max_queries` keeps: the first, or a random sample that keeps their order. Default: `first`.
    #[serde(default)]
    pub select: Selection,
    /// Shuffle every candidate list once, when the set is made. Default: off (first-stage order).
    #[serde(default)]
    pub shuffle_candidates: Option<ShuffleConfig>,
    /// Where target orders come from. Default: `auto`.
    #[serde(default)]
    pub target: TargetConfig,
    /// Leave out queries without a target order (needed for training). Default: false.
    #[serde(default)]
    pub require_target: bool,
    /// Make a malformed row an error instead of counting it. Default: false.
    #[serde(default)]
    pub strict: bool,
}

impl RankingSetConfig {
    /// True when queries with candidates may be missing because these settings leave them out, so that a missing query is no failure of
    /// the first stage.
    #[must_use]
    pub fn leaves_queries_out(&self) -> bool {
        self.max_queries.is_some()
            || self.split.is_some()
            || self.exact_candidates.is_some()
            || self.min_candidates > 1
            || self.require_target
    }
}

fn one() -> usize {
    1
}

/// Seeded shuffling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShuffleConfig {
    /// Any integer.
    pub seed: u64,
}

/// Which queries a limit keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// The first ones of the source.
    #[default]
    First,
    /// A uniform sample, in the source's order.
    Random(ShuffleConfig),
}

/// Where the target order of a sample comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetConfig {
    /// The source's own order (a response, a `target` field), else the labels when any is above 0.
    #[default]
    Auto,
    /// Highest label first, equal labels in first-stage order.
    Labels,
    /// The order of a teacher's TREC run.
    TeacherRun(TeacherRunConfig),
    /// No target.
    None,
}

/// A teacher's ranking of the same candidates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TeacherRunConfig {
    /// TREC run (`.gz` works). Candidates it does not rank come last, in first-stage order, and are counted.
    pub path: PathBuf,
}

impl RankingSetConfig {
    /// A source with no options.
    #[must_use]
    pub fn new(source: SourceConfig) -> Self {
        Self {
            source,
            top_k: None,
            min_candidates: 1,
            exact_candidates: None,
            split: None,
            max_queries: None,
            select: Selection::First,
            shuffle_candidates: None,
            target: TargetConfig::Auto,
            require_target: false,
            strict: false,
        }
    }

    /// Every path in the settings, the teacher's run included.
    pub fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        let mut paths = self.source.paths_mut();
        if let TargetConfig::TeacherRun(teacher) = &mut self.target {
            paths.push(&mut teacher.path);
        }
        paths
    }

    /// Every file that decides the samples.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = self.source.files();
        if let TargetConfig::TeacherRun(teacher) = &self.target {
            files.push(teacher.path.clone());
        }
        files
    }

    /// Raised where a source makes other samples of the same files than before: sets are made anew, and those that learned from them.
    #[must_use]
    pub fn version(&self) -> u32 {
        match self.source {
            // Targets by the first stage's scores; labels as data frames write them.
            SourceConfig::Quora(_) => 3,
            // Names without HTML entities; without the query itself and unjudged queries; a paragraph that stands twice.
            SourceConfig::NextItem(_) | SourceConfig::Beir(_) | SourceConfig::Squad(_) => 2,
            _ => 1,
        }
    }

    /// Everything wrong with the settings, one line each; empty when all is well. Opens no file.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = self.source.problems();
        if self.top_k == Some(0) {
            problems.push("`top_k` is 0: no candidate would be left; leave it out or give at least 1".to_owned());
        }
        if self.max_queries == Some(0) {
            problems.push("`max_queries` is 0: no query would be left; leave it out or give at least 1".to_owned());
        }
        if let Some(top_k) = self.top_k.filter(|top_k| *top_k < self.min_candidates) {
            problems.push(format!("`min_candidates` {} is more than `top_k` {top_k} leaves", self.min_candidates));
        }
        if let Some(exact) = self.exact_candidates {
            problems.extend(self.exact_problems(exact));
        }
        problems.extend(self.split.iter().flat_map(SplitConfig::problems));
        if self.require_target && self.target == TargetConfig::None {
            problems.push("`require_target` with `target: none` drops every query".to_owned());
        }
        problems
    }

    fn exact_problems(&self, exact: usize) -> Vec<String> {
        let mut problems = Vec::new();
        if exact == 0 {
            problems.push(
                "`exact_candidates` is 0: no candidate would be left; leave it out or give at least 1".to_owned(),
            );
        }
        if let Some(top_k) = self.top_k.filter(|top_k| *top_k < exact) {
            problems.push(format!("`exact_candidates` {exact} is more than `top_k` {top_k} leaves"));
        }
        if self.min_candidates > exact {
            problems.push(format!("`min_candidates` {} is more than `exact_candidates` {exact}", self.min_candidates));
        }
        problems
    }
}

/// Streams the samples of a set, in order, through `emit`.
///
/// # Errors
/// Bad settings, unreadable files, duplicate ids, malformed rows when `strict`, and a set with nothing in it.
pub fn for_each_sample(
    config: &RankingSetConfig,
    emit: &mut dyn FnMut(RankingSample) -> Result<(), DataError>,
) -> Result<SetReport, DataError> {
    let problems = config.validate();
    if !problems.is_empty() {
        return Err(DataError::Config { problems });
    }
    let mut sink = Sink::new(config, emit)?;
    config.source.read(&mut sink)?;
    let report = sink.finish()?;
    report.require_kept()?;
    Ok(report)
}

/// All samples of a set, in memory.
pub fn load(config: &RankingSetConfig) -> Result<(Vec<RankingSample>, SetReport), DataError> {
    let mut samples = Vec::new();
    let report = for_each_sample(config, &mut |sample| {
        samples.push(sample);
        Ok(())
    })?;
    Ok((samples, report))
}
