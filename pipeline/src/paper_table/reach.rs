//! Whether the experiments of a table can have the rows it asks for: a name that none of them has would only show after hours of running.

use std::collections::BTreeMap;

use evaluator::answer::{AnswerConfig, answers_table};
use evaluator::evaluate::{EvaluateConfig, comparison_table, cost_table, fidelity_table, results_table};
use evaluator::table::{ColumnKind, Table};

use super::config::{PaperTable, RunTable, TableColumn, TableRow};
use crate::config::experiment::ExperimentConfig;
use crate::config::problem::{Problem, suggestion};

/// A row of the table file, its place in it, and the experiment that fills it.
type Asking<'a> = (usize, &'a TableRow, &'a ExperimentConfig);

/// What rows ask for and their experiment does not have; what columns ask for and no row's experiment has.
pub fn check_rows(table: &PaperTable, experiments: &BTreeMap<String, ExperimentConfig>) -> Vec<Problem> {
    let experiment = |row: &TableRow| experiments.get(row.experiment.as_ref()?);
    let rows = table.rows.iter().enumerate();
    let rows: Vec<Asking<'_>> = rows.filter_map(|(at, row)| Some((at, row, experiment(row)?))).collect();
    let mut problems = Vec::new();
    // Where every column names its own table, the row's is read by none.
    let of_row = |column: &&TableColumn| column.mean_of.is_empty();
    let own_tables: Vec<RunTable> = table.columns.iter().filter(of_row).filter_map(|column| column.table).collect();
    let is_read = table.columns.iter().filter(of_row).any(|column| column.table.is_none());
    let table_of = |row: &TableRow| if is_read { row.table } else { own_tables.first().copied().unwrap_or(row.table) };
    for (at, row, config) in &rows {
        match Reach::of(row, config, table_of(row)) {
            None => problems.push(lacking(row, format!("rows[{at}].table"), table_of(row))),
            Some(reach) => problems.extend(reach.check_where(&format!("rows[{at}]"), &row.r#where)),
        }
    }
    // Rows without their table are told once, not again for each column.
    let rows: Vec<&Asking<'_>> =
        rows.iter().filter(|(_, row, config)| Reach::of(row, config, table_of(row)).is_some()).collect();
    for (at, column) in table.columns.iter().enumerate().filter(|(_, column)| column.mean_of.is_empty()) {
        problems.extend(rows.iter().find_map(|(_, row, config)| several(at, column, row, config)));
        let of_rows: Vec<_> = rows.iter().map(|(_, row, config)| check_column(at, column, row, config)).collect();
        if of_rows.iter().all(|problems| !problems.is_empty()) {
            problems.extend(of_rows.into_iter().next().unwrap_or_default());
        }
    }
    problems
}

/// A set, model, decoder or measure that has to be named, there being several.
fn several(at: usize, column: &TableColumn, row: &TableRow, config: &ExperimentConfig) -> Option<Problem> {
    let table = column.table.unwrap_or(row.table);
    let reach = Reach::of(row, config, table)?;
    let asked = |key: &str| column.r#where.get(key).or_else(|| row.r#where.get(key));
    // The reference and the baseline have no rows of their own there; of answers each model has decoders of its own.
    let of_all = matches!(table, RunTable::Results | RunTable::Cost);
    let has_decoders = of_all && asked("model").is_none_or(|model| model != "first stage");
    let of = |key: &str| reach.names.iter().find(|(own, _)| own == key)?.1.clone();
    let keys = ["set", "model", "decoder", "measure"].into_iter().filter(|key| *key != "decoder" || has_decoders);
    keys.filter(|key| asked(key).is_none()).find_map(|key| {
        let named = |name: &String| !name.is_empty() && name != "first stage";
        let known: Vec<String> = of(key)?.into_iter().filter(named).collect();
        let message = format!(
            "experiment `{}` has several {key}s ({}), and neither this column nor row `{}` says which",
            reach.experiment,
            known.join(", "),
            row.label
        );
        let hint = format!("add `{key}: {}` under `where`", known.first()?);
        (known.len() > 1).then(|| Problem::new(format!("columns[{at}]"), message).hint(hint))
    })
}

fn check_column(at: usize, column: &TableColumn, row: &TableRow, config: &ExperimentConfig) -> Vec<Problem> {
    let table = column.table.unwrap_or(row.table);
    let Some(reach) = Reach::of(row, config, table) else {
        return vec![lacking(row, format!("columns[{at}].table"), table)];
    };
    let (key, name) = column.from.as_ref().map_or(("key", &column.key), |from| ("from", from));
    let mut problems = reach.check_where(&format!("columns[{at}]"), &column.r#where);
    problems.extend((!reach.figures.contains(name)).then(|| {
        let message = format!("`{}` of experiment `{}` has no column `{name}`", table.name(), reach.experiment);
        Problem::new(format!("columns[{at}].{key}"), message).hint(suggest(name, &reach.figures))
    }));
    problems
}

fn lacking(row: &TableRow, path: String, table: RunTable) -> Problem {
    let wanted = match table {
        RunTable::Answers => "section `answer`",
        RunTable::Fidelity => "`evaluate` with a reference decoder",
        _ => "section `evaluate`",
    };
    let experiment = row.experiment.as_deref().unwrap_or_default();
    Problem::new(path, format!("experiment `{experiment}` has no {wanted}, so no table `{}`", table.name()))
}

/// What can stand in one of an experiment's tables.
struct Reach<'a> {
    experiment: &'a str,
    table: RunTable,
    /// Keys of its columns of numbers.
    figures: Vec<String>,
    /// Its columns of names, with the names; none where anything can stand.
    names: Vec<(String, Option<Vec<String>>)>,
}

impl<'a> Reach<'a> {
    /// None where the row's experiment makes no such table.
    fn of(row: &'a TableRow, config: &ExperimentConfig, table: RunTable) -> Option<Self> {
        let of_columns = |empty: &Table, known: &dyn Fn(&str) -> Option<Vec<String>>| {
            let of_kind = |kind: ColumnKind| empty.columns.iter().filter(move |column| column.kind == kind);
            Self {
                experiment: row.experiment.as_deref().unwrap_or_default(),
                table,
                figures: of_kind(ColumnKind::Number).map(|column| column.key.clone()).collect(),
                names: of_kind(ColumnKind::Text).map(|column| (column.key.clone(), known(&column.key))).collect(),
            }
        };
        if table == RunTable::Answers {
            let answer = config.answer.as_ref()?;
            return Some(of_columns(&answers_table(&[], answer).ok()?, &|key| of_answers(answer, key)));
        }
        let evaluate = config.evaluate.as_ref()?;
        let empty = match table {
            RunTable::Comparison => comparison_table(&[], evaluate),
            RunTable::Fidelity => {
                evaluate.fidelity_reference()?;
                fidelity_table(&[])
            }
            RunTable::Cost => cost_table(&[]),
            RunTable::Results | RunTable::Answers => results_table(&[], evaluate),
        };
        let mut reach = of_columns(&empty, &|key| of_ranking(evaluate, table, key));
        if table == RunTable::Results {
            reach.figures.splice(0..0, evaluate.measures.iter().map(ToString::to_string));
        }
        Some(reach)
    }

    fn check_where(&self, path: &str, asked: &BTreeMap<String, String>) -> Vec<Problem> {
        let check = |(key, value): (&String, &String)| {
            let path = format!("{path}.where.{key}");
            let Some((_, known)) = self.names.iter().find(|(own, _)| own == key) else {
                let keys: Vec<String> = self.names.iter().map(|(own, _)| own.clone()).collect();
                let message = format!("rows of `{}` are not told apart by `{key}`", self.table.name());
                return Some(Problem::new(path, message).hint(suggest(key, &keys)));
            };
            let known = known.as_ref().filter(|known| !known.contains(value))?;
            let message = format!("experiment `{}` has no `{value}` there", self.experiment);
            Some(Problem::new(path, message).hint(suggest(value, known)))
        };
        asked.iter().filter_map(check).collect()
    }
}

fn suggest(got: &str, known: &[String]) -> String {
    let names: Vec<&str> = known.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    suggestion(got, &names)
}

fn of_answers(answer: &AnswerConfig, key: &str) -> Option<Vec<String>> {
    let systems = answer.systems.iter();
    match key {
        "set" => Some(answer.sets.clone()),
        "model" => Some(systems.map(|system| system.name().to_owned()).collect()),
        "decoder" => Some(systems.flat_map(|system| &system.decoders).map(|kind| kind.name().to_owned()).collect()),
        _ => None,
    }
}

fn of_ranking(evaluate: &EvaluateConfig, table: RunTable, key: &str) -> Option<Vec<String>> {
    // The first stage has a row of results, which names no decoder.
    let first_stage = |name: &str| (table == RunTable::Results).then(|| name.to_owned()).into_iter();
    match key {
        "set" => Some(evaluate.sets.clone()),
        "model" => Some(first_stage("first stage").chain(evaluate.models.iter().cloned()).collect()),
        "decoder" => Some(first_stage("").chain(evaluate.decoders.iter().map(|decoder| decoder.name())).collect()),
        "measure" => Some(evaluate.measures.iter().map(|measure| measure.label()).collect()),
        _ => None,
    }
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

    fn found(rows: &str, columns: &str) -> Vec<String> {
        let text =
            format!("{{name: t, title: T, experiments: {{e: {{file: e.yaml}}}}, columns: {columns}, rows: {rows}}}");
        let table: PaperTable = serde_yaml::from_str(&text).unwrap();
        let mut config: ExperimentConfig =
            crate::config::decode::decode(serde_yaml::from_str(EXPERIMENT).unwrap()).unwrap();
        config.fill_in();
        let words =
            |problem: Problem| format!("{}: {} ({})", problem.path, problem.message, problem.hint.unwrap_or_default());
        check_rows(&table, &BTreeMap::from([("e".to_owned(), config)])).into_iter().map(words).collect()
    }

    const COLUMNS: &str =
        "[{key: n, label: N, from: ndcg_cut_10, where: {set: dl21}}, {key: mean, label: M, mean_of: [n]}]";

    const NAMED: &str = "{model: base, decoder: single_token}";

    fn row(asked: &str) -> String {
        format!("[{{label: a, experiment: e, where: {asked}}}]")
    }

    #[test]
    fn rows_that_the_experiment_has_are_fine() {
        for asked in ["{model: base, decoder: autoregressive}", "{model: first stage, decoder: ''}"] {
            assert_eq!(found(&row(asked), COLUMNS), [""; 0]);
        }
        let columns = "[{key: p_value, label: P, table: comparison, where: {measure: nDCG@10}}, {key: kemeny, label: K, table: fidelity},
            {key: latency_p95, label: L, table: cost}, {key: speedup, label: S}]";
        assert_eq!(found(&row(NAMED), columns), [""; 0]);
    }

    #[test]
    fn rows_that_it_cannot_have_are_named_with_what_it_has() {
        assert_eq!(
            found(&row("{model: untrained, decoder: single_tokn, modle: base}"), COLUMNS),
            [
                "rows[0].where.decoder: experiment `e` has no `single_tokn` there (did you mean `single_token`?)",
                "rows[0].where.model: experiment `e` has no `untrained` there (known here: `first stage`, `base`)",
                "rows[0].where.modle: rows of `results` are not told apart by `modle` (did you mean `model`?)",
            ]
        );
        let answers = "[{label: a, experiment: e, table: answers, where: {model: base, decoder: single_token}}]";
        assert_eq!(
            found(answers, COLUMNS)[0],
            "rows[0].table: experiment `e` has no section `answer`, so no table `answers` ()"
        );
    }

    #[test]
    fn columns_are_named_where_no_row_can_have_them() {
        let columns = "[{key: n, label: N, from: ndcg_cut_5, where: {set: dl22}}, {key: tau, label: T, from: kendal_tau, table: fidelity}]";
        let expected = [
            "columns[0].where.set: experiment `e` has no `dl22` there (did you mean `dl21`?)",
            "columns[0].from: `results` of experiment `e` has no column `ndcg_cut_5` (did you mean `ndcg_cut_10`?)",
            "columns[1].from: `fidelity` of experiment `e` has no column `kendal_tau` (did you mean `kendall_tau`?)",
        ];
        assert_eq!(found(&row(NAMED), columns), expected);
        let own = "[{key: kemeny, label: K, table: fidelity}]";
        assert_eq!(
            found("[{label: a, experiment: e, table: answers, where: {model: base, decoder: single_token}}]", own),
            [""; 0],
            "no column reads it"
        );
        let both = "[{label: a, experiment: e, where: {model: base, decoder: single_token}}, {label: b, experiment: e, table: fidelity, where: {model: base, decoder: single_token}}]";
        assert_eq!(found(both, "[{key: kemeny, label: K}, {key: ndcg_cut_10, label: N}]"), [""; 0]);
    }

    #[test]
    fn one_of_several_has_to_be_named() {
        assert_eq!(
            found(&row("{model: base}"), COLUMNS),
            [
                "columns[0]: experiment `e` has several decoders (single_token, autoregressive), and neither this column nor row `a` says which \
              (add `decoder: single_token` under `where`)"
            ]
        );
        assert_eq!(found(&row("{model: first stage}"), COLUMNS), [""; 0]);
    }
}
