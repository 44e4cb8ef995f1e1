//! A text that is read by the model bit by bit, and what it has cost so far.

use std::time::Instant;

use model::{AttentionPattern, CausalLm, KvCache};
use tch::{Kind, Tensor, no_grad};

use crate::EvaluatorError;

/// One sequence and its cache.
pub(crate) struct Continuation<'m> {
    pub model: &'m CausalLm,
    pub cache: KvCache,
    started: Instant,
    /// Seconds spent before `started`.
    charged: f64,
    /// Hidden state of the last token read, `[1, hidden]`.
    last: Option<Tensor>,
    pub passes: u32,
    pub tokens: u64,
}

impl<'m> Continuation<'m> {
    /// Room for `capacity` tokens.
    pub fn new(model: &'m CausalLm, capacity: usize) -> Self {
        let started = Instant::now();
        let cache = model.new_cache(1, capacity as i64);
        Self { model, cache, started, charged: 0.0, last: None, passes: 0, tokens: 0 }
    }

    /// Behind one pass over `tokens` tokens that took `seconds`: what it left in the cache, and its last state `[1, hidden]`.
    pub fn behind(model: &'m CausalLm, cache: KvCache, state: &Tensor, tokens: usize, seconds: f64) -> Self {
        let (started, last) = (Instant::now(), Some(state.shallow_clone()));
        Self { model, cache, started, charged: seconds, last, passes: 1, tokens: tokens as u64 }
    }

    /// Counts from now on, with `seconds` spent so far.
    pub fn charge(&mut self, seconds: f64) {
        self.started = Instant::now();
        self.charged = seconds;
    }

    /// Reads `ids` in one pass; the last one's final hidden state, `[1, hidden]`. Without `ids` there is no pass, and the state
    /// is that of the last token read before.
    ///
    /// # Panics
    /// When nothing was ever read.
    pub fn feed(&mut self, ids: &[i64]) -> Tensor {
        if !ids.is_empty() {
            self.passes += 1;
            self.tokens += ids.len() as u64;
            let hidden = no_grad(|| {
                let input = Tensor::from_slice(ids).unsqueeze(0).to_device(self.model.device()); // [1, seq]
                let last = [ids.len() as i64 - 1];
                last_row(&self.model.forward_rows(&input, &AttentionPattern::Causal, Some(&mut self.cache), &last))
            });
            self.last = Some(hidden);
        }
        self.last.as_ref().expect("something was read").shallow_clone()
    }

    pub fn seconds(&self) -> f64 {
        self.charged + self.started.elapsed().as_secs_f64()
    }
}

/// `[1, seq, hidden]` -> `[1, hidden]` of the last token.
pub(crate) fn last_row(hidden: &Tensor) -> Tensor {
    hidden.select(1, -1)
}

/// The rows of the output layer that a decode chooses among, selected once.
///
/// Logits are taken in float32 whatever the weights' kind: bfloat16 keeps 8 bits, and among twenty candidates equal
/// logits would be common.
pub(crate) struct OutputColumns {
    tokens: Vec<i64>,
    /// `[columns, hidden]` float32.
    weight: Tensor,
}

impl OutputColumns {
    /// For `tokens`, without repeats.
    pub fn select(model: &CausalLm, tokens: impl IntoIterator<Item = i64>) -> Self {
        let mut tokens: Vec<i64> = tokens.into_iter().collect();
        tokens.sort_unstable();
        tokens.dedup();
        let weight = no_grad(|| {
            let ids = Tensor::from_slice(&tokens).to_device(model.device());
            model.output_weight().index_select(0, &ids).to_kind(Kind::Float)
        });
        Self { tokens, weight }
    }

    /// Logits of all columns after `hidden` `[1, hidden]`.
    pub fn logits(&self, hidden: &Tensor, what: &str) -> Result<ColumnLogits<'_>, EvaluatorError> {
        Ok(ColumnLogits { tokens: &self.tokens, values: self.values(hidden, what)? })
    }

    /// As [`Self::logits`] for each of `hidden` `[rows, hidden]`.
    pub fn rows(&self, hidden: &Tensor, what: &str) -> Result<Vec<ColumnLogits<'_>>, EvaluatorError> {
        let values = self.values(hidden, what)?;
        let row = |values: &[f32]| ColumnLogits { tokens: &self.tokens, values: values.to_vec() };
        Ok(values.chunks(self.tokens.len()).map(row).collect())
    }

    /// Row after row, columns in the order of `tokens`.
    fn values(&self, hidden: &Tensor, what: &str) -> Result<Vec<f32>, EvaluatorError> {
        let logits = no_grad(|| hidden.to_kind(Kind::Float).linear::<&Tensor>(&self.weight, None).view(-1));
        let values = Vec::<f32>::try_from(&logits)?;
        if values.iter().any(|value| !value.is_finite()) {
            return Err(EvaluatorError::NonFiniteLogits { what: what.to_owned() });
        }
        Ok(values)
    }
}

/// Logits of a few tokens.
pub(crate) struct ColumnLogits<'a> {
    tokens: &'a [i64],
    values: Vec<f32>,
}

impl ColumnLogits<'_> {
    /// Logit of a token the columns were selected for.
    pub fn of(&self, token: i64) -> f32 {
        self.tokens.binary_search(&token).map_or(f32::NEG_INFINITY, |column| self.values[column])
    }
}

/// Checks a length against what the model was made for.
pub(crate) fn check_context(model: &CausalLm, what: &str, tokens: usize) -> Result<(), EvaluatorError> {
    let limit = usize::try_from(model.config.max_position_embeddings).unwrap_or(0);
    if tokens > limit {
        return Err(EvaluatorError::ContextTooLong { what: what.to_owned(), tokens, limit });
    }
    Ok(())
}
