//! trec_eval's measures, rule for rule.
//!
//! A list is ordered by score as float32 (trec_eval up to 9.0.8, with which the published numbers were made),
//! descending; equal scores by document id in byte order, descending. The rank column of a run plays no part.
//! Grades below 1 gain nothing; a document without a judgement counts as not relevant, as does one below the level asked for.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::RankingMeasure;
use crate::EvaluatorError;

/// Grades by query id and document id.
pub type Judgements = BTreeMap<String, HashMap<String, i32>>;
/// (document id, score) by query id, in any order.
pub type RankedLists = BTreeMap<String, Vec<(String, f64)>>;

/// Which queries a mean is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Averaging {
    /// All judged queries; one that the run lacks counts 0 (trec_eval's `-c`).
    Complete,
    /// Queries that are in the run and judged (trec_eval without `-c`): a query that failed vanishes from the mean.
    InRun,
}

/// Values of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunEvaluation {
    /// By measure, then by query id: every query the mean is taken over.
    pub per_query: BTreeMap<RankingMeasure, BTreeMap<String, f64>>,
    /// By measure.
    pub mean: BTreeMap<RankingMeasure, f64>,
    /// Queries the means are taken over.
    pub num_queries: usize,
    /// Judged queries that the run lacks.
    pub missing: Vec<String>,
    /// Queries of the run without any judgement; never counted.
    pub num_unjudged: usize,
}

impl RunEvaluation {
    /// Of a run of which no query is judged.
    #[must_use]
    pub fn unjudged(num_queries: usize) -> Self {
        Self {
            per_query: BTreeMap::new(),
            mean: BTreeMap::new(),
            num_queries: 0,
            missing: Vec::new(),
            num_unjudged: num_queries,
        }
    }
}

/// Scores every query. A document is relevant from grade `relevance_level` on (trec_eval's `-l`; at least 1), for every measure but nDCG, which takes
/// grades as gains.
///
/// # Errors
/// A document twice in a query's list, a score that is not a number, no query to take a mean over.
pub fn evaluate_run(
    judgements: &Judgements,
    run: &RankedLists,
    measures: &[RankingMeasure],
    averaging: Averaging,
    relevance_level: u32,
) -> Result<RunEvaluation, EvaluatorError> {
    let missing: Vec<String> = judgements.keys().filter(|query| !run.contains_key(*query)).cloned().collect();
    let mut per_query: BTreeMap<_, BTreeMap<String, f64>> = measures.iter().map(|m| (*m, BTreeMap::new())).collect();
    let mut num_queries = 0;
    for (query, grades) in judgements {
        let list = match (run.get(query), averaging) {
            (Some(list), _) => list.as_slice(),
            (None, Averaging::Complete) => &[],
            (None, Averaging::InRun) => continue,
        };
        let judged = JudgedList::new(query, list, grades, relevance_level)?;
        num_queries += 1;
        for (measure, values) in &mut per_query {
            values.insert(query.clone(), judged.value(*measure));
        }
    }
    if num_queries == 0 {
        return Err(EvaluatorError::NothingToScore { judged: judgements.len(), retrieved: run.len() });
    }
    let mean = per_query.iter().map(|(m, values)| (*m, values.values().sum::<f64>() / num_queries as f64)).collect();
    let num_unjudged = run.keys().filter(|query| !judgements.contains_key(*query)).count();
    Ok(RunEvaluation { per_query, mean, num_queries, missing, num_unjudged })
}

/// Judgements of a qrels file as a plain map.
#[must_use]
pub fn judgements(qrels: &data::Qrels) -> Judgements {
    let grades = |query: &str| qrels.judged(query).cloned().unwrap_or_default();
    qrels.queries().map(|query| (query.to_owned(), grades(query))).collect()
}

/// Lists of a run file as a plain map.
#[must_use]
pub fn ranked_lists(run: &data::TrecRun) -> RankedLists {
    let list = |query: &str| {
        let entries = run.entries(query).unwrap_or_default();
        entries.iter().map(|entry| (entry.doc_id.clone(), entry.score)).collect()
    };
    run.queries().map(|query| (query.to_owned(), list(query))).collect()
}

/// Documents in an order already decided, best first: scores n, n-1, ... that no tie rule can touch.
#[must_use]
pub fn scored_in_order<'a>(doc_ids: impl ExactSizeIterator<Item = &'a str>) -> Vec<(String, f64)> {
    let n = doc_ids.len();
    doc_ids.enumerate().map(|(place, id)| (id.to_owned(), (n - place) as f64)).collect()
}

/// Places in `list` in the order in which trec_eval reads documents with these scores: highest first in single precision, ties
/// by document id from the last to the first.
#[must_use]
pub fn order_of(list: &[(String, f64)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..list.len()).collect();
    // -0.0 and 0.0 are a tie, so partial_cmp
    let compare = |(a, x): &(String, f64), (b, y): &(String, f64)| {
        (*y as f32).partial_cmp(&(*x as f32)).unwrap_or(std::cmp::Ordering::Equal).then_with(|| b.cmp(a))
    };
    order.sort_by(|a, b| compare(&list[*a], &list[*b]));
    order
}

/// One query's list as grades.
struct JudgedList {
    /// Grade of each retrieved document, best place first; `None` when not judged.
    retrieved: Vec<Option<i32>>,
    /// Positive grades of all judged documents, highest first.
    ideal: Vec<i32>,
    /// From this grade on a document is relevant.
    level: i32,
    num_relevant: usize,
    /// Documents judged, and not relevant; grades below 0 count as unjudged.
    num_nonrelevant: usize,
}

impl JudgedList {
    fn new(
        query: &str,
        list: &[(String, f64)],
        grades: &HashMap<String, i32>,
        relevance_level: u32,
    ) -> Result<Self, EvaluatorError> {
        let mut seen = HashSet::with_capacity(list.len());
        for (document, score) in list {
            if !seen.insert(document.as_str()) {
                return Err(EvaluatorError::DuplicateDocument { query: query.into(), document: document.clone() });
            }
            if score.is_nan() {
                return Err(EvaluatorError::ScoreNotANumber { query: query.into(), document: document.clone() });
            }
        }
        let mut ideal: Vec<i32> = grades.values().copied().filter(|grade| *grade > 0).collect();
        ideal.sort_unstable_by_key(|grade| std::cmp::Reverse(*grade));
        let level = i32::try_from(relevance_level.max(1)).unwrap_or(i32::MAX);
        Ok(Self {
            retrieved: order_of(list).into_iter().map(|item| grades.get(&list[item].0).copied()).collect(),
            num_relevant: grades.values().filter(|grade| **grade >= level).count(),
            num_nonrelevant: grades.values().filter(|grade| (0..level).contains(*grade)).count(),
            ideal,
            level,
        })
    }

    fn value(&self, measure: RankingMeasure) -> f64 {
        match measure {
            RankingMeasure::Ndcg => self.ndcg(usize::MAX),
            RankingMeasure::NdcgCut(k) => self.ndcg(k as usize),
            RankingMeasure::Map => self.average_precision(usize::MAX),
            RankingMeasure::MapCut(k) => self.average_precision(k as usize),
            RankingMeasure::RecipRank => self.first_relevant().map_or(0.0, |place| 1.0 / (place + 1) as f64),
            RankingMeasure::Recall(k) => share(self.relevant_within(k as usize), self.num_relevant),
            RankingMeasure::RecallCap(k) => share(self.relevant_within(k as usize), self.num_relevant.min(k as usize)),
            RankingMeasure::Precision(k) => share(self.relevant_within(k as usize), k as usize),
            RankingMeasure::Success(k) => f64::from(self.relevant_within(k as usize) > 0),
            RankingMeasure::RPrec => share(self.relevant_within(self.num_relevant), self.num_relevant),
            RankingMeasure::Bpref => self.bpref(),
        }
    }

    fn is_relevant(&self, grade: Option<i32>) -> bool {
        grade.is_some_and(|grade| grade >= self.level)
    }

    fn relevant_within(&self, k: usize) -> usize {
        self.retrieved.iter().take(k).filter(|grade| self.is_relevant(**grade)).count()
    }

    fn first_relevant(&self) -> Option<usize> {
        self.retrieved.iter().position(|grade| self.is_relevant(*grade))
    }

    fn ndcg(&self, k: usize) -> f64 {
        let gained = discounted(self.retrieved.iter().take(k).map(|grade| grade.unwrap_or(0).max(0)));
        let ideal = discounted(self.ideal.iter().take(k).copied());
        if ideal > 0.0 { gained / ideal } else { 0.0 }
    }

    fn average_precision(&self, k: usize) -> f64 {
        let mut relevant = 0usize;
        let mut sum = 0.0;
        for (place, grade) in self.retrieved.iter().take(k).enumerate() {
            if self.is_relevant(*grade) {
                relevant += 1;
                sum += relevant as f64 / (place + 1) as f64;
            }
        }
        share_of(sum, self.num_relevant)
    }

    /// Buckley and Voorhees 2004, in trec_eval's form: the bound of both counts is min(R, N).
    fn bpref(&self) -> f64 {
        let num_relevant = self.num_relevant;
        let mut nonrelevant_above = 0usize;
        let mut sum = 0.0;
        for grade in &self.retrieved {
            match grade {
                Some(grade) if (0..self.level).contains(grade) => nonrelevant_above += 1,
                Some(grade) if *grade >= self.level => {
                    let wrong = share(nonrelevant_above.min(num_relevant), self.num_nonrelevant.min(num_relevant));
                    sum += 1.0 - wrong;
                }
                _ => {}
            }
        }
        share_of(sum, num_relevant)
    }
}

fn share(part: usize, whole: usize) -> f64 {
    share_of(part as f64, whole)
}

fn share_of(part: f64, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part / whole as f64 }
}

fn discounted(gains: impl Iterator<Item = i32>) -> f64 {
    // not `sum`: that of nothing is -0
    gains.enumerate().fold(0.0, |sum, (place, gain)| sum + f64::from(gain) / ((place + 2) as f64).log2())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        measures: Vec<RankingMeasure>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        qrels: Judgements,
        run: BTreeMap<String, BTreeMap<String, f64>>,
        per_query: BTreeMap<String, BTreeMap<RankingMeasure, f64>>,
    }

    #[test]
    fn equal_to_pytrec_eval() {
        let golden: Golden =
            serde_json::from_str(include_str!("../../../tests/golden/evaluator/trec_eval.json")).unwrap();
        let mut compared = 0;
        for case in &golden.cases {
            let run = case.run.iter().map(|(q, list)| (q.clone(), list.clone().into_iter().collect())).collect();
            let ours = evaluate_run(&case.qrels, &run, &golden.measures, Averaging::InRun, 1).unwrap();
            assert_eq!(ours.num_queries, case.per_query.len());
            for (query, values) in &case.per_query {
                for (measure, value) in values {
                    let got = ours.per_query[measure][query];
                    assert!((got - value).abs() < 1e-6, "{measure} of {query}: {got}, pytrec_eval says {value}");
                    compared += 1;
                }
            }
            let complete = evaluate_run(&case.qrels, &run, &golden.measures, Averaging::Complete, 1).unwrap();
            assert_eq!(complete.num_queries, case.qrels.len());
            for (measure, mean) in &complete.mean {
                let sum: f64 = case.per_query.values().map(|values| values[measure]).sum();
                assert!((mean - sum / case.qrels.len() as f64).abs() < 1e-6, "{measure}");
            }
        }
        assert!(compared > 800, "{compared} values compared");
    }

    fn one_query(list: &[(&str, f64)]) -> RankedLists {
        BTreeMap::from([("q".into(), list.iter().map(|(id, score)| ((*id).to_owned(), *score)).collect())])
    }

    #[test]
    fn scores_that_differ_only_beyond_float32_are_ties() {
        let judgements = BTreeMap::from([("q".into(), HashMap::from([("b".to_owned(), 1)]))]);
        let run = one_query(&[("a", 1.0 + 1e-12), ("b", 1.0)]);
        let mean = evaluate_run(&judgements, &run, &[RankingMeasure::RecipRank], Averaging::Complete, 1).unwrap().mean;
        assert_eq!(mean[&RankingMeasure::RecipRank], 1.0, "b comes before a: equal scores, descending ids");
    }

    /// By hand, as trec_eval's `-l2` counts: grade 1 is judged and not relevant.
    #[test]
    fn a_higher_level_leaves_ndcg_as_it_is() {
        let judgements = BTreeMap::from([(
            "q".into(),
            HashMap::from([("a", 1), ("b", 2), ("c", 0)].map(|(id, g)| (id.to_owned(), g))),
        )]);
        let run = one_query(&[("a", 3.0), ("b", 2.0), ("c", 1.0)]);
        let measures = [
            RankingMeasure::Map,
            RankingMeasure::RecipRank,
            RankingMeasure::Precision(2),
            RankingMeasure::Recall(1),
            RankingMeasure::RPrec,
            RankingMeasure::Bpref,
            RankingMeasure::Ndcg,
        ];
        let at = |level| {
            let mean = evaluate_run(&judgements, &run, &measures, Averaging::Complete, level).unwrap().mean;
            measures.map(|measure| mean[&measure])
        };
        let ndcg = (1.0 + 2.0 / 3f64.log2()) / (2.0 + 1.0 / 3f64.log2());
        assert_eq!(at(1), [1.0, 1.0, 1.0, 0.5, 1.0, 1.0, ndcg]);
        // One document of grade 1 stands above the only relevant one: bpref 1 - min(1, 1) / min(1, 2).
        assert_eq!(at(2), [0.5, 0.5, 0.5, 0.0, 0.0, 0.0, ndcg]);
    }

    #[test]
    fn capped_recall_is_of_as_many_as_fit() {
        let grades = ["a", "b", "c", "d"].map(|id| (id.to_owned(), i32::from(id != "d")));
        let judgements = BTreeMap::from([("q".into(), HashMap::from(grades))]);
        let run = one_query(&[("a", 3.0), ("d", 2.0), ("b", 1.0)]);
        let measures = [RankingMeasure::Recall(2), RankingMeasure::RecallCap(2), RankingMeasure::RecallCap(100)];
        let mean = evaluate_run(&judgements, &run, &measures, Averaging::Complete, 1).unwrap().mean;
        assert_eq!(measures.map(|measure| mean[&measure]), [1.0 / 3.0, 1.0 / 2.0, 2.0 / 3.0]);
    }

    #[test]
    fn errors_name_query_and_document() {
        let judgements = BTreeMap::from([("q".into(), HashMap::from([("a".to_owned(), 1)]))]);
        let score = |list: &[(&str, f64)]| {
            evaluate_run(&judgements, &one_query(list), &[RankingMeasure::Map], Averaging::InRun, 1)
        };
        assert!(score(&[("a", 1.0), ("a", 2.0)]).unwrap_err().to_string().contains("`a`"));
        assert!(score(&[("a", f64::NAN)]).unwrap_err().to_string().contains("not a number"));
        let other = evaluate_run(&Judgements::new(), &one_query(&[]), &[RankingMeasure::Map], Averaging::Complete, 1);
        assert!(other.unwrap_err().to_string().contains("0 judged"));
    }
}
