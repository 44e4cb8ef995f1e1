//! Rows of the prepared sets (see ARCHITECTURE.md).

use serde::{Deserialize, Serialize};

use crate::DataError;

/// One candidate passage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Passage {
    /// Document id, unique within the sample.
    pub doc_id: String,
    /// Title; may be empty.
    #[serde(default)]
    pub title: String,
    /// Body.
    pub text: String,
    /// Score of the first stage, higher is better.
    #[serde(default)]
    pub first_stage_score: Option<f32>,
    /// Relevance grade, when judged.
    #[serde(default)]
    pub label: Option<i32>,
}

/// A query and its candidate list in first-stage order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankingSample {
    /// Query id, unique within the set.
    pub query_id: String,
    /// Text.
    pub query: String,
    /// Candidates, best of the first stage first (unless shuffled).
    pub passages: Vec<Passage>,
    /// Permutation: 0-based candidate indices, best first.
    #[serde(default)]
    pub target: Option<Vec<u16>>,
    /// Where it came from.
    #[serde(default)]
    pub origin: String,
}

impl RankingSample {
    /// Reorders the candidates so that the new list is `passages[permutation[0]], passages[permutation[1]], ...`;
    /// the target keeps naming the same passages. `permutation` may be shorter than the list: the rest is dropped.
    ///
    /// # Panics
    /// When an index is out of range.
    #[must_use]
    pub fn select(&self, permutation: &[u16]) -> Self {
        let mut new_index = vec![None; self.passages.len()];
        for (new, &old) in permutation.iter().enumerate() {
            new_index[usize::from(old)] = Some(new as u16);
        }
        Self {
            query_id: self.query_id.clone(),
            query: self.query.clone(),
            passages: permutation.iter().map(|&old| self.passages[usize::from(old)].clone()).collect(),
            target: self
                .target
                .as_ref()
                .map(|target| target.iter().filter_map(|&old| new_index[usize::from(old)]).collect()),
            origin: self.origin.clone(),
        }
    }

    /// Checks that ids are set and unique, and that the target is a permutation of the candidates.
    pub fn validate(&self) -> Result<(), DataError> {
        if self.passages.is_empty() {
            return Err(DataError::NoCandidates { query_id: self.query_id.clone() });
        }
        if self.passages.len() > usize::from(u16::MAX) {
            return Err(DataError::TooManyCandidates {
                query_id: self.query_id.clone(),
                got: self.passages.len(),
                limit: usize::from(u16::MAX),
                kind: "16-bit",
            });
        }
        if let Some(target) = &self.target {
            check_permutation(&self.query_id, "target", target, self.passages.len())?;
        }
        Ok(())
    }

    /// Order (0-based indices, best first) by label, highest grade first; unjudged counts as 0 and equal grades
    /// are in the first stage's order: by its scores, those without one last, and as they stand where there are none. None
    /// when no candidate has a grade above 0: such a list says nothing about ranking.
    #[must_use]
    pub fn order_by_label(&self) -> Option<Vec<u16>> {
        let grade = |index: &u16| self.passages[usize::from(*index)].label.unwrap_or(0);
        let mut order: Vec<u16> = (0..self.passages.len() as u16).collect();
        if !order.iter().any(|index| grade(index) > 0) {
            return None;
        }
        let score = |index: &u16| self.passages[usize::from(*index)].first_stage_score.unwrap_or(f32::NEG_INFINITY);
        order.sort_by(|a, b| grade(b).cmp(&grade(a)).then(score(b).total_cmp(&score(a))));
        Some(order)
    }
}

/// Checks that `order` names each of `n` candidates once.
pub fn check_permutation(query_id: &str, what: &'static str, order: &[u16], n: usize) -> Result<(), DataError> {
    let wrong = |reason: String| DataError::NotAPermutation {
        query_id: query_id.to_owned(),
        what,
        got: order.len(),
        wanted: n,
        reason,
    };
    let mut seen = vec![false; n];
    for &index in order {
        match seen.get_mut(usize::from(index)) {
            None => return Err(wrong(format!("index {index} is out of range"))),
            Some(true) => return Err(wrong(format!("index {index} occurs twice"))),
            Some(slot) => *slot = true,
        }
    }
    match seen.iter().position(|seen| !seen) {
        Some(index) => Err(wrong(format!("index {index} is missing"))),
        None => Ok(()),
    }
}

/// A decoder's (or teacher's) ranking of one sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankingRecord {
    /// Query id.
    pub query_id: String,
    /// Decoder's (or teacher's) name.
    pub decoder: String,
    /// Candidate indices, best first.
    pub order: Vec<u16>,
    /// One per place in `order`.
    #[serde(default)]
    pub scores: Option<Vec<f32>>,
    /// Passes of the model.
    pub forward_passes: u32,
    /// Tokens generated.
    pub new_tokens: u32,
    /// Wall clock.
    pub seconds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> RankingSample {
        let passage = |id: &str, label| Passage {
            doc_id: id.into(),
            title: String::new(),
            text: format!("text of {id}"),
            first_stage_score: None,
            label,
        };
        RankingSample {
            query_id: "q".into(),
            query: "query".into(),
            passages: vec![passage("a", None), passage("b", Some(1)), passage("c", Some(2)), passage("d", Some(1))],
            target: Some(vec![2, 1, 3, 0]),
            origin: "test".into(),
        }
    }

    #[test]
    fn select_keeps_target_on_the_same_passages() {
        let shuffled = sample().select(&[3, 0, 2]);
        let ids: Vec<_> = shuffled.passages.iter().map(|p| p.doc_id.as_str()).collect();
        assert_eq!(ids, ["d", "a", "c"]);
        assert_eq!(shuffled.target, Some(vec![2, 0, 1]), "c, then d, then a; b is gone");
        shuffled.validate().unwrap();
    }

    #[test]
    fn labels_order_by_grade_then_first_stage() {
        assert_eq!(sample().order_by_label(), Some(vec![2, 1, 3, 0]));
        let mut shown_shuffled = sample();
        shown_shuffled.passages.iter_mut().for_each(|p| p.label = Some(i32::from(p.doc_id == "c")));
        for (place, score) in [(0, Some(1.0)), (1, None), (3, Some(2.0))] {
            shown_shuffled.passages[place].first_stage_score = score;
        }
        assert_eq!(shown_shuffled.order_by_label(), Some(vec![2, 3, 0, 1]), "the order shown says nothing");
        let mut unjudged = sample();
        unjudged.passages.iter_mut().for_each(|p| p.label = Some(0));
        assert_eq!(unjudged.order_by_label(), None);
    }

    #[test]
    fn permutation_errors_name_the_index() {
        for (order, wanted) in
            [(vec![0, 0, 1, 2], "occurs twice"), (vec![0, 4], "out of range"), (vec![0, 1, 3], "index 2 is missing")]
        {
            let message = check_permutation("q", "target", &order, 4).unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}");
        }
    }
}
