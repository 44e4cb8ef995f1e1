//! The best row of several runs beside the row it is compared with, query by query.

use super::result::FIRST_STAGE;
use super::runs::{
    RowName, RunBaseline, RunEvaluations, Source, baseline_of, distinct, shared_queries, sources, values, wanted,
};
use crate::measures::RankingMeasure;
use crate::stats::mean;

/// Two rows on the queries of a set that all runs have.
#[derive(Debug, Clone, PartialEq)]
pub struct RunPair {
    /// Set.
    pub set: String,
    /// The first measure that every row has, of those asked for.
    pub measure: RankingMeasure,
    /// Ids of the queries.
    pub queries: Vec<String>,
    /// The best row that is compared with another one, and its value of each query.
    pub own: (RowName, Vec<f64>),
    /// The other one.
    pub baseline: (RowName, Vec<f64>),
}

/// A pair for every set that [`runs_table`](super::runs_table) compares; none where no row but the first stage has a baseline.
#[must_use]
pub fn best_pairs(runs: &[RunEvaluations], baseline: &RunBaseline, measures: &[RankingMeasure]) -> Vec<RunPair> {
    let sets = distinct(runs.iter().flat_map(|run| &run.evaluations).map(|evaluation| &evaluation.set));
    let in_all = |set: &&str| runs.iter().all(|run| run.evaluations.iter().any(|own| own.set == *set));
    sets.into_iter().filter(in_all).filter_map(|set| best_pair(runs, set, baseline, measures)).collect()
}

fn best_pair(
    runs: &[RunEvaluations],
    set: &str,
    baseline: &RunBaseline,
    measures: &[RankingMeasure],
) -> Option<RunPair> {
    let sources = sources(runs, set);
    let shared = shared_queries(&sources);
    let measure = *wanted(&sources, measures).first()?;
    // `max_by` takes the last of equals, the tables name the first.
    let rows = sources.iter().rev().filter(|source| source.row.decoder != FIRST_STAGE);
    let paired = rows.filter_map(|own| {
        let base = baseline_of(&sources, *own, baseline)?;
        Some((*own, values(*own, &shared, measure), base))
    });
    let (own, own_values, base) =
        paired.filter(|_| shared.len() > 1).max_by(|(_, a, _), (_, b, _)| mean(a).total_cmp(&mean(b)))?;
    let base_values = values(base, &shared, measure);
    let name = |source: Source<'_>| RowName {
        run: source.run.to_owned(),
        model: source.evaluation.model.clone(),
        decoder: source.row.decoder.clone(),
    };
    Some(RunPair {
        set: set.to_owned(),
        measure,
        queries: shared.into_iter().map(str::to_owned).collect(),
        own: (name(own), own_values),
        baseline: (name(base), base_values),
    })
}
