//! Whether the experiments of a table can have the rows it asks for: a name that none of them has would only show after hours of running.

use std::collections::BTreeMap;

use super::config::PaperTable;
use crate::config::experiment::ExperimentConfig;
use crate::config::problem::{Problem, suggestion};

/// Sets, models and decoders that rows and columns ask for and the row's experiment does not run.
pub fn check_rows(table: &PaperTable, experiments: &BTreeMap<&String, ExperimentConfig>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (place, row) in table.rows.iter().enumerate() {
        let Some(config) = row.experiment.as_ref().and_then(|name| experiments.get(name)) else { continue };
        for (key, value) in &row.r#where {
            let known = known(config, row.table == "answers", key);
            problems.extend(unknown(format!("rows[{place}].where.{key}"), value, &known));
        }
        for (at, column) in table.columns.iter().enumerate() {
            let answers = column.table.as_ref().unwrap_or(&row.table) == "answers";
            for (key, value) in &column.r#where {
                let path = format!("columns[{at}].where.{key}");
                let told = problems.iter().any(|problem: &Problem| problem.path.to_string() == path);
                let known = known(config, answers, key);
                problems.extend(unknown(path, value, &known).filter(|_| !told));
            }
        }
    }
    problems
}

/// What the experiment's tables can say under `key`; none where anything can stand.
fn known(config: &ExperimentConfig, answers: bool, key: &str) -> Option<Vec<String>> {
    if answers {
        let answer = config.answer.as_ref()?;
        let systems = answer.systems.iter();
        return match key {
            "set" => Some(answer.sets.clone()),
            "model" => Some(systems.map(|system| system.name().to_owned()).collect()),
            "decoder" => {
                Some(systems.flat_map(|system| &system.decoders).map(|decoder| decoder.name().to_owned()).collect())
            }
            _ => None,
        };
    }
    let evaluate = config.evaluate.as_ref()?;
    match key {
        "set" => Some(evaluate.sets.clone()),
        "model" => Some(std::iter::once("first stage".to_owned()).chain(evaluate.models.iter().cloned()).collect()),
        // The first stage's row names no decoder.
        "decoder" => {
            Some(std::iter::once(String::new()).chain(evaluate.decoders.iter().map(|decoder| decoder.name())).collect())
        }
        _ => None,
    }
}

fn unknown(path: String, value: &str, known: &Option<Vec<String>>) -> Option<Problem> {
    let known = known.as_ref().filter(|known| !known.iter().any(|name| name == value))?;
    let names: Vec<&str> = known.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    Some(Problem::new(path, format!("the experiment has no `{value}`")).hint(suggestion(value, &names)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPERIMENT: &str = "
name: e
model: {path: m}
data: {sets: {dl21: {source: {generated: {num_queries: 4, num_candidates: 4, seed: 1}}}}}
evaluate: {sets: [dl21], models: [untrained], decoders: [single_token, autoregressive]}
";

    fn problems(row: &str, set: &str) -> Vec<String> {
        let text = format!(
            "{{name: t, title: T, experiments: {{rank: {{file: rank.yaml}}}},
               columns: [{{key: n, label: N, where: {{set: {set}}}}}, {{key: m, label: M, where: {{set: {set}}}}}],
               rows: [{{label: a, experiment: rank, where: {row}}}]}}"
        );
        let table: PaperTable = serde_yaml::from_str(&text).unwrap();
        let mut config: ExperimentConfig =
            crate::config::decode::decode(serde_yaml::from_str(EXPERIMENT).unwrap()).unwrap();
        config.fill_in();
        let name = "rank".to_owned();
        let found = check_rows(&table, &BTreeMap::from([(&name, config)]));
        let words =
            |problem: Problem| format!("{}: {} ({})", problem.path, problem.message, problem.hint.unwrap_or_default());
        found.into_iter().map(words).collect()
    }

    #[test]
    fn rows_that_the_experiment_has_are_fine() {
        assert!(problems("{model: base, decoder: autoregressive}", "dl21").is_empty());
        assert!(problems("{model: first stage, decoder: ''}", "dl21").is_empty());
        assert!(problems("{query: anything}", "dl21").is_empty());
    }

    #[test]
    fn rows_that_it_cannot_have_are_named_with_what_it_has() {
        assert_eq!(
            problems("{model: untrained, decoder: single_tokn}", "dl22"),
            [
                "rows[0].where.decoder: the experiment has no `single_tokn` (did you mean `single_token`?)",
                "rows[0].where.model: the experiment has no `untrained` (known here: `first stage`, `base`)",
                "columns[0].where.set: the experiment has no `dl22` (did you mean `dl21`?)",
                "columns[1].where.set: the experiment has no `dl22` (did you mean `dl21`?)",
            ]
        );
    }
}
