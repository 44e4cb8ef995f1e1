//! `monopass rank`: candidate lists in, a TREC run out.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Context as _;
use data::prompt::{PromptBuilder, PromptConfig};
use data::sources::{JsonlConfig, RankingSetConfig, RetrieveResultsConfig, SourceConfig, TrecConfig};
use data::{DataError, RankingSample, TrecRun, trec_run};
use evaluator::decode::{BuildDecoder, DecoderKind, RepairCounts};
use evaluator::evaluate::{DecoderLine, Predictions};
use evaluator::sliding::{Reranked, WindowConfig, rerank_batch};
use serde_json::json;

use super::bench::decoder;
use super::print_json;
use crate::cli::RankArgs;
use crate::config::decode::decode;
use crate::failure::{InputError, Interrupted, UsageError};
use crate::head_parts::{HeadParts, Known};
use crate::interrupt::StopFlag;
use crate::model_source::{self, LoadedModel, ModelNote};
use crate::progress::SetProgress;
use crate::stages::decoder_needs::draft_folder;
use crate::stamp::Inputs;

/// Runs the command.
///
/// # Errors
/// When an argument, the model or the candidates cannot be used.
pub fn run(args: &RankArgs) -> anyhow::Result<()> {
    let kind = decoder(&args.decoder)?;
    let window = WindowConfig { size: args.window, stride: args.stride, num_passes: 1 };
    if let Some(problem) = window.validate().first() {
        return Err(UsageError::new(problem.clone(), "the defaults are `--window 20 --stride 10`").into());
    }
    if args.top_k == 0 || args.max_queries == Some(0) || args.batch == 0 {
        let hint = "`--top-k`, `--max-queries` and `--batch` are at least 1";
        return Err(UsageError::new("nothing would be ranked", hint).into());
    }
    let samples = candidates(args)?;
    let loaded = model_source::load(&args.model)?;
    let trained_with = ModelNote::read(&loaded.folder)?.and_then(|note| note.context_length).unwrap_or(usize::MAX);
    let context = usize::try_from(loaded.model.config.max_position_embeddings).unwrap_or(usize::MAX).min(trained_with);
    let prompts = PromptBuilder::new(Arc::clone(&loaded.tokenizer), prompt_config(args, &loaded)?)?.fitting(context);
    let parts = HeadParts {
        model: &loaded.model,
        model_folder: &loaded.folder,
        prompt_hash: prompts.hash(),
        identifiers: prompts.single_identifier_tokens(),
        folder_of: Box::new(|_| args.head.clone().unwrap_or_default()),
        known: Known::default(),
    };
    let with = BuildDecoder {
        tokenizer: &loaded.tokenizer,
        answer: prompts.config.answer_form(),
        max_new_tokens: None,
        parts: &parts,
        last_read: Rc::default(),
        last_prompt: None,
    };
    let decoder = kind.build(&with)?;
    let heads: Vec<RankingSample> = samples.iter().map(|sample| first(sample, args.top_k)).collect();
    let part = part_of(&args.out);
    let mut ranked = Predictions::open(&part, &content_key(args, &loaded, &prompts, &kind, &window, &heads)?, &heads)?;
    if !ranked.is_empty() {
        tracing::info!("going on with `{}`: {} of {} queries", part.display(), ranked.len(), samples.len());
    }
    let rank = |heads: &[&RankingSample]| {
        let rankings = rerank_batch(&loaded.model, decoder.as_ref(), &prompts, heads, &window)?;
        Ok(rankings.into_iter().map(|ranking| DecoderLine::once(&kind.to_string(), ranking)).collect())
    };
    let done = rank_all(&heads, args.batch, &mut ranked, &part, rank);
    if ranked.is_empty() {
        // nothing to go on with
        let _ = std::fs::remove_file(&part);
    }
    done?;
    let rankings: Vec<&Reranked> =
        heads.iter().filter_map(|head| Some(&ranked.get(&head.query_id)?.decoders[0].ranking)).collect();
    write_run(args, &kind, &samples, &rankings)?;
    // of no queries there is none
    if !ranked.is_empty() {
        std::fs::remove_file(&part).with_context(|| format!("cannot remove `{}`", part.display()))?;
    }
    tell(args, &kind, &rankings)
}

/// Ranks what was not ranked before, `batch` queries at a time.
fn rank_all(
    heads: &[RankingSample],
    batch: usize,
    ranked: &mut Predictions,
    part: &Path,
    rank: impl Fn(&[&RankingSample]) -> anyhow::Result<Vec<DecoderLine>>,
) -> anyhow::Result<()> {
    let stop = StopFlag::listen()?;
    let mut progress = SetProgress::new("ranking", "queries");
    let open: Vec<&RankingSample> = heads.iter().filter(|head| ranked.get(&head.query_id).is_none()).collect();
    let mut done = heads.len() - open.len();
    for batch in open.chunks(batch) {
        if stop.is_set() {
            let saved = format!("ranked queries are kept in `{}`; the same command goes on from there", part.display());
            return Err(Interrupted { saved }.into());
        }
        for (head, line) in batch.iter().zip(rank(batch)?) {
            ranked.add(head, vec![line])?;
        }
        done += batch.len();
        progress.show(done, heads.len());
    }
    Ok(())
}

/// The run: what was ranked, then the candidates behind it in their own order.
fn write_run(
    args: &RankArgs,
    kind: &DecoderKind,
    samples: &[RankingSample],
    rankings: &[&Reranked],
) -> anyhow::Result<()> {
    let mut run = TrecRun::new(format!("monopass-{kind}"));
    for (sample, ranking) in samples.iter().zip(rankings) {
        let tail = (0..sample.passages.len()).skip(args.top_k);
        let order = ranking.order.iter().map(|index| usize::from(*index)).chain(tail);
        let ids: Vec<&str> = order.map(|index| sample.passages[index].doc_id.as_str()).collect();
        run.push_ranking(&sample.query_id, ids.into_iter());
    }
    Ok(run.write(&args.out)?)
}

/// What it cost, and what was mended.
fn tell(args: &RankArgs, kind: &DecoderKind, rankings: &[&Reranked]) -> anyhow::Result<()> {
    let mut repair = RepairCounts::default();
    rankings.iter().for_each(|ranking| repair.add(&ranking.repair));
    let passes: u64 = rankings.iter().map(|ranking| u64::from(ranking.forward_passes)).sum();
    let seconds: f64 = rankings.iter().map(|ranking| ranking.seconds).sum();
    let queries = rankings.len();
    if args.json {
        return print_json(&json!({
            "run": args.out, "decoder": kind, "queries": queries, "seconds": seconds,
            "seconds_per_query": seconds / queries.max(1) as f64, "forward_passes": passes, "repairs": repair,
        }));
    }
    println!("{} ({queries} queries, {seconds:.1} s, {passes} passes)", args.out.display());
    let mended = repair.missing + repair.repetition + repair.out_of_range;
    if mended > 0 {
        println!(
            "generated rankings were mended: {} identifiers missing, {} repeated, {} out of range ({} answers were whole)",
            repair.missing, repair.repetition, repair.out_of_range, repair.ok
        );
    }
    Ok(())
}

/// The candidates that are ranked; those behind them keep their places.
fn first(sample: &RankingSample, top_k: usize) -> RankingSample {
    sample.select(&(0..sample.passages.len().min(top_k) as u16).collect::<Vec<_>>())
}

/// Where ranked queries are kept until all are.
fn part_of(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    out.with_file_name(name)
}

/// A hash of all that the prompts may show.
fn texts(heads: &[RankingSample]) -> String {
    let mut hasher = blake3::Hasher::new();
    for sample in heads {
        let passages = sample.passages.iter().flat_map(|passage| [&passage.title, &passage.text]);
        for text in std::iter::once(&sample.query).chain(passages) {
            hasher.update(text.as_bytes()).update(&[0]);
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// What a ranking depends on besides its candidates: a part of another is not gone on with.
fn content_key(
    args: &RankArgs,
    loaded: &LoadedModel,
    prompts: &PromptBuilder,
    kind: &DecoderKind,
    window: &WindowConfig,
    heads: &[RankingSample],
) -> anyhow::Result<String> {
    let mut inputs = Inputs::new();
    inputs.settings("decoder", kind)?;
    inputs.settings("window", window)?;
    inputs.hash("prompt", prompts.hash());
    inputs.hash("texts", texts(heads));
    inputs.settings("precision", &format!("{:?}", loaded.model.kind()))?;
    inputs.listing("model", &loaded.folder)?;
    if let Some(base) = model::folder::base_of(&loaded.folder)? {
        inputs.listing("base", &base)?;
    }
    if let Some(draft) = kind.draft_model() {
        inputs.listing("draft model", &draft_folder(draft)?)?;
    }
    // One that is not there is told when the decoder asks for it.
    if let Some(head) = args.head.as_ref().filter(|head| head.exists()) {
        inputs.path("head", head)?;
    }
    Ok(inputs.digest())
}

/// The prompt asked for, else the one the model was trained with, else RankZephyr's.
fn prompt_config(args: &RankArgs, loaded: &LoadedModel) -> anyhow::Result<PromptConfig> {
    let note = ModelNote::read(&loaded.folder)?;
    let Some(text) = &args.prompt else {
        if note.is_none() {
            tracing::warn!(
                "the model does not say which prompt it was trained with; RankZephyr's is used (`--prompt` sets another)"
            );
        }
        return note.map_or_else(|| Ok(PromptConfig::default()), |note| ranking_prompt(&note));
    };
    let value = serde_yaml::from_str(text).map_err(|error| {
        UsageError::new(
            format!("`--prompt` cannot be read: {error}"),
            "write `--prompt '{style: first, identifiers: alphabetic}'`",
        )
    })?;
    let config: PromptConfig = decode(value).map_err(|problems| {
        let text: Vec<String> = problems
            .iter()
            .map(|problem| {
                format!(
                    "`--prompt`: `{}`: {} {}",
                    problem.path,
                    problem.message,
                    problem.hint.clone().unwrap_or_default()
                )
            })
            .collect();
        UsageError::new(text.join("\n"), "`monopass config schema --markdown` lists the keys of `PromptConfig`")
    })?;
    if let Some(note) = note.filter(|note| serde_json::to_value(&config).ok().as_ref() != Some(&note.prompt)) {
        tracing::warn!("the model was trained with another prompt: {}", note.prompt);
    }
    Ok(config)
}

/// The prompt of a model that was trained to rank.
fn ranking_prompt(note: &ModelNote) -> anyhow::Result<PromptConfig> {
    serde_json::from_value(note.prompt.clone()).map_err(|_| {
        let text = format!("the model was trained (stage `{}`) for another task than ranking", note.stage);
        UsageError::new(text, "`--prompt '{style: rank_zephyr}'` ranks with it all the same").into()
    })
}

/// Lists from any of the three kinds of files.
fn candidates(args: &RankArgs) -> anyhow::Result<Vec<RankingSample>> {
    let path = &args.candidates;
    if !path.exists() {
        let hint = "check the path";
        return Err(InputError::new(format!("there is no file `{}`", path.display()), hint).into());
    }
    let source = match (&args.queries, &args.corpus) {
        (Some(queries), Some(corpus)) => SourceConfig::Trec(TrecConfig {
            run: path.clone(),
            qrels: None,
            corpus: corpus.clone(),
            queries: queries.clone(),
        }),
        (None, None) => source_of_json(path)?,
        _ => {
            return Err(UsageError::new(
                "a TREC run needs both `--queries` and `--corpus`",
                "the run holds ids only; their texts must come from somewhere",
            )
            .into());
        }
    };
    let mut set = RankingSetConfig::new(source);
    set.max_queries = args.max_queries;
    let (samples, report) = data::sources::load(&set)?;
    tracing::info!("{}: {report}", path.display());
    // Told before anything is ranked: the run could not be written.
    let documents = samples.iter().flat_map(|sample| &sample.passages).map(|passage| &passage.doc_id);
    let ids = samples.iter().map(|sample| &sample.query_id).chain(documents);
    let blank = ids.into_iter().find(|id| !trec_run::fits(id)).cloned();
    match blank {
        Some(id) => Err(DataError::BlankId { id, path: args.out.clone() }.into()),
        None => Ok(samples),
    }
}

/// JSONL of samples or RankLLM's JSON, by what stands in it.
fn source_of_json(path: &Path) -> anyhow::Result<SourceConfig> {
    let bytes = data::files::read_bytes(path)?;
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(1 << 16)]).into_owned();
    let first = head.trim_start().chars().next().unwrap_or(' ');
    if first != '{' && first != '[' {
        return Err(UsageError::new(
            format!("`{}` is no JSON, so it must be a TREC run", path.display()),
            "give `--queries FILE --corpus FILE` with it",
        ))
        .context("reading the candidates");
    }
    let is_samples = head.contains("\"passages\"");
    Ok(if is_samples {
        SourceConfig::Jsonl(JsonlConfig { path: path.to_owned() })
    } else {
        SourceConfig::RetrieveResults(RetrieveResultsConfig { path: path.to_owned(), qrels: None })
    })
}
