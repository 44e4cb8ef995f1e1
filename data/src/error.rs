//! Errors of this crate.

use std::path::{Path, PathBuf};

/// What can go wrong with data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder could not be read.
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
    /// A row that cannot be used, in a file read strictly or of a format that has no rows to skip.
    #[error("{}:{line}: {message}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// 1-based line (or row, for formats without lines).
        line: u64,
        /// What is wrong with it.
        message: String,
    },
    /// A parquet or Arrow file that cannot be read or written.
    #[error("`{}`: {message}", path.display())]
    Table {
        /// Which file.
        path: PathBuf,
        /// What the reader or writer said.
        message: String,
    },
    /// The same id twice where ids name things.
    #[error("{}:{line}: {kind} `{id}` occurs a second time", path.display())]
    DuplicateId {
        /// Which file.
        path: PathBuf,
        /// 1-based line of the second occurrence.
        line: u64,
        /// Document, query, ...
        kind: &'static str,
        /// The id.
        id: String,
    },
    /// Nothing left to work on.
    #[error("no samples left from `{name}`: {summary}")]
    Empty {
        /// The source.
        name: String,
        /// What was read and why it was dropped.
        summary: String,
    },
    /// Settings that contradict each other or the data; every problem found is listed.
    #[error("bad data settings: {}", problems.join("; "))]
    Config {
        /// One line each, with the key it is about.
        problems: Vec<String>,
    },
    /// Longer list than there are identifiers.
    #[error(
        "query `{query_id}` has {got} candidates but {kind} identifiers name at most {limit}; \
         use `top_k: {limit}`, sliding windows, or another kind of identifier"
    )]
    TooManyCandidates {
        /// Which sample.
        query_id: String,
        /// Candidates in it.
        got: usize,
        /// How many can be named.
        limit: usize,
        /// `numeric` or `alphabetic`.
        kind: &'static str,
    },
    /// A sample without candidates.
    #[error("query `{query_id}` has no candidates")]
    NoCandidates {
        /// Which sample.
        query_id: String,
    },
    /// Prompt and answer do not fit.
    #[error(
        "query `{query_id}` needs {tokens} tokens (prompt and answer) but the limit is {limit}; \
         set `max_passage_tokens`, use fewer candidates, or a model with a longer context"
    )]
    PromptTooLong {
        /// Which sample.
        query_id: String,
        /// Tokens of prompt and full answer.
        tokens: usize,
        /// Tokens allowed.
        limit: usize,
    },
    /// The tokenizer cuts the answer's text across an identifier's edge, or not into one token.
    #[error(
        "the tokenizer does not keep identifier `{identifier}` apart in `{answer}`: {reason}; \
         use the other kind of identifier or another tokenizer"
    )]
    IdentifierTokens {
        /// Letter or number.
        identifier: String,
        /// Answer it was looked for in.
        answer: String,
        /// What was found.
        reason: String,
    },
    /// Compact answers want letters that are one token together with the blank before them.
    #[error(
        "`answer_format: compact` needs each letter with the blank before it to be one token, but the tokenizer has none \
         for {identifiers}; use `answer_format: bracketed` or another tokenizer"
    )]
    CompactIdentifiers {
        /// Those that are not one token.
        identifiers: String,
    },
    /// A set too small for the parts of its split.
    #[error(
        "`{name}` has {rows} rows after the filters but its `split` takes {validation} for validation and {test} for the \
         test; lower these numbers or make the set larger"
    )]
    SplitTooSmall {
        /// The source.
        name: String,
        /// Rows there are.
        rows: usize,
        /// Rows asked for validation.
        validation: usize,
        /// Rows asked for the test.
        test: usize,
    },
    /// A text with its branches does not fit.
    #[error(
        "text `{id}` has {tokens} tokens with its branches but the limit is {limit}; raise `max_micro_batch_tokens`, use shorter \
         texts or fewer branches, or a model with a longer context"
    )]
    TextTooLong {
        /// Which text.
        id: String,
        /// Tokens of background and branches.
        tokens: usize,
        /// Tokens allowed.
        limit: usize,
    },
    /// Tokens of prompt + answer do not start with the tokens of the prompt.
    #[error(
        "query `{query_id}`: tokens of prompt and answer differ from the prompt's own {prompt_tokens} tokens \
         at position {position}; the chat template must end where the answer starts on a token boundary"
    )]
    PrefixMismatch {
        /// Which sample.
        query_id: String,
        /// Tokens of the prompt alone.
        prompt_tokens: usize,
        /// First position that differs.
        position: usize,
    },
    /// A target or order that is no permutation of the candidates.
    #[error("query `{query_id}`: {what} has {got} entries over {wanted} candidates and is not a permutation: {reason}")]
    NotAPermutation {
        /// Which sample.
        query_id: String,
        /// `target`, `order`, ...
        what: &'static str,
        /// Its length.
        got: usize,
        /// Candidates.
        wanted: usize,
        /// First thing wrong.
        reason: String,
    },
    /// A sample without a target where one is needed.
    #[error("query `{query_id}` has no target order; set `require_target: true` on the data set or give a `target`")]
    NoTarget {
        /// Which sample.
        query_id: String,
    },
    /// An id that a TREC run cannot hold.
    #[error("`{}`: the id `{id}` is empty or has blanks in it, which separate the columns of a TREC run; use other ids", path.display())]
    BlankId {
        /// Which id.
        id: String,
        /// The run.
        path: PathBuf,
    },
    /// A prepared set does not hold what its card says.
    #[error("prepared set `{}`: {message}; prepare it again", path.display())]
    Prepared {
        /// Its folder.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// BM25 index or search failed.
    #[error("bm25: {0}")]
    Bm25(#[from] tantivy::TantivyError),
    /// Tokenizer or chat template failed.
    #[error(transparent)]
    Tokenizer(#[from] model::ModelError),
    /// Tensor library failed.
    #[error("tensor: {0}")]
    Tensor(#[from] tch::TchError),
    /// A tokenising thread ended without a result.
    #[error("a tokenising thread stopped before step {step} was ready")]
    WorkerStopped {
        /// Step waited for.
        step: u64,
    },
}

impl DataError {
    /// Wraps a read error with its path.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
    /// Wraps a write error with its path.
    pub(crate) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Write { path: path.to_owned(), source }
    }
    /// Wraps a parquet or Arrow error with its path.
    pub(crate) fn table(path: &Path) -> impl Fn(polars::error::PolarsError) -> Self + '_ {
        move |source| Self::Table { path: path.to_owned(), message: source.to_string() }
    }
    /// A malformed row.
    pub(crate) fn malformed(path: &Path, line: u64, message: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), line, message: message.into() }
    }
}
