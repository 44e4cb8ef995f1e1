//! Arguments of `monopass rank`.

use std::path::PathBuf;

use clap::Args;

use super::model_folder::ModelArgs;

/// `monopass rank`.
#[derive(Debug, Args)]
pub struct RankArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Candidates: our JSONL (`query_id`, `query`, `passages`), RankLLM's retrieve-results JSON, or a TREC run (with
    /// `--queries` and `--corpus`).
    #[arg(long, value_name = "FILE")]
    pub candidates: PathBuf,
    /// Queries of a TREC run: `id<TAB>text` lines or BEIR's queries.jsonl.
    #[arg(long, value_name = "FILE")]
    pub queries: Option<PathBuf>,
    /// Passages of a TREC run: `id<TAB>text` lines or BEIR's corpus.jsonl.
    #[arg(long, value_name = "FILE")]
    pub corpus: Option<PathBuf>,
    /// Where to write the TREC run.
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// How to decode: a name, or with settings as in an experiment file, `{one_pass: {n_group: 4}}`.
    #[arg(long, default_value = "single_token", value_name = "NAME")]
    pub decoder: String,
    /// Folder of the decoder's head, for decoders that need one (`runs/NAME/heads/MODEL/HEAD`).
    #[arg(long, value_name = "DIR")]
    pub head: Option<PathBuf>,
    /// Candidates per query that are reranked; the rest stay below, in their order.
    #[arg(long, default_value_t = 100)]
    pub top_k: usize,
    /// Candidates per prompt; longer lists are ranked through a sliding window.
    #[arg(long, default_value_t = 20)]
    pub window: usize,
    /// How far the window moves.
    #[arg(long, default_value_t = 10)]
    pub stride: usize,
    /// Queries read side by side, in one pass where the decoder can (`single_token`, `one_pass`): for a GPU. Memory grows with
    /// them, and in bf16 what shares a pass can move a score by rounding.
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
    /// Prompt settings as YAML, `{style: first, identifiers: alphabetic}`; default: those the model was trained with.
    #[arg(long, value_name = "YAML")]
    pub prompt: Option<String>,
    /// Queries at most.
    #[arg(long)]
    pub max_queries: Option<usize>,
    /// Print one JSON object on stdout: queries, seconds, forward passes, repairs.
    #[arg(long)]
    pub json: bool,
}
