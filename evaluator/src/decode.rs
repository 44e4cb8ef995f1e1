//! Ways to turn a prompt into a ranking. Each takes (model, prompt) and returns an order of all candidates with its cost.

mod autoregressive;
mod autoregressive_forced;
mod blockwise;
mod continuation;
mod drafted_list;
mod jacobi;
mod kind;
mod last_prompt;
mod medusa;
mod node_probabilities;
mod one_pass;
mod parts;
pub mod settings;
mod single_token;
mod speculative;
#[cfg(test)]
pub(crate) mod tests;

use data::prompt::RankingPrompt;
pub use data::prompt::RepairCounts;
use model::CausalLm;

pub use autoregressive::Autoregressive;
pub use autoregressive_forced::AutoregressiveForced;
pub(crate) use autoregressive_forced::{answer_tokens, check_forced, write_ranking};
pub use blockwise::Blockwise;
pub(crate) use continuation::{Continuation, check_context};
pub use jacobi::Jacobi;
pub use kind::{BuildDecoder, DecoderKind};
pub use last_prompt::LastPrompt;
pub use medusa::Medusa;
pub(crate) use node_probabilities::read_behind;
pub use one_pass::{LastRead, OnePass};
pub use parts::{DecoderParts, NeededHead, NoParts};
pub use single_token::SingleToken;
pub(crate) use single_token::single_tokens;
pub use speculative::{Drafter, Speculative};

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

    /// Ranks the candidates of several prompts: in passes over all of them where the decoder can, else one after the other.
    ///
    /// # Errors
    /// As [`Self::decode`].
    fn decode_batch(&self, model: &CausalLm, prompts: &[&RankingPrompt]) -> Result<Vec<Decoded>, EvaluatorError> {
        prompts.iter().map(|prompt| self.decode(model, prompt)).collect()
    }

    /// As [`Self::decode`], the pass over the prompt shared with the decoders before, where it begins with one.
    ///
    /// # Errors
    /// As [`Self::decode`].
    fn decode_behind(
        &self,
        model: &CausalLm,
        prompt: &RankingPrompt,
        _last: &LastPrompt,
    ) -> Result<Decoded, EvaluatorError> {
        self.decode(model, prompt)
    }
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
    /// Items that a pass after the first decided, on average; 1 without drafts. The last item, which is left over, is not
    /// counted. `None` where nothing is drafted or the first pass was the only one.
    pub accepted_per_pass: Option<f32>,
    /// Of `seconds`, those spent after the model's last pass, where the decoder has such a part.
    pub seconds_after_model: Option<f64>,
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
