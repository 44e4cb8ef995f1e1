//! Ways to turn a prompt into a ranking. Each takes (model, prompt) and returns an order of all candidates with its cost.

mod autoregressive;
mod autoregressive_forced;
mod continuation;
mod kind;
mod single_token;
#[cfg(test)]
pub(crate) mod tests;

use data::prompt::RankingPrompt;
pub use data::prompt::RepairCounts;
use model::CausalLm;

pub use autoregressive::Autoregressive;
pub use autoregressive_forced::AutoregressiveForced;
pub(crate) use continuation::{Continuation, check_context};
pub use kind::DecoderKind;
pub use single_token::SingleToken;

use crate::EvaluatorError;

/// A way to decode.
pub trait Decoder {
    /// Name in tables and files.
    fn name(&self) -> &str;

    /// Ranks the candidates of a prompt. The order is always a permutation of all of them.
    ///
    /// # Errors
    /// A prompt that does not fit the model or the decoder; logits that are not finite.
    fn decode(&self, model: &CausalLm, prompt: &RankingPrompt) -> Result<Decoded, EvaluatorError>;
}

/// A ranking and its cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// Candidate indices, best first.
    pub order: Vec<u16>,
    /// Score of each place in `order`, not increasing, where the decoder has one.
    pub scores: Option<Vec<f32>>,
    /// Passes of the model.
    pub forward_passes: u32,
    /// Tokens of the answer that were decided or appended.
    pub new_tokens: u32,
    /// Tokens that went through the model, prompt included.
    pub tokens_computed: u64,
    /// Wall clock, with the device waited for.
    pub seconds: f64,
    /// What was mended, by the rule of [`data::prompt::parse_ranking`].
    pub repair: RepairCounts,
    /// The answer, where one was written.
    pub text: Option<String>,
}

/// Checks what every decoder needs of a prompt.
fn check_prompt(prompt: &RankingPrompt) -> Result<(), EvaluatorError> {
    let bad = |reason| EvaluatorError::BadPrompt { query_id: prompt.query_id.clone(), reason };
    if prompt.identifiers.is_empty() {
        return Err(bad("no candidates"));
    }
    if prompt.identifiers.iter().any(Vec::is_empty) {
        return Err(bad("an identifier without tokens"));
    }
    if prompt.input_ids.is_empty() {
        return Err(bad("no prompt tokens"));
    }
    for (second, identifier) in prompt.identifiers.iter().enumerate() {
        if let Some(first) = prompt.identifiers[..second].iter().position(|other| other == identifier) {
            let query_id = prompt.query_id.clone();
            return Err(EvaluatorError::SameIdentifier { query_id, first: first + 1, second: second + 1 });
        }
    }
    Ok(())
}

/// Prompt and opening: what the first pass reads when the answer's start is given.
fn prompt_with_opening(prompt: &RankingPrompt) -> Vec<i64> {
    prompt.input_ids.iter().chain(&prompt.opening).copied().collect()
}
