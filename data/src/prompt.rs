//! Listwise prompts: what the model reads, and where its ranking is read off.
use std::sync::Arc;
use model::Tokenizer;
use serde::{Deserialize, Serialize};
use crate::{DataError, RankingSample};
/// Whose wording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptStyle { /// RankZephyr (Pradeep et al. 2023b)
 RankZephyr, /// FIRST (Reddy et al. 2024)
 First, /// RankVicuna (Pradeep et al. 2023a)
 RankVicuna }
/// `[1]` or `[A]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identifiers { /// [1] [2]
 Numeric, /// [A] [B], at most 26
 Alphabetic }
/// Identifier before or after its passage (docs: learning).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentifierPosition { /// `[A] text`
 Before, /// `text [A]`
 After }
/// Everything that decides a prompt's text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptConfig { /// wording
 pub style: PromptStyle, /// numeric or alphabetic
 pub identifiers: Identifiers, /// before or after
 pub identifier_position: IdentifierPosition, /// passages are cut to this many tokens
 pub max_passage_tokens: Option<usize> }
/// A prompt ready for a decoder.
#[derive(Debug, Clone)]
pub struct RankingPrompt { /// sample's id
 pub query_id: String, /// text of `input_ids`
 pub text: String, /// prompt up to and including the generation header; the answer starts right after
 pub input_ids: Vec<i64>, /// `[`: what stands before the first identifier in the answer
 pub opening: Vec<i64>, /// token ids of each candidate's identifier, without brackets (one id each when alphabetic)
 pub identifiers: Vec<Vec<i64>>, /// `]`, ` >`, ` [`: between two identifiers
 pub separator: Vec<i64>, /// `]` and the end of turn
 pub closing: Vec<i64> }
/// Renders samples.
#[derive(Debug, Clone)]
pub struct PromptBuilder { /// settings
 pub config: PromptConfig, /// of the model
 pub tokenizer: Arc<Tokenizer> }
impl PromptBuilder {
    /// Checks the tokenizer against the identifiers.
    pub fn new(tokenizer: Arc<Tokenizer>, config: PromptConfig) -> Result<Self, DataError> { Ok(Self { config, tokenizer }) }
    /// Prompt of a sample.
    pub fn prompt(&self, sample: &RankingSample) -> Result<RankingPrompt, DataError> { let _ = sample; unimplemented!() }
    /// Token ids of the answer `[B] > [A]<end of turn>` for an order.
    pub fn response(&self, prompt: &RankingPrompt, order: &[u16]) -> Vec<i64> { let _ = (prompt, order); unimplemented!() }
    /// Hash (hex) of wording, options, template and tokenizer: stored in the model folder, compared at evaluation.
    pub fn hash(&self) -> String { unimplemented!() }
}
