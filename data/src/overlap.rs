//! Queries that stand both in a training and in an evaluation set: such a score says nothing.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::RankingSample;

/// Query texts shared by two sets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryOverlap {
    /// Distinct evaluation queries that training has seen.
    pub shared: usize,
    /// Distinct evaluation queries.
    pub evaluation: usize,
    /// The first few, as the evaluation set writes them.
    pub examples: Vec<String>,
}

/// A query as compared: lower case, letters and digits only, single blanks.
#[must_use]
pub fn normalised(query: &str) -> String {
    let lower = query.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// Distinct normalised queries of a training set, for [`query_overlap`] with several evaluation sets.
#[must_use]
pub fn query_texts<'a>(samples: impl IntoIterator<Item = &'a RankingSample>) -> HashSet<String> {
    samples.into_iter().map(|sample| normalised(&sample.query)).collect()
}

/// Evaluation queries whose normalised text is among the training queries.
#[must_use]
pub fn query_overlap<'a>(
    training: &HashSet<String>,
    evaluation: impl IntoIterator<Item = &'a RankingSample>,
) -> QueryOverlap {
    let mut overlap = QueryOverlap::default();
    let mut seen = HashSet::new();
    for sample in evaluation {
        let text = normalised(&sample.query);
        let shared = training.contains(&text);
        if !seen.insert(text) {
            continue;
        }
        overlap.evaluation += 1;
        if shared {
            overlap.shared += 1;
            if overlap.examples.len() < 5 {
                overlap.examples.push(sample.query.clone());
            }
        }
    }
    overlap
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_punctuation_do_not_hide_a_shared_query() {
        let sample = |query: &str| RankingSample {
            query_id: query.into(),
            query: query.into(),
            passages: vec![],
            target: None,
            origin: String::new(),
        };
        let training = query_texts(&[sample("What is  a Flea?"), sample("other")]);
        let evaluation = [sample("what is a flea"), sample("WHAT IS A FLEA."), sample("what is a bee")];
        let overlap = query_overlap(&training, &evaluation);
        assert_eq!((overlap.shared, overlap.evaluation), (1, 2));
        assert_eq!(overlap.examples, ["what is a flea"]);
    }
}
