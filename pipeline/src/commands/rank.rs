//! `monopass rank`: candidate lists in, a TREC run out.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use data::prompt::{PromptBuilder, PromptConfig};
use data::sources::{JsonlConfig, RankingSetConfig, RetrieveResultsConfig, SourceConfig, TrecConfig};
use data::{RankingSample, TrecRun};
use evaluator::decode::{BuildDecoder, RepairCounts};
use evaluator::sliding::{WindowConfig, rerank};
use serde_json::json;

use super::bench::decoder;
use super::print_json;
use crate::cli::RankArgs;
use crate::config::decode::decode;
use crate::failure::{InputError, UsageError};
use crate::head_parts::HeadParts;
use crate::interrupt::StopFlag;
use crate::model_source::{self, LoadedModel, ModelNote};

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
    if args.top_k == 0 || args.max_queries == Some(0) {
        return Err(UsageError::new("nothing would be ranked", "`--top-k` and `--max-queries` are at least 1").into());
    }
    let samples = candidates(args)?;
    let loaded = model_source::load(&args.model)?;
    let prompts = PromptBuilder::new(Arc::clone(&loaded.tokenizer), prompt_config(args, &loaded)?)?;
    let parts = HeadParts {
        model: &loaded.model,
        model_folder: &loaded.folder,
        prompt_hash: prompts.hash(),
        identifiers: prompts.single_identifier_tokens(),
        folder_of: Box::new(|_| args.head.clone().unwrap_or_default()),
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
    let stop = StopFlag::listen()?;
    let mut run = TrecRun::new(format!("monopass-{kind}"));
    let mut repair = RepairCounts::default();
    let (mut passes, mut seconds) = (0u64, 0.0);
    let started = Instant::now();
    for (number, sample) in samples.iter().enumerate() {
        stop.check()?;
        let head = sample.select(&(0..sample.passages.len().min(args.top_k) as u16).collect::<Vec<_>>());
        let ranked = rerank(&loaded.model, decoder.as_ref(), &prompts, &head, &window)?;
        repair.add(&ranked.repair);
        passes += u64::from(ranked.forward_passes);
        seconds += ranked.seconds;
        let tail = sample.passages.iter().skip(args.top_k);
        let ids: Vec<&str> = ranked
            .order
            .iter()
            .map(|index| head.passages[usize::from(*index)].doc_id.as_str())
            .chain(tail.map(|passage| passage.doc_id.as_str()))
            .collect();
        run.push_ranking(&sample.query_id, ids.into_iter());
        if (number + 1) % 10 == 0 || number + 1 == samples.len() {
            let each = started.elapsed().as_secs_f64() / (number + 1) as f64;
            tracing::info!("{} of {} queries, {each:.2} s each", number + 1, samples.len());
        }
    }
    run.write(&args.out)?;
    if args.json {
        return print_json(&json!({
            "run": args.out, "decoder": kind, "queries": samples.len(), "seconds": seconds,
            "seconds_per_query": seconds / samples.len().max(1) as f64, "forward_passes": passes, "repairs": repair,
        }));
    }
    println!("{} ({} queries, {seconds:.1} s, {passes} passes)", args.out.display(), samples.len());
    let mended = repair.missing + repair.repetition + repair.out_of_range;
    if mended > 0 {
        println!(
            "generated rankings were mended: {} identifiers missing, {} repeated, {} out of range ({} answers were whole)",
            repair.missing, repair.repetition, repair.out_of_range, repair.ok
        );
    }
    Ok(())
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
    Ok(samples)
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
