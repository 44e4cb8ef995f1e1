//! From a sample to tokens.

use model::Tokenizer;

use super::{RankTarget, TokenizedSample};
use crate::prompt::PromptBuilder;
use crate::schema::check_permutation;
use crate::{DataError, RankingSample};

/// Tokens of a sample's prompt and of the answer its target asks for.
///
/// # Errors
/// No target, a target that is no permutation, what [`PromptBuilder::prompt`] finds, or prompt tokens that change once the
/// answer follows.
pub fn tokenize_sample(builder: &PromptBuilder, sample: &RankingSample) -> Result<TokenizedSample, DataError> {
    let target = sample.target.as_ref().ok_or_else(|| DataError::NoTarget { query_id: sample.query_id.clone() })?;
    check_permutation(&sample.query_id, "target", target, sample.passages.len())?;
    let prompt = builder.prompt(sample)?;
    builder.verify(&prompt, target)?;
    let label_start = prompt.input_ids.len();
    let rank = prompt.single_token_identifiers().map(|identifier_ids| {
        let mut ranks = vec![0; target.len()];
        for (place, &index) in target.iter().enumerate() {
            ranks[usize::from(index)] = place as i64 + 1;
        }
        // The last token before the first identifier: the opening's, or the prompt's when there is none.
        let row = (label_start + prompt.opening.len()) as i64 - 1;
        RankTarget { row, identifier_ids, ranks }
    });
    let response = builder.response(&prompt, target);
    let mut input_ids = prompt.input_ids;
    input_ids.extend(response);
    let targets = TokenizedSample::from_place(label_start, input_ids.len());
    Ok(TokenizedSample { query_id: prompt.query_id, input_ids, targets, rank, columns: None })
}

/// Tokens of any prompt and answer, without a ranking target (tests, other tasks).
pub fn tokenize_text(
    tokenizer: &Tokenizer,
    query_id: &str,
    prompt: &str,
    answer: &str,
) -> Result<TokenizedSample, DataError> {
    let mut input_ids = tokenizer.encode(prompt, false)?;
    let label_start = input_ids.len();
    input_ids.extend(tokenizer.encode(answer, false)?);
    let targets = TokenizedSample::from_place(label_start, input_ids.len());
    Ok(TokenizedSample { query_id: query_id.to_owned(), input_ids, targets, rank: None, columns: None })
}
