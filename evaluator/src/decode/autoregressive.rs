//! Plain greedy text, as `generate` does: one token a pass until an end token, then parsed.

use data::prompt::{AnswerForm, RankingPrompt, parse_ranking};
use model::{CausalLm, Tokenizer};

use super::{Decoded, Decoder, check_prompt};
use crate::EvaluatorError;
use crate::generate::{GenerateOptions, generate_until};

/// Tokens a model may lose on words before the ranking, blanks, a line after it.
const SLACK: usize = 8;

/// Writes the answer token by token from the bare prompt (no opening is given) and reads the ranking off its text by
/// the one repair rule, [`data::prompt::parse_ranking`].
#[derive(Debug, Clone)]
pub struct Autoregressive {
    tokenizer: Tokenizer,
    form: AnswerForm,
    max_new_tokens: Option<usize>,
}

impl Autoregressive {
    /// `max_new_tokens` bounds the answer; absent, the tokens of a full answer and 8 more.
    #[must_use]
    pub fn new(tokenizer: Tokenizer, form: impl Into<AnswerForm>, max_new_tokens: Option<usize>) -> Self {
        Self { tokenizer, form: form.into(), max_new_tokens }
    }

    /// Tokens the answer may take.
    fn budget(&self, prompt: &RankingPrompt) -> usize {
        self.max_new_tokens.unwrap_or(prompt.answer_tokens() + SLACK)
    }
}

impl Decoder for Autoregressive {
    fn name(&self) -> &'static str {
        "autoregressive"
    }

    fn decode(&self, model: &CausalLm, prompt: &RankingPrompt) -> Result<Decoded, EvaluatorError> {
        check_prompt(prompt)?;
        // the answer may end where the context does: that is a missing candidate, counted, not an error
        let left =
            usize::try_from(model.config.max_position_embeddings).unwrap_or(0).saturating_sub(prompt.input_ids.len());
        super::check_context(model, &prompt.query_id, prompt.input_ids.len() + 1)?;
        let max_new_tokens = self.budget(prompt).min(left);
        let options = GenerateOptions { max_new_tokens, ..GenerateOptions::default() };
        let generated = generate_until(model, self.tokenizer.eos_token_ids(), &prompt.input_ids, &options)
            .map_err(|error| named(error, prompt))?;
        let text = self.tokenizer.decode(&generated.token_ids, true)?;
        let (order, repair) = parse_ranking(&text, self.form, prompt.identifiers.len());
        Ok(Decoded {
            order,
            repair,
            scores: None,
            forward_passes: generated.forward_passes,
            new_tokens: generated.token_ids.len() as u32,
            tokens_computed: generated.tokens_computed,
            seconds: generated.seconds,
            text: Some(text),
            accepted_per_pass: None,
            seconds_after_model: None,
        })
    }
}

/// Puts the query's id where `generate` can only say `generate`.
fn named(error: EvaluatorError, prompt: &RankingPrompt) -> EvaluatorError {
    match error {
        EvaluatorError::NonFiniteLogits { .. } => EvaluatorError::NonFiniteLogits { what: prompt.query_id.clone() },
        other => other,
    }
}
