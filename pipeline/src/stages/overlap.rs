//! Queries that a model was trained on and is evaluated on.

use std::collections::BTreeSet;

use data::RankingSample;
use data::branched::BranchedText;
use data::overlap::normalised;

/// Hash of a query's text as compared (case and punctuation aside).
pub fn query_hash(query: &str) -> String {
    // 64 bits: a chance meeting of two queries needs billions of them.
    blake3::hash(normalised(query).as_bytes()).to_hex()[..16].to_owned()
}

/// Hashes of all queries of a set.
pub fn query_hashes<'a>(samples: impl IntoIterator<Item = &'a RankingSample>) -> BTreeSet<String> {
    samples.into_iter().map(|sample| query_hash(&sample.query)).collect()
}

/// Hashes of all questions of a set.
pub fn question_hashes<'a>(texts: impl IntoIterator<Item = &'a BranchedText>) -> BTreeSet<String> {
    let questions = texts.into_iter().flat_map(|text| &text.branches).filter(|branch| !branch.prompt.is_empty());
    questions.map(|branch| query_hash(&branch.prompt)).collect()
}

/// Shared queries of one model and one evaluation set.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Overlap {
    /// The model; empty where it is the heads'.
    pub model: String,
    /// The evaluation set.
    pub set: String,
    /// Distinct queries of the set the model was trained on.
    pub shared: usize,
    /// Distinct queries of the set.
    pub queries: usize,
}

impl Overlap {
    /// None when nothing is shared.
    pub fn find(model: &str, trained: &BTreeSet<String>, set: &str, samples: &[RankingSample]) -> Option<Self> {
        Self::of_hashes(model, trained, set, &query_hashes(samples))
    }

    /// Of the queries that heads learned from.
    pub fn of_heads(learned: &BTreeSet<String>, set: &str, samples: &[RankingSample]) -> Option<Self> {
        Self::find("", learned, set, samples)
    }

    /// As [`Self::find`], from the hashes of the set's queries.
    pub fn of_hashes(model: &str, trained: &BTreeSet<String>, set: &str, hashes: &BTreeSet<String>) -> Option<Self> {
        let shared = hashes.iter().filter(|hash| trained.contains(*hash)).count();
        (shared > 0).then(|| Self { model: model.to_owned(), set: set.to_owned(), shared, queries: hashes.len() })
    }

    /// For the log and the report.
    pub fn warning(&self) -> String {
        let Self { model, set, shared, queries } = self;
        let (who, whose) = match model.as_str() {
            "" => ("heads learned from or were chosen by".to_owned(), "the scores of decoders with heads"),
            model => (format!("model `{model}` was trained on"), "its scores"),
        };
        format!(
            "TRAINED ON THE TEST: {who} {shared} of the {queries} queries of set `{set}`; {whose} there say nothing about new \
             queries"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_punctuation_do_not_hide_an_overlap() {
        assert_eq!(query_hash("What  is BM25?"), query_hash("what is bm25"));
        assert_ne!(query_hash("what is bm25"), query_hash("what is bm26"));
    }
}
