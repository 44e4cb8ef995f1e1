//! Passage ranking made from SQuAD v1.1 (Rajpurkar et al. 2016): a question, and BM25's candidates for it.
//!
//! The paragraph the question was asked about is the relevant one (label 1); every other candidate counts as not
//! relevant, although some may answer the question too. With `passage_words`, paragraphs are cut into passages at the
//! ends of sentences, and the passage in which the answer starts is the relevant one.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Sink;
use super::passages::split_passages;
use crate::bm25::{Bm25Document, Bm25Index};
use crate::random::Stream;
use crate::squad_file::{SquadFile, SquadQuestion};
use crate::{DataError, Passage, RankingSample};

/// How questions become lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SquadConfig {
    /// Official SQuAD v1.1 JSON (`.gz` works).
    pub path: PathBuf,
    /// Candidates per question. Default: 20.
    #[serde(default = "twenty")]
    pub num_candidates: usize,
    /// Where candidates come from: the question's own article, or all paragraphs of the file. Default: `article`.
    #[serde(default)]
    pub pool: SquadPool,
    /// Paragraphs are cut at the ends of sentences into passages of at most this many words (a longer sentence stays
    /// whole), so that a model that reads few tokens reads the same text as BM25. Default: whole paragraphs.
    #[serde(default)]
    pub passage_words: Option<usize>,
    /// What happens when BM25 does not find the question's own paragraph among its candidates. Default: `insert`.
    #[serde(default)]
    pub gold_missing: GoldMissing,
    /// Questions used at most, drawn at random with `seed`. Default: all.
    #[serde(default)]
    pub max_questions: Option<usize>,
    /// Any integer, for the draws. Default: 0.
    #[serde(default)]
    pub seed: u64,
    /// Questions of which articles. Default: `all`.
    #[serde(default)]
    pub part: SquadPart,
    /// Share of the articles that `part: held_out` gets, between 0 and 1. Default: 0.1.
    #[serde(default = "tenth")]
    pub held_out_fraction: f64,
}

/// Where candidates come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SquadPool {
    /// Paragraphs of the same article: harder to tell apart.
    #[default]
    Article,
    /// All paragraphs of the file.
    All,
}

/// What to do when the first stage misses the relevant paragraph.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GoldMissing {
    /// Put it in the last candidate's place (training; counted).
    #[default]
    Insert,
    /// Keep the list as it is: no candidate is relevant (evaluation; counted).
    Keep,
    /// Leave the question out (counted).
    Drop,
}

/// Which articles' questions are used. Articles are cut by a hash of their title, the same for every seed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SquadPart {
    /// Every article.
    #[default]
    All,
    /// Articles that are not held out.
    Train,
    /// Held-out articles.
    HeldOut,
}

fn twenty() -> usize {
    20
}

fn tenth() -> f64 {
    0.1
}

/// A paragraph, or a passage of one, with its place.
struct Context<'a> {
    doc_id: String,
    title: String,
    text: &'a str,
    article: String,
}

impl SquadConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.num_candidates < 2 {
            problems.push(format!("`squad.num_candidates` is {}; ranking needs at least 2", self.num_candidates));
        }
        if self.passage_words == Some(0) {
            problems.push("`squad.passage_words` is 0; a passage needs words".to_owned());
        }
        if !(0.0..=1.0).contains(&self.held_out_fraction) {
            problems.push(format!("`squad.held_out_fraction` is {}; it must be 0 to 1", self.held_out_fraction));
        }
        problems
    }

    pub(super) fn read(&self, sink: &mut Sink<'_>) -> Result<(), DataError> {
        let file = SquadFile::read(&self.path)?;
        let (contexts, questions) = self.flatten(&file, sink);
        let index = Bm25Index::build(contexts.iter().map(|c| Bm25Document {
            doc_id: &c.doc_id,
            text: c.text,
            group: &c.article,
        }))?;
        let places: HashMap<&str, usize> = contexts.iter().enumerate().map(|(i, c)| (c.doc_id.as_str(), i)).collect();
        for number in self.chosen(questions.len()) {
            let (gold, question) = questions[number];
            let group = (self.pool == SquadPool::Article).then_some(contexts[gold].article.as_str());
            let found = index.search(&question.question, self.num_candidates, group)?;
            let mut list: Vec<(usize, Option<f32>)> =
                found.iter().map(|(id, score)| (places[id], Some(*score))).collect();
            if !self.place_gold(&mut list, gold, sink) {
                continue;
            }
            let passages = list
                .iter()
                .map(|&(place, score)| passage(&contexts[place], score, contexts[place].text == contexts[gold].text))
                .collect();
            let sample = RankingSample {
                query_id: question.id.clone(),
                query: question.question.trim().to_owned(),
                passages,
                target: None,
                origin: "squad".to_owned(),
            };
            if sink.offer(sample, &self.path, number as u64 + 1)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Passages of all articles, and the questions of the chosen part with their passage's place.
    fn flatten<'a>(
        &self,
        file: &'a SquadFile,
        sink: &mut Sink<'_>,
    ) -> (Vec<Context<'a>>, Vec<(usize, &'a SquadQuestion)>) {
        let mut contexts = Vec::new();
        let mut questions = Vec::new();
        for (number, article) in file.data.iter().enumerate() {
            let wanted = self.wants(&article.title);
            for (place, paragraph) in article.paragraphs.iter().enumerate() {
                let text = &paragraph.context;
                let whole = 0..text.len();
                let pieces = self.passage_words.map_or_else(|| vec![whole], |words| split_passages(text, words));
                for question in paragraph.qas.iter().filter(|_| wanted) {
                    match gold_piece(question, text, &pieces) {
                        Some(piece) => questions.push((contexts.len() + piece, question)),
                        None => sink.report.drop_sample("no passage holds the answer"),
                    }
                }
                for (piece, range) in pieces.iter().enumerate() {
                    let suffix = if self.passage_words.is_some() { format!("-{piece}") } else { String::new() };
                    contexts.push(Context {
                        doc_id: format!("{number}-{place}{suffix}"),
                        title: article.title.replace('_', " "),
                        text: &text[range.clone()],
                        article: number.to_string(),
                    });
                }
            }
        }
        (contexts, questions)
    }

    fn wants(&self, title: &str) -> bool {
        let hash = blake3::hash(title.as_bytes());
        let number = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes of a 32-byte hash"));
        let held_out = (number as f64 / u64::MAX as f64) < self.held_out_fraction;
        match self.part {
            SquadPart::All => true,
            SquadPart::Train => !held_out,
            SquadPart::HeldOut => held_out,
        }
    }

    /// Numbers of the questions to use: all, or a random choice in a random order (so that any first few are varied).
    fn chosen(&self, questions: usize) -> Vec<usize> {
        match self.max_questions {
            Some(limit) if limit < questions => {
                let order = Stream::new("choice of SQuAD questions", &[self.seed]).permutation(questions);
                order.into_iter().take(limit).map(|number| number as usize).collect()
            }
            _ => (0..questions).collect(),
        }
    }

    /// Makes sure of the gold paragraph as `gold_missing` says; false when the question is left out.
    fn place_gold(&self, list: &mut Vec<(usize, Option<f32>)>, gold: usize, sink: &mut Sink<'_>) -> bool {
        if list.iter().any(|&(place, _)| place == gold) {
            return true;
        }
        match self.gold_missing {
            GoldMissing::Drop => {
                sink.report.drop_sample("BM25 misses the paragraph");
                return false;
            }
            GoldMissing::Keep if list.is_empty() => {
                sink.report.drop_sample("BM25 finds nothing");
                return false;
            }
            GoldMissing::Keep => sink.report.note("BM25 misses the paragraph: list kept", 1),
            GoldMissing::Insert => {
                sink.report.note("BM25 misses the paragraph: inserted last", 1);
                list.truncate(self.num_candidates - 1);
                list.push((gold, None));
            }
        }
        true
    }
}

/// Which piece of a paragraph a question is about: the only one, or the one in which its first answer starts.
fn gold_piece(question: &SquadQuestion, text: &str, pieces: &[Range<usize>]) -> Option<usize> {
    if pieces.len() == 1 {
        return Some(0);
    }
    let (start, _) = text.char_indices().nth(question.answers.first()?.answer_start)?;
    pieces.iter().position(|piece| piece.contains(&start))
}

fn passage(context: &Context<'_>, score: Option<f32>, gold: bool) -> Passage {
    Passage {
        doc_id: context.doc_id.clone(),
        title: context.title.clone(),
        text: context.text.trim().to_owned(),
        first_stage_score: score,
        label: Some(i32::from(gold)),
    }
}
