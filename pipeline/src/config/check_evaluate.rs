//! Checks of the `evaluate` section against the rest of the file.

use super::check::{identifier_limit, spoken_by_component};
use super::experiment::{BASE, ExperimentConfig};
use super::problem::{Problem, suggestion};

/// Numbers from here on take more than one token in most vocabularies.
const FIRST_LONG_NUMBER: usize = 10;

pub(super) fn check(config: &ExperimentConfig, problems: &mut Vec<Problem>) {
    let Some(evaluate) = &config.evaluate else { return };
    let sets: Vec<&str> = config.data.sets.keys().map(String::as_str).collect();
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
    check_heads(config, problems);
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

/// Decoders with heads need the section that trains them; its sets must be there.
fn check_heads(config: &ExperimentConfig, problems: &mut Vec<Problem>) {
    let Some(evaluate) = &config.evaluate else { return };
    let headed = evaluate.decoders.iter().find(|kind| kind.head().is_some());
    let Some(heads) = &config.heads else {
        if let Some(kind) = headed {
            let text = format!("`{kind}` needs a trained head, and the file has no section `heads`");
            let hint = "write `heads: {train: SET, validation: SET}`; sets are those of `data.sets`";
            problems.push(Problem::new("evaluate.decoders", text).hint(hint));
        }
        return;
    };
    let sets: Vec<&str> = config.data.sets.keys().map(String::as_str).collect();
    for (key, names) in [("train", &heads.train), ("validation", &heads.validation)] {
        if names.0.is_empty() {
            problems.push(Problem::new(format!("heads.{key}"), "empty, wanted the name of a data set"));
        }
        for name in names.0.iter().filter(|name| !sets.contains(&name.as_str())) {
            let problem = Problem::new(format!("heads.{key}"), format!("there is no data set `{name}`"));
            problems.push(problem.hint(suggestion(name, &sets)));
        }
    }
    problems.extend(heads.one_pass.validate().iter().map(|text| spoken_by_component("heads.one_pass", text)));
    problems.extend(heads.draft.validate().iter().map(|text| spoken_by_component("heads.draft", text)));
}
