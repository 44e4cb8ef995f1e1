//! Choosing the next token from logits.

use data::random::Stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

use crate::EvaluatorError;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// 0 takes the most probable token; otherwise logits are divided by it before sampling. Default 0.
    pub temperature: f64,
    /// Sample among this many most probable tokens; 0 for all. Default 0.
    pub top_k: usize,
    /// Sample among the fewest tokens whose probabilities sum to this, in (0, 1]. Default 1: all.
    pub top_p: f64,
    /// Positive logits of tokens that occurred are divided by this, negative ones multiplied (Keskar et al. 2019), at least 1.
    /// Default 1: none.
    pub repetition_penalty: f64,
    /// Seed of the sampling. Default 42.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, repetition_penalty: 1.0, seed: 42 }
    }
}

impl Sampling {
    /// Everything wrong with the settings.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            problems.push(format!("`temperature`: {}, wanted 0 or more", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            problems.push(format!("`top_p`: {}, wanted more than 0 and at most 1", self.top_p));
        }
        if !(self.repetition_penalty >= 1.0 && self.repetition_penalty.is_finite()) {
            problems.push(format!("`repetition_penalty`: {}, wanted 1 or more", self.repetition_penalty));
        }
        problems
    }

    /// Random numbers for the text number `index` of a run: each text has its own, whatever runs beside it.
    pub(crate) fn stream(&self, index: u64) -> Stream {
        Stream::new("generate", &[self.seed, index])
    }

    /// Random numbers for a question of a text: another text's are others, so that no draw is shared by a whole set.
    pub(crate) fn stream_of_question(&self, text: &str, question: usize) -> Stream {
        Stream::for_id("answer", self.seed, &format!("{text}/{question}"))
    }

    /// The next token of each row of `logits` `[rows, vocab]`; `seen` are the tokens that a row's text holds, `streams` its random
    /// numbers.
    ///
    /// # Errors
    /// Logits that are not finite; `what` says whose.
    pub(crate) fn choose(
        &self,
        logits: &Tensor,
        seen: &[&[i64]],
        streams: &mut [&mut Stream],
        what: &str,
    ) -> Result<Vec<i64>, EvaluatorError> {
        no_grad(|| {
            let logits = self.penalised(logits, seen);
            let not_finite = || EvaluatorError::NonFiniteLogits { what: what.to_owned() };
            if self.temperature == 0.0 {
                let (values, tokens) = logits.max_dim(-1, false); // max passes NaN on
                let finite = values.isfinite().all().int64_value(&[]) != 0;
                return if finite { Ok(Vec::try_from(tokens)?) } else { Err(not_finite()) };
            }
            let sorted = (logits.to_kind(Kind::Float) / self.temperature).softmax(-1, Kind::Float).sort(-1, true);
            let draw_row = |(row, stream): (usize, &mut &mut Stream)| {
                let (probabilities, tokens) = (sorted.0.select(0, row as i64), sorted.1.select(0, row as i64));
                let (probabilities, tokens) = (Vec::<f32>::try_from(&probabilities)?, Vec::<i64>::try_from(&tokens)?);
                if !probabilities.first().is_some_and(|p| p.is_finite()) {
                    return Err(not_finite());
                }
                let kept = if self.top_k == 0 { probabilities.len() } else { self.top_k.min(probabilities.len()) };
                Ok(tokens[draw(&probabilities[..kept], self.top_p, stream.unit())])
            };
            streams.iter_mut().enumerate().map(draw_row).collect()
        })
    }

    fn penalised(&self, logits: &Tensor, seen: &[&[i64]]) -> Tensor {
        if self.repetition_penalty == 1.0 {
            return logits.shallow_clone();
        }
        let penalised = logits.copy();
        for (row, tokens) in seen.iter().enumerate().filter(|(_, tokens)| !tokens.is_empty()) {
            let mut row = penalised.select(0, row as i64);
            let tokens = Tensor::from_slice(tokens).to_device(logits.device());
            let values = row.index_select(0, &tokens);
            let divided = &values / self.repetition_penalty;
            let changed = divided.where_self(&values.gt(0.0), &(&values * self.repetition_penalty));
            let _ = row.index_copy_(0, &tokens, &changed);
        }
        penalised
    }
}

/// Index drawn from descending `probabilities` cut to the fewest that reach `top_p` of their sum, by `unit` in [0, 1).
fn draw(probabilities: &[f32], top_p: f64, unit: f64) -> usize {
    // Less than 1 after a top-k cut; a whole row's float32 sum may be a little more.
    let total = probabilities.iter().map(|p| f64::from(*p)).sum::<f64>().min(1.0);
    let mut kept = 0;
    let mut mass = 0.0;
    for probability in probabilities {
        kept += 1;
        mass += f64::from(*probability);
        if mass >= top_p * total {
            break;
        }
    }
    let mut left = unit * mass;
    for (index, probability) in probabilities[..kept].iter().enumerate() {
        left -= f64::from(*probability);
        if left < 0.0 {
            return index;
        }
    }
    kept - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_p_keeps_the_fewest_that_reach_it() {
        let probabilities = [0.5, 0.3, 0.2];
        assert_eq!(draw(&probabilities, 0.5, 0.999), 0);
        assert_eq!(draw(&probabilities, 0.6, 0.999), 1);
        assert_eq!(draw(&probabilities, 1.0, 0.999), 2);
        assert_eq!(draw(&probabilities, 1.0, 0.0), 0);
        assert_eq!(draw(&probabilities[..2], 0.99, 0.999), 1, "top-k first, then top-p of what is left");
    }

    #[test]
    fn what_occurred_is_made_less_likely() {
        let logits = Tensor::from_slice2(&[[2.0f32, 1.5, -1.0], [2.0, 1.5, -1.0]]);
        let sampling = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        let mut streams = [sampling.stream(0), sampling.stream(1)];
        let mut streams: Vec<&mut Stream> = streams.iter_mut().collect();
        let chosen = sampling.choose(&logits, &[&[0, 0], &[1]], &mut streams, "test").unwrap();
        assert_eq!(chosen, [1, 0], "divided once, however often it occurred");
        let penalised = sampling.penalised(&logits, &[&[2], &[]]);
        assert_eq!(penalised.double_value(&[0, 2]), -2.0);
    }

    #[test]
    fn a_text_draws_the_same_whatever_runs_beside_it() {
        let logits = Tensor::from_slice2(&[[0.1f32, 0.2, 0.3, 0.1], [0.1, 0.2, 0.3, 0.1]]);
        let sampling = Sampling { temperature: 1.0, top_k: 3, ..Sampling::default() };
        let (mut a, mut b, mut alone) = (sampling.stream(0), sampling.stream(1), sampling.stream(1));
        for _ in 0..20 {
            let both = sampling.choose(&logits, &[&[], &[]], &mut [&mut a, &mut b], "test").unwrap();
            let one = sampling.choose(&logits.narrow(0, 1, 1), &[&[]], &mut [&mut alone], "test").unwrap();
            assert_eq!(both[1], one[0]);
        }
    }

    /// One draw for the first question of every text would move them all together.
    #[test]
    fn questions_of_texts_have_random_numbers_of_their_own() {
        let sampling = Sampling { temperature: 1.0, ..Sampling::default() };
        let draw = |text: &str, question: usize| sampling.stream_of_question(text, question).unit();
        assert_eq!(draw("a", 0), draw("a", 0));
        assert!(draw("a", 0) != draw("b", 0) && draw("a", 0) != draw("a", 1) && draw("a/1", 0) != draw("a", 10));
    }
}
