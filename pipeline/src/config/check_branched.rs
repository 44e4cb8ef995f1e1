//! Checks of branched sets and of the `answer` section against the rest of the file.

use super::check::{PLAIN, is_plain, spoken_by_component};
use super::experiment::{BASE, ExperimentConfig};
use super::problem::{Problem, suggestion};

pub(super) fn check(config: &ExperimentConfig, problems: &mut Vec<Problem>) {
    for (name, set) in &config.data.branched {
        let path = format!("data.branched.{name}");
        if !is_plain(name) {
            problems.push(Problem::new("data.branched", format!("set \"{name}\": wanted {PLAIN}")));
        }
        if config.data.sets.contains_key(name) {
            problems.push(
                Problem::new(&path, "the name stands in `data.sets` as well").hint("give one of them another name"),
            );
        }
        let of_source = format!("`{}.", set.source.kind());
        problems.extend(set.validate().iter().map(|text| {
            let below = if text.starts_with(&of_source) { format!("{path}.source") } else { path.clone() };
            spoken_by_component(&below, text)
        }));
    }
    let prompt = config.data.branch_prompt.validate();
    problems.extend(prompt.iter().map(|text| spoken_by_component("data.branch_prompt", text)));
    check_answer(config, problems);
}

fn check_answer(config: &ExperimentConfig, problems: &mut Vec<Problem>) {
    let Some(answer) = &config.answer else { return };
    let sets: Vec<&str> = config.data.branched.keys().map(String::as_str).collect();
    for (index, name) in answer.sets.iter().enumerate().filter(|(_, name)| !sets.contains(&name.as_str())) {
        let problem =
            Problem::new(format!("answer.sets[{index}]"), format!("there is no set `{name}` in `data.branched`"));
        problems.push(problem.hint(suggestion(name, &sets)));
    }
    let mut models = vec![BASE];
    models.extend(config.stages().iter().map(|stage| stage.name.as_str()));
    for (index, system) in answer.systems.iter().enumerate() {
        let name = system.model.as_str();
        if !name.contains('/') && !models.contains(&name) {
            let text = format!("`{name}` is neither `{BASE}` nor a training stage");
            problems.push(Problem::new(format!("answer.systems[{index}].model"), text).hint(suggestion(name, &models)));
        }
    }
    problems.extend(answer.validate().iter().map(|text| spoken_by_component("answer", text)));
}
