//! One pass: candidates by the logits of their identifiers in the answer's first place (FIRST, Reddy et al. 2024).

use std::time::Instant;

use data::prompt::RankingPrompt;
use model::{AttentionPattern, CausalLm};
use tch::{Tensor, no_grad};

use super::continuation::{OutputColumns, last_row};
use super::drafted_list::by_logit;
use super::{
    Decoded, Decoder, LastPrompt, RepairCounts, answer_tokens, check_context, check_prompt, prompt_with_opening,
};
use crate::EvaluatorError;

/// Reads prompt and opening in one pass (alone without a cache, in an evaluation the pass that other decoders begin with), and the
/// logits of the identifiers' columns only. Equal logits keep the input order.
#[derive(Debug, Clone, Copy, Default)]
pub struct SingleToken;

impl Decoder for SingleToken {
    fn name(&self) -> &'static str {
        "single_token"
    }

    fn decode(&self, model: &CausalLm, prompt: &RankingPrompt) -> Result<Decoded, EvaluatorError> {
        let started = Instant::now();
        let ids = checked(model, prompt)?;
        let hidden = no_grad(|| {
            let input = Tensor::from_slice(&ids).unsqueeze(0).to_device(model.device()); // [1, seq]
            last_row(&model.forward_rows(&input, &AttentionPattern::Causal, None, &[ids.len() as i64 - 1]))
        });
        let decoded = by_first_token(model, prompt, &hidden, ids.len())?;
        Ok(Decoded { seconds: started.elapsed().as_secs_f64(), ..decoded })
    }

    /// Prompts packed into one row.
    fn decode_batch(&self, model: &CausalLm, prompts: &[&RankingPrompt]) -> Result<Vec<Decoded>, EvaluatorError> {
        if prompts.len() < 2 {
            return prompts.iter().map(|prompt| self.decode(model, prompt)).collect();
        }
        let started = Instant::now();
        let (mut ids, mut cu_seqlens) = (Vec::new(), vec![0i64]);
        for prompt in prompts {
            ids.extend(checked(model, prompt)?);
            cu_seqlens.push(ids.len() as i64);
        }
        let last: Vec<i64> = cu_seqlens[1..].iter().map(|end| end - 1).collect();
        let lengths: Vec<i64> = cu_seqlens.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let hidden = no_grad(|| {
            let input = Tensor::from_slice(&ids).unsqueeze(0).to_device(model.device()); // [1, tokens of all]
            model.forward_rows(&input, &AttentionPattern::Packed { cu_seqlens }, None, &last).squeeze_dim(0)
        });
        let of_prompt = |(place, prompt): (usize, &&RankingPrompt)| {
            by_first_token(model, prompt, &hidden.narrow(0, place as i64, 1), lengths[place] as usize)
        };
        let mut decoded = prompts.iter().enumerate().map(of_prompt).collect::<Result<Vec<_>, _>>()?;
        let share = started.elapsed().as_secs_f64() / prompts.len().max(1) as f64;
        decoded.iter_mut().for_each(|decoded| decoded.seconds = share);
        Ok(decoded)
    }

    fn decode_behind(
        &self,
        model: &CausalLm,
        prompt: &RankingPrompt,
        last: &LastPrompt,
    ) -> Result<Decoded, EvaluatorError> {
        let ids = checked(model, prompt)?;
        // The room is for those who go on from here.
        let (text, state) = last.read(model, &ids, ids.len() + answer_tokens(prompt));
        let decoded = by_first_token(model, prompt, &state, ids.len())?;
        Ok(Decoded { seconds: text.seconds(), ..decoded })
    }
}

/// Tokens of prompt and opening.
fn checked(model: &CausalLm, prompt: &RankingPrompt) -> Result<Vec<i64>, EvaluatorError> {
    check_prompt(prompt)?;
    let ids = prompt_with_opening(prompt);
    check_context(model, &prompt.query_id, ids.len() + 1)?;
    Ok(ids)
}

/// The ranking after the state `[1, hidden]` behind `tokens` tokens; its seconds are to be filled in.
fn by_first_token(
    model: &CausalLm,
    prompt: &RankingPrompt,
    state: &Tensor,
    tokens: usize,
) -> Result<Decoded, EvaluatorError> {
    let identifiers = single_tokens(prompt)?;
    let columns = OutputColumns::select(model, identifiers.iter().copied());
    let logits = columns.logits(state, &prompt.query_id)?;
    let mut order: Vec<u16> = (0..identifiers.len() as u16).collect();
    let score = |candidate: u16| logits.of(identifiers[usize::from(candidate)]);
    order.sort_by(|a, b| by_logit(score(*a), score(*b)).then(a.cmp(b)));
    Ok(Decoded {
        scores: Some(order.iter().map(|candidate| score(*candidate)).collect()),
        order,
        forward_passes: 1,
        new_tokens: 1,
        tokens_computed: tokens as u64,
        seconds: 0.0,
        repair: RepairCounts::default(),
        text: None,
        accepted_per_pass: None,
        seconds_after_model: None,
    })
}

/// The one token of each identifier.
pub(crate) fn single_tokens(prompt: &RankingPrompt) -> Result<Vec<i64>, EvaluatorError> {
    let token = |(index, identifier): (usize, &Vec<i64>)| match identifier[..] {
        [token] => Ok(token),
        _ => Err(EvaluatorError::MultiTokenIdentifier {
            query_id: prompt.query_id.clone(),
            candidate: index + 1,
            tokens: identifier.len(),
        }),
    };
    prompt.identifiers.iter().enumerate().map(token).collect()
}
