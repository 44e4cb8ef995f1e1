//! `monopass metrics ..`: measures of files made elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::Context as _;
use data::{Qrels, TrecRun};
use evaluator::measures::RankingMeasure;
use evaluator::measures::squad::evaluate_squad;
use evaluator::measures::trec_eval::{Averaging, evaluate_run, judgements, ranked_lists};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::print_json;
use crate::cli::MetricsCommand;
use crate::failure::{InputError, UsageError};

/// Runs the command.
///
/// # Errors
/// When a file is missing or malformed, or nothing can be scored.
pub fn run(command: MetricsCommand) -> anyhow::Result<()> {
    match command {
        MetricsCommand::Ranking { qrels, run, measures, complete, level, json } => {
            ranking(&qrels, &run, &measures, complete, level, json)
        }
        MetricsCommand::Squad { dataset, predictions, json } => squad(&dataset, &predictions, json),
    }
}

fn ranking(
    qrels: &Path,
    run: &Path,
    measures: &[String],
    complete: bool,
    level: u32,
    as_json: bool,
) -> anyhow::Result<()> {
    let measures: Vec<RankingMeasure> = if measures.is_empty() {
        RankingMeasure::defaults()
    } else {
        let parse = |name: &String| {
            name.parse()
                .map_err(|error: evaluator::EvaluatorError| UsageError { message: error.to_string(), hint: None })
        };
        measures.iter().map(parse).collect::<Result<_, _>>()?
    };
    let qrels_table = Qrels::read(qrels)?;
    let run_table = TrecRun::read(run)?;
    let averaging = if complete { Averaging::Complete } else { Averaging::InRun };
    let evaluation = evaluate_run(&judgements(&qrels_table), &ranked_lists(&run_table), &measures, averaging, level)
        .with_context(|| format!("`{}` against `{}`", run.display(), qrels.display()))?;
    if evaluation.num_unjudged > 0 {
        tracing::warn!("{} queries of the run are not judged and do not count", evaluation.num_unjudged);
    }
    if !evaluation.missing.is_empty() {
        let count = if complete { "count as 0" } else { "do not count (`--complete` counts them as 0)" };
        tracing::warn!("{} judged queries are not in the run and {count}", evaluation.missing.len());
    }
    if !as_json {
        println!("{:<16} {}", "num_q", evaluation.num_queries);
        for measure in &measures {
            println!("{:<16} {:.4}", measure.to_string(), evaluation.mean[measure]);
        }
        return Ok(());
    }
    let mean: Map<String, Value> =
        measures.iter().map(|measure| (measure.to_string(), json!(evaluation.mean[measure]))).collect();
    let mut per_query: BTreeMap<&str, BTreeMap<String, f64>> = BTreeMap::new();
    for (measure, values) in &evaluation.per_query {
        for (query, value) in values {
            per_query.entry(query).or_default().insert(measure.to_string(), *value);
        }
    }
    print_json(&json!({
        "mean": mean,
        "num_queries": evaluation.num_queries,
        "missing": evaluation.missing,
        "num_unjudged": evaluation.num_unjudged,
        "per_query": per_query,
    }))
}

#[derive(Deserialize)]
struct SquadFile {
    data: Vec<SquadArticle>,
}
#[derive(Deserialize)]
struct SquadArticle {
    paragraphs: Vec<SquadParagraph>,
}
#[derive(Deserialize)]
struct SquadParagraph {
    qas: Vec<SquadQuestion>,
}
#[derive(Deserialize)]
struct SquadQuestion {
    id: String,
    answers: Vec<SquadAnswer>,
}
#[derive(Deserialize)]
struct SquadAnswer {
    text: String,
}

fn squad(dataset: &Path, predictions: &Path, as_json: bool) -> anyhow::Result<()> {
    let malformed = |path: &Path, error: &serde_json::Error, wanted: &str| {
        InputError::new(format!("{}:{}: {error}", path.display(), error.line()), format!("wanted {wanted}"))
    };
    let bytes = data::files::read_bytes(dataset)?;
    let file: SquadFile = serde_json::from_slice(&bytes).map_err(|error| {
        malformed(dataset, &error, "a SQuAD v1.1 file: `data[].paragraphs[].qas[].{id, answers[].text}`")
    })?;
    let bytes = data::files::read_bytes(predictions)?;
    let answers: HashMap<String, String> = serde_json::from_slice(&bytes)
        .map_err(|error| malformed(predictions, &error, "one object: question id to answer text"))?;
    let questions: Vec<(String, Vec<String>)> = file
        .data
        .into_iter()
        .flat_map(|article| article.paragraphs)
        .flat_map(|paragraph| paragraph.qas)
        .map(|question| (question.id, question.answers.into_iter().map(|answer| answer.text).collect()))
        .collect();
    if questions.is_empty() {
        return Err(
            InputError::new(format!("`{}` holds no questions", dataset.display()), "give a SQuAD v1.1 file").into()
        );
    }
    let evaluation = evaluate_squad(questions.iter().map(|(id, answers)| (id.as_str(), answers.as_slice())), &answers);
    if evaluation.missing > 0 {
        tracing::warn!(
            "{} of {} questions have no prediction and count as 0",
            evaluation.missing,
            evaluation.num_questions
        );
    }
    if as_json {
        return print_json(&json!({
            "exact_match": evaluation.exact_match,
            "f1": evaluation.f1,
            "total": evaluation.num_questions,
            "missing": evaluation.missing,
        }));
    }
    println!("exact_match {:.4}", evaluation.exact_match);
    println!("f1          {:.4}", evaluation.f1);
    println!("total       {}", evaluation.num_questions);
    Ok(())
}
