//! Items of a recommendation source, and the lists made of them.
//!
//! An item is its name: it is what a prompt shows. Two items of one name cannot be told apart, so a list never holds both.

use std::collections::HashMap;
use std::path::Path;

use super::Sink;
use super::tsv::{Column, Rows, for_each_record};
use crate::{DataError, Passage, RankingSample};

/// An item.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub(super) id: String,
    /// What prompts show, with the year where there is one.
    pub(super) name: String,
}

/// All items, in the order of their file.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    pub(super) items: Vec<Item>,
    places: HashMap<String, usize>,
}

/// What a user took, what comes next, and what it is to be found among.
#[derive(Debug)]
pub(super) struct NextItemList<'a> {
    pub(super) query_id: String,
    /// Places in the catalogue, oldest first.
    pub(super) history: &'a [usize],
    pub(super) candidates: &'a [usize],
    /// One of `candidates`.
    pub(super) target: usize,
}

impl Catalogue {
    /// Reads a RecBole `.item` file with `item_id`, `movie_title` or `title` and, when there, `release_year`.
    pub(super) fn read(path: &Path, sink: &mut Sink<'_>) -> Result<Self, DataError> {
        let columns = [
            Column::required(&["item_id"]),
            Column::required(&["movie_title", "title"]),
            Column::optional(&["release_year"]),
        ];
        let mut catalogue = Self::default();
        for_each_record(path, Rows::Side, columns, &mut sink.report, |line, [id, title, year], report| {
            let name = if year.is_empty() { title.to_owned() } else { format!("{title} ({year})") };
            match catalogue.add(id, &name, path, line)? {
                None => Ok(()),
                Some(problem) => report.malformed_row(path, line, problem),
            }
        })?;
        Ok(catalogue)
    }

    /// Adds an item, or says what is wrong with it. Names out of web pages lose their entities: `&amp;` is `&`.
    pub(super) fn add(&mut self, id: &str, name: &str, path: &Path, line: u64) -> Result<Option<String>, DataError> {
        // A name with something that only looks like an entity stays as it is.
        let name = htmlescape::decode_html(name).unwrap_or_else(|_| name.to_owned());
        let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
        if id.is_empty() || name.is_empty() {
            return Ok(Some("an item without id or name".to_owned()));
        }
        if self.places.insert(id.to_owned(), self.items.len()).is_some() {
            return Err(DataError::DuplicateId { path: path.to_owned(), line, kind: "item", id: id.to_owned() });
        }
        self.items.push(Item { id: id.to_owned(), name });
        Ok(None)
    }

    /// Place of an item.
    pub(super) fn place(&self, id: &str) -> Option<usize> {
        self.places.get(id).copied()
    }

    /// Name of the item at a place.
    pub(super) fn name(&self, place: usize) -> &str {
        &self.items[place].name
    }

    /// A history as the query of a sample: `1. Alien (1979); 2. Brazil (1985)`, oldest first.
    fn history(&self, places: &[usize]) -> String {
        let lines = places.iter().enumerate().map(|(index, &place)| format!("{}. {}", index + 1, self.name(place)));
        lines.collect::<Vec<_>>().join("; ")
    }

    /// The list as a sample: the item that comes next has label 1, the others 0.
    pub(super) fn sample(&self, list: NextItemList<'_>, origin: &str) -> RankingSample {
        let passage = |&place: &usize| Passage {
            doc_id: self.items[place].id.clone(),
            title: String::new(),
            text: self.name(place).to_owned(),
            first_stage_score: None,
            label: Some(i32::from(place == list.target)),
        };
        RankingSample {
            query: self.history(list.history),
            passages: list.candidates.iter().map(passage).collect(),
            query_id: list.query_id,
            target: None,
            origin: origin.to_owned(),
        }
    }
}

/// Key that sorts ids: numbers by value, other texts after them.
pub(super) fn id_order(id: &str) -> (u64, &str) {
    (id.parse().unwrap_or(u64::MAX), id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_the_entities_of_web_pages() {
        let mut catalogue = Catalogue::default();
        for (id, name) in [("1", "Hit &amp; Run&nbsp;2"), ("2", "Caf&eacute; &#39;84"), ("3", "Q&A; &nothing;")] {
            assert_eq!(catalogue.add(id, name, Path::new("items"), 1).unwrap(), None);
        }
        let names: Vec<&str> = (0..3).map(|place| catalogue.name(place)).collect();
        assert_eq!(names, ["Hit & Run 2", "Café '84", "Q&A; &nothing;"]);
    }
}
