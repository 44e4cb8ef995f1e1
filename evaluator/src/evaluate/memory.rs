//! What a decoder takes beside the model.

use native::memory::demand_mib;

use super::{EvaluationJob, SetEvaluation, first_window, limited, one_window};
use crate::EvaluatorError;
use crate::decode::Decoder;
use crate::sliding::rerank;

/// Fills in [`Cost::memory_mib`](super::Cost::memory_mib): each of `alone` ranks the first window of the list with most text. They are the job's decoders
/// made anew, without a pass that they share or have made before: one would be spared what another made.
///
/// # Errors
/// What decoders and prompts say.
pub fn measure_memory(
    job: &EvaluationJob,
    alone: &[Box<dyn Decoder>],
    evaluation: &mut SetEvaluation,
) -> Result<(), EvaluatorError> {
    let text = |sample: &&data::RankingSample| sample.passages.iter().map(|passage| passage.text.len()).sum::<usize>();
    let Some(longest) = limited(job).iter().max_by_key(text) else { return Ok(()) };
    // What is made once and kept is no decoder's.
    one_window(job, longest)?;
    let window = first_window(job, longest);
    for decoder in alone {
        let decode = || rerank(job.model, decoder.as_ref(), job.prompts, &window, &job.config.window);
        let (decoded, mib) = demand_mib(job.model.device(), decode);
        decoded?;
        let row = evaluation.rows.iter_mut().find(|row| row.decoder == decoder.name());
        if let Some(cost) = row.and_then(|row| row.cost.as_mut()) {
            cost.memory_mib = mib;
        }
    }
    Ok(())
}
