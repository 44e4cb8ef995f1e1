//! Training, validation and test rows of one set, by their place in it.

use std::collections::VecDeque;

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
        if self.held.len() > self.config.validation + self.config.test { self.held.pop_front() } else { None }
    }

    /// The rows for validation and those for the test, after the last row.
    ///
    /// # Errors
    /// Fewer rows than both need, with the numbers and the set's `name`.
    pub(super) fn finish(self, name: &str) -> Result<(Vec<T>, Vec<T>), DataError> {
        let SplitConfig { validation, test, .. } = self.config;
        let rows = self.held.len();
        if rows < validation + test {
            return Err(DataError::SplitTooSmall { name: name.to_owned(), rows, validation, test });
        }
        let mut rows = self.held;
        let last = rows.split_off(validation);
        Ok((rows.into(), last.into()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_are_the_rows_in_order(rows in 0usize..60, validation in 0usize..20, test in 0usize..20) {
            let mut split = TailSplit::new(SplitConfig { part: SplitPart::Train, validation, test });
            let mut all: Vec<usize> = (0..rows).filter_map(|row| split.push(row)).collect();
            match split.finish("x") {
                Ok((middle, last)) => {
                    prop_assert_eq!((all.len(), middle.len(), last.len()), (rows - validation - test, validation, test));
                    all.extend(middle);
                    all.extend(last);
                    prop_assert_eq!(all, (0..rows).collect::<Vec<_>>());
                }
                Err(error) => prop_assert!(rows < validation + test, "{}", error),
            }
        }
    }
}
