//! Settings of an evaluation of answers as a user writes them: the `answer` section of an experiment file.

use model::ColumnarRope;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sampling::Sampling;
use crate::stats::Bootstrap;
use crate::table::TableFormat;

/// Ways to answer the questions about a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerDecoder {
    /// One question after the other, the text read anew for each.
    OneByOne,
    /// One question after the other, the text read once.
    OneByOneCached,
    /// All questions as ordinary texts beside each other that share the text's keys and values.
    SharedPrefix,
    /// All questions side by side in columns.
    Columnar,
}

impl AnswerDecoder {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::OneByOne, Self::OneByOneCached, Self::SharedPrefix, Self::Columnar];

    /// Name as in the settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OneByOne => "one_by_one",
            Self::OneByOneCached => "one_by_one_cached",
            Self::SharedPrefix => "shared_prefix",
            Self::Columnar => "columnar",
        }
    }
}

/// A model and the ways it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerSystem {
    /// `base` (the model training started from), the name of a training stage, or the path of a model folder.
    pub model: String,
    /// Each is a row of the table.
    pub decoders: Vec<AnswerDecoder>,
    /// What rows, files and `baseline` call it. Default: `model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Positions in columns for a model that has none of its own, not having been trained in columns: `{positions: branch_offset,
    /// branch_stride: 96}` reads each branch as an ordinary text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope: Option<ColumnarRope>,
}

impl AnswerSystem {
    /// What rows and files call it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.model)
    }
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerBaseline {
    /// Model of the row, or its system's `name`.
    pub model: String,
    /// Decoder of the row.
    pub decoder: AnswerDecoder,
}

/// How answers are made comparable before they are scored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerNormalisation {
    /// As SQuAD's official script does.
    #[default]
    Official,
    /// As the published evaluation of columnar decoding does: a label `answer:` before the answer is taken off first.
    Published,
}

/// What to answer, how, and what to measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerConfig {
    /// Names of sets under `data.branched`.
    pub sets: Vec<String>,
    /// Models and the ways they answer.
    pub systems: Vec<AnswerSystem>,
    /// Row that speedups and differences are told against. Default: the first decoder of the first system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<AnswerBaseline>,
    /// Tokens of an answer at most. Default 32.
    #[serde(default = "thirty_two")]
    pub max_new_tokens: usize,
    /// Texts that `columnar` answers in one batch; their seconds are shared evenly. The other decoders take one text at a time.
    /// Default 1.
    #[serde(default = "one")]
    pub texts_per_batch: usize,
    /// Choice of tokens. Default: the most probable.
    #[serde(default)]
    pub sampling: Sampling,
    /// How answers are made comparable. Default `official`.
    #[serde(default)]
    pub normalisation: AnswerNormalisation,
    /// Intervals; whole texts are resampled.
    #[serde(default)]
    pub bootstrap: Bootstrap,
    /// Files the table is written as, beside JSON, which other commands read. Default all.
    #[serde(default = "all_formats")]
    pub table_formats: Vec<TableFormat>,
}

fn one() -> usize {
    1
}

fn thirty_two() -> usize {
    32
}

fn all_formats() -> Vec<TableFormat> {
    TableFormat::ALL.to_vec()
}

impl AnswerConfig {
    /// Everything wrong with the settings, one line each.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems: Vec<String> =
            self.sampling.validate().into_iter().map(|problem| problem.replacen('`', "`sampling.", 1)).collect();
        if self.sets.is_empty() {
            problems.push("`sets` is empty, wanted at least one set".into());
        }
        if self.systems.is_empty() {
            problems.push("`systems` is empty, wanted at least one model".into());
        }
        for (key, value) in [("max_new_tokens", self.max_new_tokens), ("texts_per_batch", self.texts_per_batch)] {
            if value == 0 {
                problems.push(format!("`{key}` is 0, wanted at least 1"));
            }
        }
        for (index, system) in self.systems.iter().enumerate() {
            let repeated = |at: usize| system.decoders[..at].contains(&system.decoders[at]);
            if system.decoders.is_empty() {
                problems.push(format!("`systems[{index}].decoders` is empty, wanted at least one decoder"));
            }
            if (0..system.decoders.len()).any(repeated) {
                problems.push(format!("`systems[{index}].decoders` names a decoder twice"));
            }
            if self.systems[..index].iter().any(|other| other.name() == system.name()) {
                problems.push(format!(
                    "`systems[{index}].model` is {} a second time; list all its decoders once, or give it a `name`",
                    system.name()
                ));
            }
            if system.rope.is_some() && !system.decoders.contains(&AnswerDecoder::Columnar) {
                problems.push(format!("`systems[{index}].rope` is read by `columnar`, which is not among `decoders`"));
            }
        }
        if let Some(baseline) = self.baseline.as_ref().filter(|baseline| !self.has(baseline)) {
            let decoder = baseline.decoder.name();
            problems.push(format!("`baseline` is {decoder} of {}, which is not among `systems`", baseline.model));
        }
        problems
    }

    fn has(&self, row: &AnswerBaseline) -> bool {
        self.systems.iter().any(|system| system.name() == row.model && system.decoders.contains(&row.decoder))
    }

    /// The row that others are compared with.
    #[must_use]
    pub fn baseline(&self) -> Option<AnswerBaseline> {
        let first = || {
            let system = self.systems.first()?;
            Some(AnswerBaseline { model: system.name().to_owned(), decoder: *system.decoders.first()? })
        };
        self.baseline.clone().or_else(first)
    }
}
