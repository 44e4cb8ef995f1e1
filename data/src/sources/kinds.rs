//! The kinds of sources: one variant each, and what the program asks of any of them.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    BeirConfig, ConversationsConfig, GeneratedConfig, JsonlConfig, MovielensConfig, NextItemConfig, QuoraConfig,
    RetrieveResultsConfig, Sink, SquadConfig, TrecConfig,
};
use crate::DataError;

/// The kinds of sources.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceConfig {
    /// BEIR folder: corpus.jsonl, queries.jsonl, `qrels/SPLIT.tsv`; candidates by BM25 or from a run.
    Beir(BeirConfig),
    /// TREC run with its corpus and queries.
    Trec(TrecConfig),
    /// RankLLM's retrieve-results JSON (old `hits` and new `candidates` layout).
    RetrieveResults(RetrieveResultsConfig),
    /// Training files of RankZephyr, RankVicuna and FIRST: conversations or prompt/response pairs.
    Conversations(ConversationsConfig),
    /// Passage ranking made from SQuAD: a question and BM25 candidates, its own paragraph being the relevant one.
    Squad(SquadConfig),
    /// MovieLens (100K as RecBole packs it, 1M as published): a user's films, and which one comes next.
    Movielens(MovielensConfig),
    /// Next item after a history, from RecBole's atomic files and a file of candidates (as LLMRank publishes them).
    NextItem(NextItemConfig),
    /// Duplicate questions from Quora's pairs: a question, its duplicate and BM25's hard negatives.
    Quora(QuoraConfig),
    /// Our own samples, one JSON object per line.
    Jsonl(JsonlConfig),
    /// Made-up lists a small model learns to rank in minutes.
    Generated(GeneratedConfig),
}

impl SourceConfig {
    /// Kind as written in YAML.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Beir(_) => "beir",
            Self::Trec(_) => "trec",
            Self::RetrieveResults(_) => "retrieve_results",
            Self::Conversations(_) => "conversations",
            Self::Squad(_) => "squad",
            Self::Movielens(_) => "movielens",
            Self::NextItem(_) => "next_item",
            Self::Quora(_) => "quora",
            Self::Jsonl(_) => "jsonl",
            Self::Generated(_) => "generated",
        }
    }

    /// Every path in the settings, to be rebased (or downloaded) by the caller.
    pub fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Beir(config) => [Some(&mut config.path), config.run.as_mut()].into_iter().flatten().collect(),
            Self::Trec(config) => {
                [Some(&mut config.run), config.qrels.as_mut(), Some(&mut config.corpus), Some(&mut config.queries)]
                    .into_iter()
                    .flatten()
                    .collect()
            }
            Self::RetrieveResults(config) => {
                [Some(&mut config.path), config.qrels.as_mut()].into_iter().flatten().collect()
            }
            Self::Conversations(config) => vec![&mut config.path],
            Self::Squad(config) => vec![&mut config.path],
            Self::Movielens(config) => vec![&mut config.interactions, &mut config.items],
            Self::NextItem(config) => vec![&mut config.interactions, &mut config.items, &mut config.candidates],
            Self::Quora(config) => vec![&mut config.path],
            Self::Jsonl(config) => vec![&mut config.path],
            Self::Generated(_) => Vec::new(),
        }
    }

    /// The files that are read.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Beir(config) => config.files(),
            other => other.clone().paths_mut().into_iter().map(|path| path.clone()).collect(),
        }
    }

    pub(super) fn read(&self, sink: &mut Sink<'_>) -> Result<(), DataError> {
        match self {
            Self::Beir(config) => config.read(sink),
            Self::Trec(config) => config.read(sink),
            Self::RetrieveResults(config) => config.read(sink),
            Self::Conversations(config) => config.read(sink),
            Self::Squad(config) => config.read(sink),
            Self::Movielens(config) => config.read(sink),
            Self::NextItem(config) => config.read(sink),
            Self::Quora(config) => config.read(sink),
            Self::Jsonl(config) => config.read(sink),
            Self::Generated(config) => config.read(sink),
        }
    }

    pub(super) fn problems(&self) -> Vec<String> {
        match self {
            Self::Beir(config) => config.problems(),
            Self::Squad(config) => config.problems(),
            Self::Movielens(config) => config.problems(),
            Self::NextItem(config) => config.problems(),
            Self::Quora(config) => config.problems(),
            Self::Generated(config) => config.problems(),
            _ => Vec::new(),
        }
    }
}
