//! Rows of the prepared sets (see ARCHITECTURE.md).
use serde::{Deserialize, Serialize};
/// One candidate passage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Passage { /// id
 pub doc_id: String, /// may be empty
 pub title: String, /// body
 pub text: String, /// score of the first stage
 pub first_stage_score: Option<f32>, /// relevance grade, when judged
 pub label: Option<i32> }
/// A query and its candidate list in first-stage order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankingSample { /// id
 pub query_id: String, /// text
 pub query: String, /// candidates
 pub passages: Vec<Passage>, /// permutation: candidate indices, best first
 pub target: Option<Vec<u16>>, /// where it came from
 pub origin: String }
/// A decoder's (or teacher's) ranking of one sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankingRecord { /// id
 pub query_id: String, /// name
 pub decoder: String, /// candidate indices, best first
 pub order: Vec<u16>, /// per place in `order`
 pub scores: Option<Vec<f32>>, /// passes of the model
 pub forward_passes: u32, /// tokens generated
 pub new_tokens: u32, /// wall clock
 pub seconds: f64 }
