//! The page of a sweep: its table, quality against seconds, what the runs learned.

use std::collections::BTreeMap;

use evaluator::report::{LabelledPoint, Report, StageCurves, TradeOff};
use evaluator::table::{Cell, Column, ColumnKind, Table};

use super::jobs::Job;
use super::run::JobEnd;
use crate::origin::{PROGRAM, command};

/// Stages whose curves are shown: more would make a page that is slow to open.
const MOST_STAGES: usize = 12;

/// Columns that tell seconds, in the tables of a run.
const SECONDS: [&str; 2] = ["latency_median", "seconds"];

/// Of the runs that are done; `table` is [`super::table::combined`].
///
/// # Errors
/// Metrics of a run that cannot be read.
pub fn page(sweep: &str, jobs: &[Job], ends: &[JobEnd], table: &Table) -> anyhow::Result<Report> {
    let mut stages = Vec::new();
    for (job, _) in jobs.iter().zip(ends).filter(|(_, end)| **end == JobEnd::Done) {
        let names = std::fs::read_dir(job.folder.root().join("train")).into_iter().flatten().flatten();
        let mut names: Vec<_> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        for stage in names {
            let metrics = job.folder.train(&stage).join("metrics.jsonl");
            if metrics.exists() {
                stages.push(StageCurves::read(&format!("{} · {stage}", job.name), &metrics)?);
            }
        }
    }
    let left_out = stages.len().saturating_sub(MOST_STAGES);
    stages.truncate(MOST_STAGES);
    let curves = if left_out > 0 { format!(" Curves of {left_out} more stages are there.") } else { String::new() };
    let done = ends.iter().filter(|end| **end == JobEnd::Done).count();
    Ok(Report {
        title: sweep.to_owned(),
        summary: format!(
            "{done} of {} runs are done. Each has a page of its own: `RUN/report.html` beside this one.{curves}",
            jobs.len()
        ),
        trade_offs: trade_offs(table, jobs),
        stages,
        tables: vec![table.clone()],
        environment: vec![("program".to_owned(), PROGRAM.to_owned()), ("command".to_owned(), command())],
        ..Report::default()
    })
}

/// A plot for each set: the first figure against seconds, a point for each row and a colour for each run.
fn trade_offs(table: &Table, jobs: &[Job]) -> Vec<TradeOff> {
    let place = |key: &str| table.columns.iter().position(|column| column.key == key);
    let seconds = SECONDS.iter().find_map(|key| place(key));
    // Of a table of costs there is none.
    let is_first = |column: &Column| column.kind == ColumnKind::Number && !SECONDS.contains(&column.key.as_str());
    let own = table.columns.iter().position(is_first).filter(|own| seconds.is_some_and(|seconds| *own < seconds));
    let (Some(seconds), Some(quality), Some(set)) = (seconds, own, place("set")) else { return Vec::new() };
    let mut sets: BTreeMap<&str, Vec<LabelledPoint>> = BTreeMap::new();
    for row in &table.rows {
        let (Cell::Value(value), Cell::Value(time), Cell::Text(of)) = (&row[quality], &row[seconds], &row[set]) else {
            continue;
        };
        sets.entry(of).or_default().push(LabelledPoint {
            label: label(table, row, jobs),
            group: words(&row[0]).to_owned(),
            seconds: time.value,
            value: value.value,
            interval: value.interval,
        });
    }
    let measure = &table.columns[quality].label;
    let plot = |(set, points): (&str, Vec<LabelledPoint>)| {
        (points.len() > 1).then(|| TradeOff {
            set: set.to_owned(),
            measure: measure.clone(),
            points,
            first_stage: None,
        })
    };
    sets.into_iter().filter_map(plot).collect()
}

/// What tells a row from the others: the swept values, model and decoder where they differ.
fn label(table: &Table, row: &[Cell], jobs: &[Job]) -> String {
    let swept: Vec<&str> = jobs.iter().flat_map(|job| &job.values).map(|(key, _)| key.as_str()).collect();
    let tells = |key: &str| swept.contains(&key) || ["model", "decoder"].contains(&key);
    let mut parts = Vec::new();
    for (place, column) in table.columns.iter().enumerate().filter(|(_, column)| tells(&column.key)) {
        let own = words(&row[place]);
        if table.rows.iter().any(|other| words(&other[place]) != own) {
            parts.push(if swept.contains(&column.key.as_str()) {
                format!("{} {own}", column.label)
            } else {
                own.to_owned()
            });
        }
    }
    parts.join(" · ")
}

fn words(cell: &Cell) -> &str {
    if let Cell::Text(text) = cell { text } else { "" }
}
