//! Query by query: where a system wins and loses against another, with what each put on top.

use std::collections::{BTreeMap, HashMap};

use data::RankingSample;
use serde::Serialize;

use crate::evaluate::{FIRST_STAGE, PredictionLine, first_stage_order};

/// Queries of a table at most: the page stays small.
const MAX_QUERIES: usize = 1000;
/// Wins, and losses, whose passages are shown.
const MAX_OPENED: usize = 12;
/// Passages of each order that are shown.
const MAX_PASSAGES: usize = 5;
/// Letters of a query, and of a passage.
const MAX_LETTERS: usize = 200;

/// A row of an evaluation, and where its orders are.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// As tables name it.
    pub label: &'a str,
    /// Decoder, [`FIRST_STAGE`] for the candidates as retrieval ranked them.
    pub decoder: &'a str,
    /// The measure per query.
    pub values: &'a [f64],
    /// Its model's predictions.
    pub lines: &'a [PredictionLine],
    /// The set as its run prepared it, which `lines` count in: another run may hold other candidates, or the same in another order.
    pub samples: &'a [RankingSample],
}

/// A question about a text, what two systems answered, and the F1 of both.
#[derive(Debug, Clone, Copy)]
pub struct AnsweredQuestion<'a> {
    /// Its id, unique in the set.
    pub id: &'a str,
    /// The question.
    pub question: &'a str,
    /// Accepted answers.
    pub accepted: &'a [String],
    /// F1 and answer of the system.
    pub own: (f64, &'a str),
    /// F1 and answer of the baseline.
    pub baseline: (f64, &'a str),
}

/// One system against another on the queries of a set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QueryDifferences {
    set: String,
    measure: String,
    system: String,
    baseline: String,
    wins: usize,
    ties: usize,
    losses: usize,
    /// How many queries between the greatest wins and losses are not in `rows`.
    left_out: usize,
    /// Greatest win first.
    rows: Vec<QueryRow>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct QueryRow {
    id: String,
    query: String,
    own: f64,
    baseline: f64,
    difference: f64,
    /// On top in the system's order and in the baseline's; empty where the row is not opened.
    orders: Vec<(String, Vec<TopPassage>)>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct TopPassage {
    id: String,
    text: String,
    label: Option<i32>,
}

impl QueryDifferences {
    /// Of `queries`, in the order of both sides' values.
    #[must_use]
    pub fn of(set: &str, measure: &str, (system, baseline): (Side<'_>, Side<'_>), queries: &[String]) -> Self {
        let texts = samples_by_query(&system);
        let rows: Vec<QueryRow> = queries
            .iter()
            .zip(system.values.iter().zip(baseline.values))
            .map(|(id, (own, baseline))| QueryRow {
                id: id.clone(),
                query: texts.get(id.as_str()).map_or_else(String::new, |sample| shortened(&sample.query)),
                own: *own,
                baseline: *baseline,
                difference: own - baseline,
                orders: Vec::new(),
            })
            .collect();
        let sides = [&system, &baseline].map(|side| (side, by_query(side.lines), samples_by_query(side)));
        let open = |id: &str| {
            let tops = sides.iter().filter_map(|(side, lines, samples)| {
                Some((side.label.to_owned(), top(side, lines, samples.get(id)?)?))
            });
            Some(tops.collect())
        };
        Self::assemble(set, measure, (system.label, baseline.label), rows, open)
    }

    /// Of questions about texts, by the F1 of their answers.
    #[must_use]
    pub fn of_answers(set: &str, (system, baseline): (&str, &str), questions: &[AnsweredQuestion<'_>]) -> Self {
        let rows = questions.iter().map(|question| QueryRow {
            id: question.id.to_owned(),
            query: shortened(question.question),
            own: question.own.0,
            baseline: question.baseline.0,
            difference: question.own.0 - question.baseline.0,
            orders: Vec::new(),
        });
        let by_id: HashMap<&str, &AnsweredQuestion<'_>> = questions.iter().map(|own| (own.id, own)).collect();
        let shown = |text: &str| TopPassage { id: String::new(), text: shortened(text), label: None };
        let open = |id: &str| {
            let question = by_id.get(id)?;
            Some(vec![
                (system.to_owned(), vec![shown(question.own.1)]),
                (baseline.to_owned(), vec![shown(question.baseline.1)]),
                ("accepted".to_owned(), question.accepted.iter().map(|text| shown(text)).collect()),
            ])
        };
        Self::assemble(set, "F1", (system, baseline), rows.collect(), open)
    }

    /// Sorts and counts; opens the greatest wins and losses.
    fn assemble(
        set: &str,
        measure: &str,
        (system, baseline): (&str, &str),
        mut rows: Vec<QueryRow>,
        open: impl Fn(&str) -> Option<Vec<(String, Vec<TopPassage>)>>,
    ) -> Self {
        rows.sort_by(|a, b| b.difference.total_cmp(&a.difference).then_with(|| a.id.cmp(&b.id)));
        let count = |holds: fn(f64) -> bool| rows.iter().filter(|row| holds(row.difference)).count();
        let (wins, losses) = (count(|d| d > 0.0), count(|d| d < 0.0));
        let ties = rows.len() - wins - losses;
        let left_out = rows.len().saturating_sub(MAX_QUERIES);
        if left_out > 0 {
            rows.drain(MAX_QUERIES / 2..MAX_QUERIES / 2 + left_out);
        }
        let last = rows.len();
        for (place, row) in rows.iter_mut().enumerate() {
            let among_wins = row.difference > 0.0 && place < MAX_OPENED;
            let among_losses = row.difference < 0.0 && place + MAX_OPENED >= last;
            if among_wins || among_losses {
                row.orders = open(&row.id).unwrap_or_default();
            }
        }
        Self {
            set: set.to_owned(),
            measure: measure.to_owned(),
            system: system.to_owned(),
            baseline: baseline.to_owned(),
            wins,
            ties,
            losses,
            left_out,
            rows,
        }
    }
}

fn by_query(lines: &[PredictionLine]) -> BTreeMap<&str, &PredictionLine> {
    lines.iter().map(|line| (line.query_id.as_str(), line)).collect()
}

fn samples_by_query<'a>(side: &Side<'a>) -> HashMap<&'a str, &'a RankingSample> {
    side.samples.iter().map(|sample| (sample.query_id.as_str(), sample)).collect()
}

fn top(side: &Side<'_>, lines: &BTreeMap<&str, &PredictionLine>, sample: &RankingSample) -> Option<Vec<TopPassage>> {
    let order: Vec<usize> = if side.decoder == FIRST_STAGE {
        first_stage_order(sample)
    } else {
        let line = lines.get(sample.query_id.as_str())?;
        let own = line.decoders.iter().find(|own| own.decoder == side.decoder)?;
        own.ranking.order.iter().map(|item| usize::from(*item)).collect()
    };
    let passages = order.into_iter().take(MAX_PASSAGES).filter_map(|item| sample.passages.get(item));
    let shown = |passage: &data::Passage| TopPassage {
        id: passage.doc_id.clone(),
        text: shortened(&format!("{} {}", passage.title, passage.text)),
        label: passage.label,
    };
    Some(passages.map(shown).collect())
}

/// In one line, cut between letters.
fn shortened(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.chars().count() <= MAX_LETTERS {
        return words;
    }
    words.chars().take(MAX_LETTERS - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(id: usize) -> RankingSample {
        let passage = |n: usize| data::Passage {
            doc_id: format!("d{n}"),
            title: String::new(),
            text: format!("passage {n} {}", "long ".repeat(100)),
            first_stage_score: None,
            label: Some(i32::from(n == 1)),
        };
        RankingSample {
            query_id: format!("q{id}"),
            query: format!("query {id}"),
            passages: (0..3).map(passage).collect(),
            target: None,
            origin: String::new(),
        }
    }

    fn differences(own: &[f64], base: &[f64]) -> QueryDifferences {
        let samples: Vec<RankingSample> = (0..own.len()).map(sample).collect();
        let queries: Vec<String> = samples.iter().map(|sample| sample.query_id.clone()).collect();
        let side = |label, values| Side { label, decoder: FIRST_STAGE, values, lines: &[], samples: &samples };
        QueryDifferences::of("dev", "nDCG@10", (side("new", own), side("old", base)), &queries)
    }

    #[test]
    fn each_side_shows_the_candidates_of_its_own_run() {
        let (mine, mut theirs) = ([sample(0)], [sample(0)]);
        theirs[0].passages.reverse();
        let side = |label, values, samples| Side { label, decoder: FIRST_STAGE, values, lines: &[], samples };
        let sides = (side("new", &[1.0], &mine), side("old", &[0.5], &theirs));
        let found = QueryDifferences::of("dev", "nDCG@10", sides, &["q0".to_owned()]);
        let first = |place: usize| found.rows[0].orders[place].1[0].id.as_str();
        assert_eq!((first(0), first(1)), ("d0", "d2"));
    }

    #[test]
    fn greatest_wins_come_first_and_are_opened() {
        let found = differences(&[0.5, 1.0, 0.0, 0.5], &[0.5, 0.0, 0.5, 0.4]);
        assert_eq!((found.wins, found.ties, found.losses, found.left_out), (2, 1, 1, 0));
        let ids: Vec<&str> = found.rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(ids, ["q1", "q3", "q0", "q2"]);
        assert!(found.rows[2].orders.is_empty(), "a tie is not opened");
        let (label, passages) = &found.rows[0].orders[0];
        assert_eq!((label.as_str(), passages.len(), passages[1].label), ("new", 3, Some(1)));
        assert!(passages[0].text.ends_with('…') && passages[0].text.chars().count() == MAX_LETTERS);
    }

    #[test]
    fn answers_are_opened_beside_the_accepted_ones() {
        let accepted = ["the <b>cat</b>".to_owned(), "cat".to_owned()];
        let question =
            |id, own, baseline| AnsweredQuestion { id, question: "who?", accepted: &accepted, own, baseline };
        let questions = [question("q1", (0.0, "dog"), (1.0, "cat")), question("q2", (0.5, "a cat"), (0.5, "my cat"))];
        let found = QueryDifferences::of_answers("dev", ("new", "old"), &questions);
        assert_eq!((found.wins, found.ties, found.losses), (0, 1, 1));
        let lost = found.rows.iter().find(|row| row.id == "q1").unwrap();
        let shown: Vec<(&str, &str)> =
            lost.orders.iter().map(|(label, texts)| (label.as_str(), texts[0].text.as_str())).collect();
        assert_eq!(shown, [("new", "dog"), ("old", "cat"), ("accepted", "the <b>cat</b>")]);
        let page = super::super::Report { differences: vec![found], ..Default::default() }.render().unwrap();
        assert!(page.contains("the &lt;b&gt;cat") && !page.contains("the <b>cat"), "answers are no markup");
    }

    #[test]
    fn the_first_stage_is_shown_by_its_scores() {
        let mut shuffled = sample(0);
        for (passage, score) in shuffled.passages.iter_mut().zip([1.0, 3.0, 1.0]) {
            passage.first_stage_score = Some(score);
        }
        let side = Side { label: "bm25", decoder: FIRST_STAGE, values: &[], lines: &[], samples: &[] };
        let ids: Vec<String> = top(&side, &BTreeMap::new(), &shuffled).unwrap().into_iter().map(|p| p.id).collect();
        assert_eq!(ids, ["d1", "d2", "d0"], "ties from the last id to the first, as trec_eval");
    }

    #[test]
    fn of_very_many_queries_the_middle_is_left_out() {
        let own: Vec<f64> = (0..2500).map(|i| f64::from(i % 100) / 100.0).collect();
        let found = differences(&own, &vec![0.5; 2500]);
        assert_eq!((found.rows.len(), found.left_out), (1000, 1500));
        assert_eq!((found.wins, found.ties, found.losses), (49 * 25, 25, 50 * 25));
        assert!(found.rows[0].difference > 0.48 && found.rows[999].difference == -0.5);
    }
}
