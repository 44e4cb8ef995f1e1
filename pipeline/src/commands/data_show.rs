//! `monopass data show`: samples of a prepared set, or of an experiment file's set.

use std::path::Path;

use anyhow::Context as _;
use data::RankingSample;
use data::branched::BranchedText;
use data::prepared::{Card, Counts, PreparedSet};
use data::sources::Selection;
use serde_json::json;

use super::print_json;
use crate::config::check::load_with_source;
use crate::config::experiment::ExperimentConfig;
use crate::config::load::ConfigSource;
use crate::config::problem::suggestion;
use crate::failure::UsageError;
use crate::hub;

/// Prints samples.
///
/// # Errors
/// When the set cannot be read.
pub fn run(path: &Path, set: &[String], query_set: Option<&str>, limit: usize, as_json: bool) -> anyhow::Result<()> {
    if let Some((title, texts)) = texts_of(path, set, query_set, limit)? {
        if as_json {
            return print_json(&json!({"title": title, "texts": texts}));
        }
        println!("{title}");
        texts.iter().for_each(print_text);
        return Ok(());
    }
    let (title, samples) = if path.is_dir() {
        let prepared = PreparedSet::<RankingSample>::open(path)?;
        let title = format!("{}: {}", path.display(), prepared.card().report);
        let samples: Vec<RankingSample> = prepared.samples()?.into_iter().take(limit).collect();
        (title, samples)
    } else {
        let (config, source) = load_with_source(path, set)?;
        let name = match query_set {
            Some(name) => name.to_owned(),
            None => config
                .data
                .sets
                .keys()
                .next()
                .cloned()
                .ok_or_else(|| UsageError::new("the file has no data set", "add one under `data.sets`"))?,
        };
        let samples = samples_of(&config, &source, &name, limit)?;
        (format!("{}: set `{name}`", path.display()), samples)
    };
    if as_json {
        return print_json(&json!({"title": title, "samples": samples}));
    }
    println!("{title}");
    for sample in &samples {
        print_sample(sample);
    }
    Ok(())
}

/// Texts, when the folder or the named set of the file holds texts; without a name, when the file has no lists.
fn texts_of(
    path: &Path,
    set: &[String],
    query_set: Option<&str>,
    limit: usize,
) -> anyhow::Result<Option<(String, Vec<BranchedText>)>> {
    if path.is_dir() {
        let card = Card::read(path)?;
        if !matches!(card.counts, Counts::Texts(_)) {
            return Ok(None);
        }
        let texts = PreparedSet::<BranchedText>::open(path)?.samples()?;
        return Ok(Some((format!("{}: {}", path.display(), card.report), texts.into_iter().take(limit).collect())));
    }
    let (config, source) = load_with_source(path, set)?;
    let data = &config.data;
    let first = || data.branched.keys().next().map(String::as_str).filter(|_| data.sets.is_empty());
    let Some((name, set)) = query_set.or_else(first).and_then(|name| data.branched.get_key_value(name)) else {
        return Ok(None);
    };
    let mut set = set.clone();
    set.strict |= data.strict;
    set.max_texts = Some(set.max_texts.map_or(limit, |most| most.min(limit)).max(1));
    for path in set.paths_mut() {
        *path = hub::data_path(path)?;
    }
    let (texts, _) = data::branched::load(&set).with_context(|| format!("{}: set `{name}`", source.file.display()))?;
    Ok(Some((format!("{}: set `{name}`", path.display()), texts)))
}

fn print_text(text: &BranchedText) {
    let short = |text: &str| text.chars().take(100).collect::<String>().replace('\n', " ");
    println!("\n{}  {}", text.id, short(&text.background));
    for branch in &text.branches {
        println!("  {}  {}", branch.id, short(&branch.prompt));
        branch.answers.iter().for_each(|answer| println!("      {}", short(answer)));
    }
}

fn print_sample(sample: &RankingSample) {
    println!("\n{}  {}", sample.query_id, sample.query);
    for (index, passage) in sample.passages.iter().enumerate() {
        let label = passage.label.map_or("-".to_owned(), |label| label.to_string());
        let score = passage.first_stage_score.map_or("-".to_owned(), |score| format!("{score:.3}"));
        let place = sample
            .target
            .as_ref()
            .and_then(|order| order.iter().position(|candidate| usize::from(*candidate) == index))
            .map_or("-".to_owned(), |place| (place + 1).to_string());
        let text: String = passage.text.chars().take(90).collect();
        println!(
            "  {:>3}. label {label:>2}  first stage {score:>8}  target rank {place:>3}  {}  {text}",
            index + 1,
            passage.doc_id
        );
    }
}

/// The first samples of a set of the file.
///
/// # Errors
/// When there is no such set or its source cannot be read.
pub fn samples_of(
    config: &ExperimentConfig,
    source: &ConfigSource,
    name: &str,
    limit: usize,
) -> anyhow::Result<Vec<RankingSample>> {
    let Some(set) = config.data.sets.get(name) else {
        let known: Vec<&str> = config.data.sets.keys().map(String::as_str).collect();
        return Err(UsageError::new(
            format!("`{}` has no data set `{name}`", source.file.display()),
            suggestion(name, &known),
        )
        .into());
    };
    let mut set = set.clone();
    set.strict |= config.data.strict;
    if set.select == Selection::First {
        set.max_queries = Some(set.max_queries.map_or(limit, |most| most.min(limit)).max(1));
    }
    for path in set.paths_mut() {
        *path = hub::data_path(path)?;
    }
    let (samples, _report) =
        data::sources::load(&set).with_context(|| format!("{}: set `{name}`", source.file.display()))?;
    Ok(samples.into_iter().take(limit).collect())
}
