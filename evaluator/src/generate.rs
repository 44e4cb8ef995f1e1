//! Text from a language model: greedy or sampled, one token a pass.

use std::time::Instant;

use model::{CausalLm, Tokenizer};
use tch::no_grad;

use crate::EvaluatorError;
use crate::decode::{Continuation, check_context};
use crate::sampling::Sampling;

/// How to go on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GenerateOptions {
    /// Tokens at most.
    pub max_new_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Go on to `max_new_tokens` whatever comes: no end token ends the text.
    pub ignore_eos: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { max_new_tokens: 256, sampling: Sampling::default(), ignore_eos: false }
    }
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end token, which is the last of `token_ids`.
    EndToken,
    /// `max_new_tokens`.
    Length,
}

/// New tokens and what they cost.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Generated {
    /// New tokens, the end token included.
    pub token_ids: Vec<i64>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Passes of the model; the first reads the whole prompt.
    pub forward_passes: u32,
    /// Tokens that went through the model.
    pub tokens_computed: u64,
    /// Seconds until the first new token.
    pub first_token_seconds: f64,
    /// Seconds in all.
    pub seconds: f64,
}

/// Continues `ids`; ends at the tokenizer's end tokens.
///
/// # Errors
/// Bad options, an empty prompt, a prompt and answer beyond the model's context, logits that are not finite.
pub fn generate(
    model: &CausalLm,
    tokenizer: &Tokenizer,
    ids: &[i64],
    options: &GenerateOptions,
) -> Result<Generated, EvaluatorError> {
    generate_until(model, tokenizer.eos_token_ids(), ids, options)
}

/// As [`generate`], ending at any of `end_tokens`.
///
/// # Errors
/// As [`generate`].
pub fn generate_until(
    model: &CausalLm,
    end_tokens: &[i64],
    ids: &[i64],
    options: &GenerateOptions,
) -> Result<Generated, EvaluatorError> {
    let problems = options.sampling.validate();
    if !problems.is_empty() {
        return Err(EvaluatorError::Config { problems });
    }
    if ids.is_empty() {
        return Err(EvaluatorError::BadPrompt { query_id: "generate".into(), reason: "no prompt tokens" });
    }
    let started = Instant::now();
    check_context(model, "generate", ids.len() + options.max_new_tokens)?;
    let mut text = Continuation::new(model, ids.len() + options.max_new_tokens);
    let mut stream = options.sampling.stream(0);
    let mut token_ids = Vec::with_capacity(options.max_new_tokens);
    let mut seen = ids.to_vec();
    let mut first_token_seconds = 0.0;
    let mut finish_reason = FinishReason::Length;
    while token_ids.len() < options.max_new_tokens {
        let hidden = match token_ids.last() {
            Some(last) => text.feed(&[*last]),
            None => text.feed(ids),
        };
        let logits = no_grad(|| model.logits(&hidden, None)); // [1, vocab]
        let token = options.sampling.choose(&logits, &[&seen], &mut [&mut stream], "generate")?[0];
        if token_ids.is_empty() {
            first_token_seconds = started.elapsed().as_secs_f64();
        }
        token_ids.push(token);
        seen.push(token);
        if !options.ignore_eos && end_tokens.contains(&token) {
            finish_reason = FinishReason::EndToken;
            break;
        }
    }
    Ok(Generated {
        token_ids,
        finish_reason,
        forward_passes: text.passes,
        tokens_computed: text.tokens,
        first_token_seconds,
        seconds: started.elapsed().as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use model::config::Architecture;
    use model::{LoadOptions, ModelConfig};
    use tch::{Device, Kind, Tensor};

    use super::*;

    fn tiny() -> CausalLm {
        let options = LoadOptions { device: Device::Cpu, kind: Kind::Float };
        CausalLm::random(ModelConfig::tiny(Architecture::Llama, 50), 1, &options)
    }

    #[test]
    fn greedy_equals_reading_everything_anew() {
        let model = tiny();
        let options = GenerateOptions { max_new_tokens: 12, ignore_eos: true, ..GenerateOptions::default() };
        let generated = generate_until(&model, &[], &[3, 1, 4, 1, 5], &options).unwrap();
        let mut ids = vec![3, 1, 4, 1, 5];
        for token in &generated.token_ids {
            let input = Tensor::from_slice(&ids).unsqueeze(0);
            let hidden = no_grad(|| model.forward(&input, &model::AttentionPattern::Causal, None));
            assert_eq!(model.logits(&hidden.select(1, -1), None).argmax(-1, false).int64_value(&[0]), *token);
            ids.push(*token);
        }
        assert_eq!((generated.forward_passes, generated.tokens_computed), (12, 5 + 11));
        assert_eq!(generated.finish_reason, FinishReason::Length);
    }

    #[test]
    fn an_end_token_ends_unless_told_otherwise() {
        let model = tiny();
        let options = GenerateOptions { max_new_tokens: 6, ..GenerateOptions::default() };
        let free = generate_until(&model, &[], &[7, 8], &options).unwrap().token_ids;
        let ended = generate_until(&model, &[free[0]], &[7, 8], &options).unwrap();
        assert_eq!((ended.token_ids.len(), ended.finish_reason), (1, FinishReason::EndToken));
        let forced = GenerateOptions { ignore_eos: true, ..options };
        assert_eq!(generate_until(&model, &[free[0]], &[7, 8], &forced).unwrap().token_ids, free);
    }

    #[test]
    fn sampling_repeats_with_its_seed() {
        let model = tiny();
        let sampled = |seed| {
            let options = GenerateOptions {
                max_new_tokens: 20,
                sampling: Sampling { temperature: 1.0, seed, top_p: 0.9, ..Sampling::default() },
                ..GenerateOptions::default()
            };
            generate_until(&model, &[], &[1], &options).unwrap().token_ids
        };
        assert_eq!(sampled(1), sampled(1));
        assert_ne!(sampled(1), sampled(2));
    }

    #[test]
    fn bad_options_and_lengths_are_refused() {
        let model = tiny();
        let sampling = Sampling { temperature: f64::NAN, top_p: 0.0, ..Sampling::default() };
        let bad = GenerateOptions { sampling, ..GenerateOptions::default() };
        let message = generate_until(&model, &[], &[1], &bad).unwrap_err().to_string();
        assert!(message.contains("`temperature`") && message.contains("`top_p`"), "{message}");
        let long = GenerateOptions { max_new_tokens: 600, ..GenerateOptions::default() };
        assert!(generate_until(&model, &[], &[1], &long).unwrap_err().to_string().contains("601 tokens"));
        assert!(generate_until(&model, &[], &[], &GenerateOptions::default()).is_err());
    }
}
