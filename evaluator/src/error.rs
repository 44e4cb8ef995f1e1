//! Errors of this crate.

use std::path::{Path, PathBuf};

/// What can go wrong while decoding and evaluating.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluatorError {
    /// A file could not be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written; what stood there before is untouched.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A JSON line that is not what it should be.
    #[error("{}:{line}: {source}", path.display())]
    Json {
        /// Which file.
        path: PathBuf,
        /// 1-based line.
        line: u64,
        /// Place and reason.
        source: serde_json::Error,
    },
    /// No measure of that name.
    #[error("unknown measure `{name}`; known are {}", crate::measures::ranking_measure::KNOWN)]
    UnknownMeasure {
        /// What was asked for.
        name: String,
    },
    /// The same document twice in one list.
    #[error("query `{query}`: document `{document}` is in the list twice")]
    DuplicateDocument {
        /// Query id.
        query: String,
        /// Document id.
        document: String,
    },
    /// A NaN score.
    #[error("query `{query}`: the score of document `{document}` is not a number")]
    ScoreNotANumber {
        /// Query id.
        query: String,
        /// Document id.
        document: String,
    },
    /// Qrels and run share no query.
    #[error(
        "no query to score: {judged} judged queries, {retrieved} queries in the run; check that both use the same query ids"
    )]
    NothingToScore {
        /// Queries with judgements.
        judged: usize,
        /// Queries in the run.
        retrieved: usize,
    },
    /// Orders of different lengths cannot be compared.
    #[error("an order of {got} candidates cannot be compared with one of {wanted}")]
    OrderLengths {
        /// Its length.
        got: usize,
        /// Length of the reference.
        wanted: usize,
    },
    /// An order that repeats or invents candidates.
    #[error("{order:?} is not a permutation of 0..{}", order.len())]
    NotAPermutation {
        /// The order.
        order: Vec<u16>,
    },
    /// Samples of different sizes cannot be paired.
    #[error("{what}: {got} values cannot be paired with {wanted}")]
    Unpaired {
        /// Which statistic.
        what: &'static str,
        /// Values on one side.
        got: usize,
        /// Values on the other.
        wanted: usize,
    },
    /// Too few values for a statistic.
    #[error("{what} needs at least {wanted} values, got {got}")]
    TooFewValues {
        /// Which statistic.
        what: &'static str,
        /// Values at hand.
        got: usize,
        /// Values needed.
        wanted: usize,
    },
    /// One row of logits cannot tell identifiers of several tokens apart.
    #[error(
        "query `{query_id}`: candidates read off one row of logits need identifiers of one token, but candidate {candidate} takes \
         {tokens} tokens; use `identifiers: alphabetic` or decoder `autoregressive_forced`"
    )]
    MultiTokenIdentifier {
        /// Which sample.
        query_id: String,
        /// 1-based.
        candidate: usize,
        /// Tokens of its identifier.
        tokens: usize,
    },
    /// Heads name a fixed number of candidates.
    #[error(
        "query `{query_id}`: {got} candidates, but the heads of decoder `{decoder}` were made for {wanted}; rank lists of that \
         length or train heads for this one"
    )]
    HeadCandidates {
        /// Which sample.
        query_id: String,
        /// Which decoder.
        decoder: &'static str,
        /// Candidates of the sample.
        got: usize,
        /// Candidates the heads name.
        wanted: usize,
    },
    /// A draft model reads the same tokens as the model it drafts for.
    #[error(
        "query `{query_id}`: token {token} is beyond the draft model's vocabulary of {vocab_size}; use a draft model with the \
         same tokenizer"
    )]
    DraftVocabulary {
        /// Which sample.
        query_id: String,
        /// Largest token of prompt and answer.
        token: i64,
        /// Of the draft model.
        vocab_size: i64,
    },
    /// Two candidates cannot be told apart.
    #[error(
        "query `{query_id}`: candidates {first} and {second} have the same identifier tokens; use other identifiers"
    )]
    SameIdentifier {
        /// Which sample.
        query_id: String,
        /// 1-based.
        first: usize,
        /// 1-based.
        second: usize,
    },
    /// Lists of different lengths where heads want one.
    #[error(
        "set `{set}` has lists of {first} and of {other} candidates (query `{query_id}`); heads learn for one number: \
         set `exact_candidates`"
    )]
    UnequalLists {
        /// Which set.
        set: String,
        /// Candidates of the first list.
        first: usize,
        /// Candidates of another.
        other: usize,
        /// Which other.
        query_id: String,
    },
    /// A head for another number of candidates.
    #[error(
        "decoder `{decoder}` has a head for lists of {head} candidates and is given one of {list}; set `exact_candidates`, or \
         a window of {head}"
    )]
    HeadSize {
        /// Its name.
        decoder: String,
        /// Candidates the head was trained for.
        head: usize,
        /// Candidates of the list.
        list: usize,
    },
    /// What a decoder needs beside the model cannot be had.
    #[error("{what}: {problem}")]
    Parts {
        /// Which part.
        what: String,
        /// Why not.
        problem: String,
    },
    /// A decoder without the head it needs.
    #[error(
        "decoder `{decoder}` needs a trained head; train one (section `heads` of an experiment file) or give its folder"
    )]
    NoHead {
        /// Its name.
        decoder: String,
    },
    /// A prompt without candidates or without an identifier's tokens.
    #[error("query `{query_id}`: the prompt has nothing to rank ({reason})")]
    BadPrompt {
        /// Which sample.
        query_id: String,
        /// What is missing.
        reason: &'static str,
    },
    /// Prompt and answer exceed what the model was made for.
    #[error(
        "{what}: {tokens} tokens (prompt and answer) but the model's context is {limit}; \
         set `max_passage_tokens`, a smaller window, or use a model with a longer context"
    )]
    ContextTooLong {
        /// Query or command.
        what: String,
        /// Tokens of prompt and full answer.
        tokens: usize,
        /// `max_position_embeddings`.
        limit: usize,
    },
    /// The model's output is not a number.
    #[error("{what}: the model's logits are not finite; the weights are damaged or the precision is too low")]
    NonFiniteLogits {
        /// Query or command.
        what: String,
    },
    /// Settings that contradict each other; every problem found is listed.
    #[error("bad evaluation settings: {}", problems.join("; "))]
    Config {
        /// One line each, with the key it is about.
        problems: Vec<String>,
    },
    /// No sample to evaluate.
    #[error("nothing to evaluate: set `{set}` has no samples")]
    NoSamples {
        /// Which set.
        set: String,
    },
    /// A comparison with a decoder that was not run.
    #[error("decoder `{name}` is to be compared with but is not among the decoders run: {}", run.join(", "))]
    DecoderNotRun {
        /// What was asked for.
        name: String,
        /// What there is.
        run: Vec<String>,
    },
    /// The user asked to stop.
    #[error("stopped on request; finished queries are kept and a second run goes on from there")]
    Interrupted,
    /// Template or plot of the report.
    #[error("report: {problem}")]
    Report {
        /// What the renderer said.
        problem: String,
    },
    /// Prompt or data failed.
    #[error(transparent)]
    Data(#[from] data::DataError),
    /// Model or tokenizer failed.
    #[error(transparent)]
    Model(#[from] model::ModelError),
    /// Tensor library failed.
    #[error("tensor: {0}")]
    Tensor(#[from] tch::TchError),
}

impl EvaluatorError {
    /// Wraps a read error with its path.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
    /// Wraps a write error with its path.
    pub(crate) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Write { path: path.to_owned(), source }
    }
}
