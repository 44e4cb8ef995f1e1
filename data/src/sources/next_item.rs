//! Next-item lists from RecBole's atomic files and a file of candidates, as LLMRank (Hou et al. 2024) publishes them.
//!
//! Users come in the order of the candidates file, candidates in its order too. What a user already has is left out of
//! the candidates: retrieval by similar titles finds it first, and it is never what comes next.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Sink;
use super::catalogue::{Catalogue, NextItemList};
use super::tsv::{Column, Rows, for_each_record};
use crate::random::Stream;
use crate::{DataError, files};

/// How histories and candidates become lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NextItemConfig {
    /// RecBole `.inter` file with `user_id`, `item_id_list` (history, oldest first, ids between blanks) and `item_id` (what
    /// comes next); `.gz` works.
    pub interactions: PathBuf,
    /// RecBole `.item` file with `item_id` and `title` (or `movie_title` and `release_year`).
    pub items: PathBuf,
    /// `user_id<TAB>item ids between blanks`, best first, without a header (`.gz` works). Only its users have lists.
    pub candidates: PathBuf,
    /// Items of the history shown, the latest ones. Default: 10.
    #[serde(default = "ten")]
    pub history_length: usize,
    /// Candidates a list at most: the first ones of the file. Default: 25.
    #[serde(default = "twenty_five")]
    pub num_candidates: usize,
    /// When the item that comes next is not among these candidates, put it at a random place, for the last one. False leaves
    /// such lists out. Both are counted. Default: true.
    #[serde(default = "yes")]
    pub insert_target: bool,
    /// Any integer, for the random places. Default: 0.
    #[serde(default)]
    pub seed: u64,
}

fn ten() -> usize {
    10
}

fn twenty_five() -> usize {
    25
}

fn yes() -> bool {
    true
}

/// What a user took, and then took next.
struct User {
    /// Places in the catalogue, oldest first.
    history: Vec<usize>,
    next: usize,
}

impl NextItemConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        let minimums = [("history_length", self.history_length, 1), ("num_candidates", self.num_candidates, 2)];
        let low = minimums.iter().filter(|(_, value, least)| value < least);
        low.map(|(key, value, least)| format!("`next_item.{key}` is {value}; it must be at least {least}")).collect()
    }

    pub(super) fn read(&self, sink: &mut Sink<'_>) -> Result<(), DataError> {
        let catalogue = Catalogue::read(&self.items, sink)?;
        let users = self.users(&catalogue, sink)?;
        files::for_each_line(&self.candidates, |line, text| {
            let row =
                text.and_then(|text| text.split_once('\t').ok_or_else(|| "no tab after the user's id".to_owned()));
            let (user_id, ids) = match row {
                Ok((user_id, ids)) => (user_id.trim(), ids),
                Err(message) => return sink.malformed(&self.candidates, line, message),
            };
            let Some(user) = users.get(user_id) else {
                sink.report.drop_sample("a user without a history and a next item");
                return Ok(ControlFlow::Continue(()));
            };
            let Some(candidates) = self.list(user_id, user, ids, &catalogue, sink) else {
                return Ok(ControlFlow::Continue(()));
            };
            let history = &user.history[user.history.len().saturating_sub(self.history_length)..];
            let query_id = user_id.to_owned();
            let list = NextItemList { query_id, history, candidates: &candidates, target: user.next };
            sink.offer(catalogue.sample(list, "next_item"), &self.candidates, line)
        })
    }

    /// Users with a known history and next item.
    fn users(&self, catalogue: &Catalogue, sink: &mut Sink<'_>) -> Result<HashMap<String, User>, DataError> {
        let path = &self.interactions;
        let columns = [&["user_id"], &["item_id_list"], &["item_id"]].map(|names| Column::required(names));
        let mut users = HashMap::new();
        for_each_record(path, Rows::Side, columns, &mut sink.report, |line, [user, history, next], report| {
            let ids: Vec<&str> = history.split_whitespace().collect();
            let history: Vec<usize> = ids.iter().filter_map(|id| catalogue.place(id)).collect();
            report.note("items of histories that the items do not hold", (ids.len() - history.len()) as u64);
            let Some(next) = catalogue.place(next) else {
                return report.malformed_row(path, line, format!("next item `{next}` is not among the items"));
            };
            if history.is_empty() {
                return report.malformed_row(path, line, format!("user `{user}` has no history"));
            }
            match users.insert(user.to_owned(), User { history, next }) {
                None => Ok(()),
                Some(_) => Err(DataError::DuplicateId { path: path.clone(), line, kind: "user", id: user.to_owned() }),
            }
        })?;
        Ok(users)
    }

    /// Candidates of a user, the next item among them; None (counted) when the list is left out.
    fn list(
        &self,
        user_id: &str,
        user: &User,
        ids: &str,
        catalogue: &Catalogue,
        sink: &mut Sink<'_>,
    ) -> Option<Vec<usize>> {
        let report = &mut sink.report;
        let owned: HashSet<usize> = user.history.iter().copied().collect();
        let mut shown = HashSet::new();
        let mut candidates = Vec::new();
        for id in ids.split_whitespace() {
            match catalogue.place(id) {
                None => report.note("candidates that the items do not hold", 1),
                Some(place) if place != user.next && owned.contains(&place) => {
                    report.note("candidates the user already has", 1);
                }
                // Another item with the name of the next one could not be told from it.
                Some(place) if place != user.next && catalogue.name(place) == catalogue.name(user.next) => {
                    report.note("candidates with the name of another", 1);
                }
                Some(place) if !shown.insert(catalogue.name(place)) => {
                    report.note("candidates with the name of another", 1);
                }
                Some(place) => candidates.push(place),
            }
        }
        candidates.truncate(self.num_candidates);
        if !candidates.contains(&user.next) {
            if !self.insert_target {
                report.drop_sample("the next item is not among the candidates");
                return None;
            }
            report.note("next items put in at a random place", 1);
            candidates.truncate(self.num_candidates - 1);
            let mut stream = Stream::for_id("place of the next item", self.seed, user_id);
            candidates.insert(stream.below(candidates.len() as u64 + 1) as usize, user.next);
        }
        Some(candidates)
    }
}
