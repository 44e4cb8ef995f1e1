//! What a way of answering takes beside the model.

use data::branched::BranchedText;
use native::memory::demand_mib;

use super::config::AnswerDecoder;
use super::evaluate::AnswerJob;
use super::result::AnswerEvaluation;
use crate::EvaluatorError;

/// Fills in [`AnswerRow::memory_mib`](super::AnswerRow::memory_mib): each decoder answers the questions about the longest text, `columnar` those about
/// all texts of its batch.
///
/// # Errors
/// What answering says.
pub fn measure_answer_memory(job: &AnswerJob<'_>, evaluation: &mut AnswerEvaluation) -> Result<(), EvaluatorError> {
    let length = |text: &BranchedText| {
        text.background.len() + text.branches.iter().map(|branch| branch.prompt.len()).sum::<usize>()
    };
    let Some(longest) = (0..job.texts.len()).max_by_key(|index| length(&job.texts[*index])) else { return Ok(()) };
    let size = job.config.texts_per_batch.max(1);
    let first = longest / size * size;
    let batch: Vec<usize> = (first..(first + size).min(job.texts.len())).collect();
    for row in &mut evaluation.rows {
        let batch = if row.decoder == AnswerDecoder::Columnar { batch.as_slice() } else { &[longest] };
        let prompts = job.prompts(batch)?;
        let (answered, mib) = demand_mib(job.model.device(), || job.answer_by(row.decoder, &prompts));
        answered?;
        row.memory_mib = mib;
    }
    Ok(())
}
