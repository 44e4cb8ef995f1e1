//! Checks of the `evaluate` section against the rest of the file.

use super::check::{identifier_limit, spoken_by_component};
use super::experiment::{BASE, ExperimentConfig};
use super::problem::{Problem, suggestion};

/// Numbers from here on take more than one token in most vocabularies.
const FIRST_LONG_NUMBER: usize = 10;

pub(super) fn check(config: &ExperimentConfig, problems: &mut Vec<Problem>) {
    let Some(evaluate) = &config.evaluate else { return };
    let sets: Vec<&str> = config.data.sets.keys().map(String::as_str).collect();
    if evaluate.sets.is_empty() && !sets.is_empty() {
        let text = "nothing to evaluate: every set of `data.sets` is learned from";
        let hint = "add a set for it, or name the one to evaluate on: `sets: [NAME]`";
        problems.push(Problem::new("evaluate", text).hint(hint));
    }
    for (index, name) in evaluate.sets.iter().enumerate() {
        if !sets.contains(&name.as_str()) {
            let problem = Problem::new(format!("evaluate.sets[{index}]"), format!("there is no data set `{name}`"));
            problems.push(problem.hint(suggestion(name, &sets)));
        }
    }
    let mut models = vec![BASE];
    models.extend(config.stages().iter().map(|stage| stage.name.as_str()));
    for (index, name) in evaluate.models.iter().enumerate() {
        let is_folder = name.contains('/');
        if !is_folder && !models.contains(&name.as_str()) {
            let text = format!("`{name}` is neither `{BASE}` nor a training stage");
            problems.push(Problem::new(format!("evaluate.models[{index}]"), text).hint(suggestion(name, &models)));
        }
    }
    problems.extend(evaluate.validate().iter().map(|text| spoken_by_component("evaluate", text)));
    check_lists(config, problems);
    super::check_heads::check(config, problems);
}

/// Lists longer than the identifiers allow are read through the window; the window itself must be nameable.
fn check_lists(config: &ExperimentConfig, problems: &mut Vec<Problem>) {
    let Some(evaluate) = &config.evaluate else { return };
    let limit = identifier_limit(config);
    if evaluate.window.size > limit {
        let kind = config.data.prompt.identifiers.name();
        let text = format!("got {}, but {kind} identifiers name at most {limit} candidates", evaluate.window.size);
        problems.push(
            Problem::new("evaluate.window.size", text).hint(format!("write `window: {{size: {limit}}}` or less")),
        );
    }
    let longest = config
        .evaluation_sets()
        .filter_map(|name| config.data.sets.get(name)?.top_k)
        .map(|top_k| top_k.min(evaluate.window.size))
        .max()
        .unwrap_or(evaluate.window.size);
    let single = evaluate.decoders.iter().find(|kind| kind.reads_one_token());
    let numbers = config.data.prompt.identifiers == data::prompt::Identifiers::Numeric;
    if let Some(kind) = single.filter(|_| numbers && longest >= FIRST_LONG_NUMBER) {
        let kind = kind.method();
        let text = format!("`{kind}` reads one token per candidate, but numbers from {FIRST_LONG_NUMBER} on take two");
        let hint = format!("write `identifiers: alphabetic` in `data.prompt`, or leave `{kind}` out");
        problems.push(Problem::new("evaluate.decoders", text).hint(hint));
    }
}
