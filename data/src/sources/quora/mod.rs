//! Duplicate questions from Quora Question Pairs (2017): a question, its duplicate, and BM25's hard negatives.
//!
//! One list a pair: the query is `question1`, the candidate with label 1 `question2`, the others the questions that BM25
//! finds for the query among all `question2` of the file. What is known to be a duplicate of the query, also by way of
//! other pairs, is never a negative; questions are the same when their words are.

mod groups;

use std::collections::HashMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Sink;
use super::tsv::{Column, Rows, for_each_record};
use crate::bm25::{Bm25Document, Bm25Index};
use crate::random::Stream;
use crate::report::SetReport;
use crate::{DataError, Passage, RankingSample};
use groups::DuplicateGroups;

/// How pairs become lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuoraConfig {
    /// Tab-separated pairs with a header that has `question1` and `question2` (`.gz` works). With a column `is_duplicate`,
    /// the second question of other pairs serves as a negative only.
    pub path: PathBuf,
    /// Candidates a question, the duplicate being one. Default: 25.
    #[serde(default = "twenty_five")]
    pub num_candidates: usize,
    /// Pairs used at most, drawn at random with `seed`. Default: all.
    #[serde(default)]
    pub max_questions: Option<usize>,
    /// Any integer, for the draws and the order of the candidates. Default: 0.
    #[serde(default)]
    pub seed: u64,
}

fn twenty_five() -> usize {
    25
}

/// A row that names duplicates.
struct Pair {
    line: u64,
    query: String,
    /// Place among the candidates of the file.
    duplicate: usize,
    /// Group of both.
    node: usize,
}

/// A question that lists can hold.
struct Question {
    /// Line it first stands on.
    doc_id: String,
    text: String,
    node: usize,
}

/// What the file holds.
#[derive(Default)]
struct Questions {
    pairs: Vec<Pair>,
    /// All second questions, none twice.
    pool: Vec<Question>,
    /// Place in the pool of a group node.
    places: HashMap<usize, usize>,
    groups: DuplicateGroups,
}

impl QuoraConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.num_candidates < 2 {
            problems.push(format!("`quora.num_candidates` is {}; ranking needs at least 2", self.num_candidates));
        }
        if self.max_questions == Some(0) {
            problems
                .push("`quora.max_questions` is 0: no list would be left; leave it out or give at least 1".to_owned());
        }
        problems
    }

    pub(super) fn read(&self, sink: &mut Sink<'_>) -> Result<(), DataError> {
        let questions = self.questions(sink)?;
        let index = Bm25Index::build(questions.pool.iter().map(|question| Bm25Document {
            doc_id: &question.doc_id,
            text: &question.text,
            group: "",
        }))?;
        let places: HashMap<&str, usize> =
            questions.pool.iter().enumerate().map(|(place, question)| (question.doc_id.as_str(), place)).collect();
        // Duplicates that a search may find before enough others: so many more are asked for.
        let mut duplicates: HashMap<usize, usize> = HashMap::new();
        for question in &questions.pool {
            *duplicates.entry(questions.groups.of(question.node)).or_default() += 1;
        }
        for number in self.chosen(questions.pairs.len()) {
            let pair = &questions.pairs[number];
            let group = questions.groups.of(pair.node);
            let wanted = self.num_candidates - 1 + duplicates.get(&group).copied().unwrap_or_default();
            let found = index.search(&pair.query, wanted, None)?;
            let found: Vec<(usize, f32)> = found.into_iter().map(|(id, score)| (places[id], score)).collect();
            let sample = self.sample(pair, &found, &questions);
            if sample.passages.len() < self.num_candidates {
                sink.report.note("lists for which BM25 finds too few questions", 1);
            }
            if sink.offer(sample, &self.path, pair.line)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn questions(&self, sink: &mut Sink<'_>) -> Result<Questions, DataError> {
        let columns =
            [Column::required(&["question1"]), Column::required(&["question2"]), Column::optional(&["is_duplicate"])];
        let mut questions = Questions::default();
        for_each_record(
            &self.path,
            Rows::Samples,
            columns,
            &mut sink.report,
            |line, [first, second, duplicate], report| {
                if first.is_empty() || second.is_empty() {
                    return report.malformed_sample(&self.path, line, "a pair without one of its questions");
                }
                let duplicate = match duplicate.to_ascii_lowercase().as_str() {
                    "1" | "1.0" | "true" => true,
                    "0" | "0.0" | "false" => false,
                    "" => {
                        report.note("pairs without a label, taken as duplicates", 1);
                        true
                    }
                    other => {
                        let message = format!("`is_duplicate` is `{other}`, wanted 0 or 1");
                        return report.malformed_sample(&self.path, line, message);
                    }
                };
                questions.add(line, first, second, duplicate, report);
                Ok(())
            },
        )?;
        Ok(questions)
    }

    /// Numbers of the pairs to use: all, or a random choice in a random order (so that any first few are varied).
    fn chosen(&self, pairs: usize) -> Vec<usize> {
        match self.max_questions {
            Some(limit) if limit < pairs => {
                let order = Stream::new("choice of Quora pairs", &[self.seed]).permutation(pairs);
                order.into_iter().take(limit).map(|number| number as usize).collect()
            }
            _ => (0..pairs).collect(),
        }
    }

    /// The duplicate and the best of what was found that is none, shuffled.
    fn sample(&self, pair: &Pair, found: &[(usize, f32)], questions: &Questions) -> RankingSample {
        let group = questions.groups.of(pair.node);
        let score = found.iter().find(|(place, _)| *place == pair.duplicate).map(|(_, score)| *score);
        let negatives = found.iter().filter(|(place, _)| questions.groups.of(questions.pool[*place].node) != group);
        let mut list = vec![(pair.duplicate, score)];
        list.extend(negatives.take(self.num_candidates - 1).map(|&(place, score)| (place, Some(score))));
        let query_id = pair.line.to_string();
        Stream::for_id("order of Quora candidates", self.seed, &query_id).shuffle(&mut list);
        let passage = |(place, first_stage_score): (usize, Option<f32>)| Passage {
            doc_id: questions.pool[place].doc_id.clone(),
            title: String::new(),
            text: questions.pool[place].text.clone(),
            first_stage_score,
            label: Some(i32::from(place == pair.duplicate)),
        };
        RankingSample {
            query_id,
            query: pair.query.clone(),
            passages: list.into_iter().map(passage).collect(),
            target: None,
            origin: "quora".to_owned(),
        }
    }
}

impl Questions {
    fn add(&mut self, line: u64, first: &str, second: &str, duplicate: bool, report: &mut SetReport) {
        let node = self.groups.node(second);
        let place = *self.places.entry(node).or_insert_with(|| {
            self.pool.push(Question { doc_id: line.to_string(), text: second.to_owned(), node });
            self.pool.len() - 1
        });
        if !duplicate {
            report.drop_sample("a pair of different questions");
            return;
        }
        let query = self.groups.node(first);
        if query == node {
            report.drop_sample("a pair of equal questions");
            return;
        }
        self.groups.join(query, node);
        self.pairs.push(Pair { line, query: first.to_owned(), duplicate: place, node });
    }
}
