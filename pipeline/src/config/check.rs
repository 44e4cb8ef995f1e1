//! Checks across the keys of an experiment file. All faults are named at once.

use std::collections::BTreeMap;
use std::path::Path;

use trainer::objectives::TrainsOn;

use super::experiment::{BASE, ExperimentConfig, StageSection};
use super::file_kind::FileKind;
use super::load::ConfigSource;
use super::problem::{ConfigError, Problem, suggestion};

/// Reads a file, fills in what follows, and checks it.
///
/// # Errors
/// Every fault, with its line.
pub fn load_checked(file: &Path, overrides: &[String]) -> Result<ExperimentConfig, ConfigError> {
    load_with_source(file, overrides).map(|(config, _)| config)
}

/// As [`load_checked`], with the places of the values.
///
/// # Errors
/// As [`load_checked`].
pub fn load_with_source(file: &Path, overrides: &[String]) -> Result<(ExperimentConfig, ConfigSource), ConfigError> {
    let source = ConfigSource::read(file, overrides)?;
    FileKind::Experiment.expect(&source)?;
    let mut config: ExperimentConfig = source.decode()?;
    config.fill_in();
    let problems = check(&config);
    if problems.is_empty() { Ok((config, source)) } else { Err(source.error(problems)) }
}

/// All faults.
pub fn check(config: &ExperimentConfig) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !is_plain(&config.name) {
        problems.push(Problem::new("name", format!("got \"{}\", wanted {PLAIN}", config.name)));
    }
    if config.model.path.is_empty() {
        problems.push(Problem::new("model.path", "empty, wanted a folder or a hub id `org/name`"));
    }
    check_data(config, &mut problems);
    for (index, stage) in config.stages().iter().enumerate() {
        check_stage(config, index, stage, &mut problems);
    }
    if config.train.as_ref().is_some_and(|train| train.stages.is_empty()) {
        problems.push(
            Problem::new("train.stages", "empty, wanted at least one stage").hint("leave `train` out to evaluate only"),
        );
    }
    super::check_evaluate::check(config, &mut problems);
    super::check_branched::check(config, &mut problems);
    problems
}

pub(crate) const PLAIN: &str = "letters, digits, `-`, `_` and `.`, beginning with a letter or digit";

pub(crate) fn is_plain(name: &str) -> bool {
    name.starts_with(|letter: char| letter.is_ascii_alphanumeric())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
}

fn check_data(config: &ExperimentConfig, problems: &mut Vec<Problem>) {
    if config.data.sets.is_empty() && config.data.branched.is_empty() {
        problems.push(Problem::new("data.sets", "empty, wanted at least one data set"));
    }
    for (name, set) in &config.data.sets {
        let path = format!("data.sets.{name}");
        if !is_plain(name) {
            problems.push(Problem::new("data.sets", format!("set \"{name}\": wanted {PLAIN}")));
        }
        let of_source = format!("`{}.", set.source.kind());
        problems.extend(set.validate().iter().map(|text| {
            let below = if text.starts_with(&of_source) { format!("{path}.source") } else { path.clone() };
            spoken_by_component(&below, text)
        }));
    }
    problems.extend(config.data.prompt.validate().iter().map(|text| spoken_by_component("data.prompt", text)));
}

/// How many candidates one prompt can name.
pub(super) fn identifier_limit(config: &ExperimentConfig) -> usize {
    config.data.prompt.identifiers.limit()
}

fn check_stage(config: &ExperimentConfig, index: usize, stage: &StageSection, problems: &mut Vec<Problem>) {
    let path = format!("train.stages[{index}]");
    let at = |key: &str| format!("{path}.{key}");
    let earlier: Vec<&str> = config.stages()[..index].iter().map(|stage| stage.name.as_str()).collect();
    if !is_plain(&stage.name) {
        problems.push(Problem::new(at("name"), format!("got \"{}\", wanted {PLAIN}", stage.name)));
    }
    if stage.name == BASE || earlier.contains(&stage.name.as_str()) {
        let hint =
            "names are folders and rows of the table: give each stage its own; `base` is the model that all start from";
        problems.push(Problem::new(at("name"), format!("`{}` is taken", stage.name)).hint(hint));
    }
    let from = config.start_of(stage);
    if from != BASE && !earlier.contains(&from) {
        let mut known = vec![BASE];
        known.extend(&earlier);
        problems.push(Problem::new(at("from"), format!("`{from}` is no earlier stage")).hint(suggestion(from, &known)));
    }
    let on_lists = stage.settings.objective.trains_on() == TrainsOn::Lists;
    let sets: Vec<&str> = if on_lists { names(&config.data.sets) } else { names(&config.data.branched) };
    if stage.data.0.is_empty() {
        problems.push(Problem::new(at("data"), "empty, wanted the name of a data set").hint(suggestion("", &sets)));
    }
    for name in &stage.data.0 {
        if !sets.contains(&name.as_str()) {
            problems.push(no_such_set(config, at("data"), name, &sets, stage.settings.objective.build().name()));
            continue;
        }
        let Some(set) = config.data.sets.get(name) else { continue };
        let limit = identifier_limit(config);
        if let Some(top_k) = set.top_k.filter(|top_k| *top_k > limit) {
            let kind = config.data.prompt.identifiers.name();
            let text = format!(
                "got {top_k}, but {kind} identifiers name at most {limit} candidates and stage `{}` trains on whole lists",
                stage.name
            );
            problems
                .push(Problem::new(format!("data.sets.{name}.top_k"), text).hint(format!("write `top_k: {limit}`")));
        }
    }
    if stage.settings.eval_every_steps.is_some() && (config.evaluate.is_none() || !on_lists) {
        let text = "is for stages that train on lists, in a file with a section `evaluate`, whose sets are ranked";
        problems.push(Problem::new(at("eval_every_steps"), text).hint("leave it out, or add `evaluate`"));
    }
    let settings = stage.settings.validate();
    problems.extend(settings.iter().map(|text| spoken_by_component(&at("settings"), text)));
}

fn names<T>(sets: &BTreeMap<String, T>) -> Vec<&str> {
    sets.keys().map(String::as_str).collect()
}

/// There is no such set, or it is of the other kind.
fn no_such_set(config: &ExperimentConfig, path: String, name: &str, sets: &[&str], objective: &str) -> Problem {
    let kinds = [
        ("data.sets", config.data.sets.contains_key(name)),
        ("data.branched", config.data.branched.contains_key(name)),
    ];
    match kinds.iter().find(|(_, holds)| *holds) {
        Some((kind, _)) => {
            let wanted = if *kind == "data.sets" { "data.branched" } else { "data.sets" };
            let text = format!("`{name}` stands in `{kind}`, but `{objective}` is trained on sets of `{wanted}`");
            Problem::new(path, text).hint(suggestion(name, sets))
        }
        None => Problem::new(path, format!("there is no data set `{name}`")).hint(suggestion(name, sets)),
    }
}

/// A component's complaint, which begins with the key it is about in backticks.
pub(super) fn spoken_by_component(prefix: &str, text: &str) -> Problem {
    let mut pieces = text.splitn(3, '`');
    match (pieces.next(), pieces.next(), pieces.next()) {
        (Some(""), Some(key), Some(rest)) if !key.contains(' ') => {
            let rest = rest.trim_start_matches([':', ' ']).to_owned();
            let rest = rest.strip_prefix("is ").map(|value| format!("got {value}")).unwrap_or(rest.clone());
            Problem::new(format!("{prefix}.{key}"), rest)
        }
        _ => Problem::new(prefix, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_components_complaint_is_placed_at_its_key() {
        let problem = spoken_by_component("train.stages[0].settings", "`betas[1]` is 1, wanted at least 0 and below 1");
        assert_eq!(problem.path.to_string(), "train.stages[0].settings.betas[1]");
        assert_eq!(problem.message, "got 1, wanted at least 0 and below 1");
        assert_eq!(spoken_by_component("data.sets.a", "no key here").path.to_string(), "data.sets.a");
    }
}
