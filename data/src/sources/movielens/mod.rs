//! Recommendation from MovieLens (Harper and Konstan 2015): a user's latest films, and which film comes next.
//!
//! A list asks for the film a user rated at some place from the end, given the films rated just before it. The other
//! candidates are films this user never rated, drawn uniformly (not by how popular they are).
//!
//! Only one film of a list is known to be right. A target that lists the others as the prompt shows them teaches a model to
//! copy the prompt; `first_stage: popularity` with `shuffle_candidates` gives them an order that has to be known.

mod ratings;

use std::cmp::Reverse;
use std::collections::HashSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Sink;
use super::catalogue::{Catalogue, NextItemList};
use crate::DataError;
use crate::random::Stream;
use ratings::{Rating, User};

/// How ratings become lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MovielensConfig {
    /// Ratings: a RecBole `.inter` file (`ml-100k.inter`) or MovieLens' own `ratings.dat` (`.gz` works).
    pub interactions: PathBuf,
    /// Films: a RecBole `.item` file (`ml-100k.item`) or MovieLens' own `movies.dat`.
    pub items: PathBuf,
    /// Films before the one asked for, at most. Default: 10.
    #[serde(default = "ten")]
    pub history_length: usize,
    /// Candidates a list, the film asked for being one. Default: 25.
    #[serde(default = "twenty_five")]
    pub num_candidates: usize,
    /// Lists a user: the k-th asks for the k-th film from the end and has the id `user-k` (with one list: `user`). The
    /// lists of a user follow one another. Default: 1.
    #[serde(default = "one")]
    pub lists_per_user: usize,
    /// What orders the candidates. For training, `shuffle_candidates` beside `popularity`: the prompt must not show the order to learn. Default:
    /// `random`.
    // Left out where it says nothing new, so that sets prepared before it existed stay as they are.
    #[serde(default, skip_serializing_if = "MovielensFirstStage::is_random")]
    pub first_stage: MovielensFirstStage,
    /// Any integer, for the draws and the order of the candidates. Default: 0.
    #[serde(default)]
    pub seed: u64,
}

/// An order of films before anything is learned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MovielensFirstStage {
    /// A random order, no scores.
    #[default]
    Random,
    /// By the number of other users who rated a film at any time, which is its score; equals in a random order.
    Popularity,
}

impl MovielensFirstStage {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_random(&self) -> bool {
        *self == Self::Random
    }
}

fn one() -> usize {
    1
}

fn ten() -> usize {
    10
}

fn twenty_five() -> usize {
    25
}

impl MovielensConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        let minimums = [
            ("history_length", self.history_length, 1),
            ("num_candidates", self.num_candidates, 2),
            ("lists_per_user", self.lists_per_user, 1),
        ];
        let low = minimums.iter().filter(|(_, value, least)| value < least);
        low.map(|(key, value, least)| format!("`movielens.{key}` is {value}; it must be at least {least}")).collect()
    }

    pub(super) fn read(&self, sink: &mut Sink<'_>) -> Result<(), DataError> {
        let catalogue = ratings::read_films(&self.items, sink)?;
        let users = ratings::read_users(&self.interactions, &catalogue, &mut sink.report)?;
        let popularity = (self.first_stage == MovielensFirstStage::Popularity).then(|| raters(&users, &catalogue));
        for user in users {
            for back in 1..=self.lists_per_user {
                // The first film has no history.
                let Some(place) = user.ratings.len().checked_sub(back).filter(|place| *place > 0) else {
                    sink.report.drop_sample("no film before the one asked for");
                    continue;
                };
                let query_id = if self.lists_per_user == 1 { user.id.clone() } else { format!("{}-{back}", user.id) };
                let Some(mut candidates) = self.candidates(&query_id, &user, place, &catalogue) else {
                    sink.report.drop_sample("too few films the user never rated");
                    continue;
                };
                let Rating { item: target, line, .. } = user.ratings[place];
                // Of the candidates this user rated the target alone.
                let others = popularity.as_ref().map(|all| |film: usize| all[film] - u32::from(film == target));
                if let Some(others) = &others {
                    candidates.sort_by_key(|film| Reverse(others(*film)));
                }
                let before = &user.ratings[place.saturating_sub(self.history_length)..place];
                let history: Vec<usize> = before.iter().map(|rating| rating.item).collect();
                let list = NextItemList { query_id, history: &history, candidates: &candidates, target };
                let mut sample = catalogue.sample(list, "movielens");
                for (passage, film) in sample.passages.iter_mut().zip(&candidates) {
                    passage.first_stage_score = others.as_ref().map(|others| others(*film) as f32);
                }
                if sink.offer(sample, &self.interactions, line)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The film at `place` of the user's ratings and films never rated, in a random order; None when there are too few.
    fn candidates(&self, query_id: &str, user: &User, place: usize, catalogue: &Catalogue) -> Option<Vec<usize>> {
        let mut stream = Stream::for_id("MovieLens candidates", self.seed, query_id);
        // By name: the data holds some films under two ids.
        let mut names: HashSet<&str> = user.ratings.iter().map(|rating| catalogue.name(rating.item)).collect();
        let mut films: Vec<usize> = (0..catalogue.items.len()).collect();
        stream.shuffle(&mut films);
        let mut candidates = vec![user.ratings[place].item];
        candidates
            .extend(films.into_iter().filter(|&film| names.insert(catalogue.name(film))).take(self.num_candidates - 1));
        stream.shuffle(&mut candidates);
        (candidates.len() == self.num_candidates).then_some(candidates)
    }
}

/// Users who rated each film of the catalogue.
fn raters(users: &[User], catalogue: &Catalogue) -> Vec<u32> {
    let mut counts = vec![0; catalogue.items.len()];
    users.iter().flat_map(|user| &user.ratings).for_each(|rating| counts[rating.item] += 1);
    counts
}
