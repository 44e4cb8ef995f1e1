//! Queries that a model was trained on and is evaluated on.

use std::collections::BTreeSet;

use data::RankingSample;

/// Hash of a query's text, blanks and case aside.
pub fn query_hash(query: &str) -> String {
    let plain: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
    let hash = blake3::hash(plain.join(" ").trim_end_matches(['?', '.', '!']).trim_end().as_bytes());
    // 64 bits: a chance meeting of two queries needs billions of them.
    hash.to_hex()[..16].to_owned()
}

/// Hashes of all queries of a set.
pub fn query_hashes<'a>(samples: impl IntoIterator<Item = &'a RankingSample>) -> BTreeSet<String> {
    samples.into_iter().map(|sample| query_hash(&sample.query)).collect()
}

/// Shared queries of one model and one evaluation set.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Overlap {
    /// The model.
    pub model: String,
    /// The evaluation set.
    pub set: String,
    /// Queries of the set the model was trained on.
    pub shared: usize,
    /// Queries of the set.
    pub queries: usize,
}

impl Overlap {
    /// None when nothing is shared.
    pub fn find(model: &str, trained: &BTreeSet<String>, set: &str, samples: &[RankingSample]) -> Option<Self> {
        let shared = samples.iter().filter(|sample| trained.contains(&query_hash(&sample.query))).count();
        (shared > 0).then(|| Self { model: model.to_owned(), set: set.to_owned(), shared, queries: samples.len() })
    }

    /// For the log and the report.
    pub fn warning(&self) -> String {
        format!(
            "TRAINED ON THE TEST: model `{}` was trained on {} of the {} queries of set `{}`; its scores there say nothing about new \
             queries",
            self.model, self.shared, self.queries, self.set
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_blanks_and_the_last_mark_do_not_hide_an_overlap() {
        assert_eq!(query_hash("What  is BM25?"), query_hash("what is bm25"));
        assert_ne!(query_hash("what is bm25"), query_hash("what is bm26"));
    }
}
