//! Training, validation and test rows of one set, by their place in it.

use std::collections::{HashSet, VecDeque};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::DataError;

/// Which rows of a set are used. The order is the source's, after the filters and before `max_queries`: the last rows
/// are the test, those before them validation, the others training (the split of ONE-PASS's data).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitConfig {
    /// `train`, `validation` or `test`.
    pub part: SplitPart,
    /// Rows for validation. Default: 500.
    #[serde(default = "five_hundred")]
    pub validation: usize,
    /// Rows for the test. Default: 500.
    #[serde(default = "five_hundred")]
    pub test: usize,
    /// Leave out rows whose query stands in a later part as well (case and punctuation aside), and count them: training never has a query of
    /// validation or test. All rows are held in memory for it. Default false, as published.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disjoint_queries: bool,
}

/// Part of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SplitPart {
    /// All rows before the other parts.
    Train,
    /// The rows before the test.
    Validation,
    /// The last rows.
    Test,
}

fn five_hundred() -> usize {
    500
}

impl SplitConfig {
    pub(super) fn problems(&self) -> Option<String> {
        let (key, rows) = match self.part {
            SplitPart::Train => return None,
            SplitPart::Validation => ("validation", self.validation),
            SplitPart::Test => ("test", self.test),
        };
        (rows == 0).then(|| format!("`split` uses the part `{key}` but `split.{key}` is 0: no row would be left"))
    }
}

/// Splits a stream of rows of unknown length: the last ones are held until the end.
pub(super) struct TailSplit<T> {
    config: SplitConfig,
    held: VecDeque<T>,
}

impl<T> TailSplit<T> {
    pub(super) fn new(config: SplitConfig) -> Self {
        Self { config, held: VecDeque::new() }
    }

    /// The part that is used.
    pub(super) fn part(&self) -> SplitPart {
        self.config.part
    }

    /// Takes the next row; gives back the one that is now known to be for training.
    pub(super) fn push(&mut self, row: T) -> Option<T> {
        self.held.push_back(row);
        let is_full = self.held.len() > self.config.validation + self.config.test;
        if is_full && !self.config.disjoint_queries { self.held.pop_front() } else { None }
    }

    /// What is left after the last row: of training none but with `disjoint_queries`, by the query that `query` tells of a row.
    ///
    /// # Errors
    /// Fewer rows than validation and test need, with the numbers and the set's `name`.
    pub(super) fn finish(self, name: &str, query: impl Fn(&T) -> String) -> Result<Parts<T>, DataError> {
        let SplitConfig { validation, test, disjoint_queries, .. } = self.config;
        let rows = self.held.len();
        if rows < validation + test {
            return Err(DataError::SplitTooSmall { name: name.to_owned(), rows, validation, test });
        }
        let mut train = self.held;
        let mut validation = train.split_off(rows - validation - test);
        let test = validation.split_off(validation.len() - test);
        let mut shared = 0;
        if disjoint_queries {
            let mut later: HashSet<String> = test.iter().map(&query).collect();
            for part in [&mut validation, &mut train] {
                let before = part.len();
                part.retain(|row| !later.contains(&query(row)));
                shared += before - part.len();
                later.extend(part.iter().map(&query));
            }
        }
        Ok(Parts { train: train.into(), validation: validation.into(), test: test.into(), shared })
    }
}

/// Rows of each part.
pub(super) struct Parts<T> {
    pub(super) train: Vec<T>,
    pub(super) validation: Vec<T>,
    pub(super) test: Vec<T>,
    /// Rows left out because a later part has their query.
    pub(super) shared: usize,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_are_the_rows_in_order(rows in 0usize..60, validation in 0usize..20, test in 0usize..20) {
            for disjoint_queries in [false, true] {
                let mut split = TailSplit::new(SplitConfig { part: SplitPart::Train, validation, test, disjoint_queries });
                let mut all: Vec<usize> = (0..rows).filter_map(|row| split.push(row)).collect();
                match split.finish("x", ToString::to_string) {
                    Ok(Parts { train, validation: middle, test: last, shared }) => {
                        all.extend(train);
                        prop_assert_eq!((all.len(), middle.len(), last.len()), (rows - validation - test, validation, test));
                        all.extend(middle);
                        all.extend(last);
                        prop_assert_eq!((all, shared), ((0..rows).collect::<Vec<_>>(), 0));
                    }
                    Err(error) => prop_assert!(rows < validation + test, "{}", error),
                }
            }
        }

        #[test]
        fn disjoint_parts_share_no_query(queries in prop::collection::vec(0u8..12, 8..60)) {
            let config = SplitConfig { part: SplitPart::Train, validation: 4, test: 4, disjoint_queries: true };
            let mut split = TailSplit::new(config);
            prop_assert!(queries.iter().all(|query| split.push(*query).is_none()));
            let parts = split.finish("x", ToString::to_string).unwrap();
            let has = |part: &[u8], query: &u8| part.contains(query);
            prop_assert_eq!(parts.test.as_slice(), &queries[queries.len() - 4..], "the test is whole");
            prop_assert!(parts.validation.iter().all(|query| !has(&parts.test, query)));
            prop_assert!(parts.train.iter().all(|query| !has(&parts.test, query) && !has(&parts.validation, query)));
            let kept = parts.train.len() + parts.validation.len() + parts.test.len();
            prop_assert_eq!(kept + parts.shared, queries.len());
        }
    }
}
