//! One evaluation by several ranks: each decodes its queries into a part, and the parts become one file.

use std::ops::ControlFlow;
use std::time::Instant;

use super::predictions::Predictions;
use super::{EvaluationJob, Progress, check, decode_query, limited, warm_up};
use crate::EvaluatorError;
use crate::rank_share::{RankShare, parts};

/// Decodes a rank's queries that the job's file does not hold, into a part beside it. `Break` stops; what is done is kept.
///
/// # Errors
/// As [`super::evaluate`].
pub fn evaluate_share(
    job: &EvaluationJob,
    share: RankShare,
    on_query: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<(), EvaluatorError> {
    check(job)?;
    let Some(predictions) = job.predictions else {
        return Err(EvaluatorError::Config { problems: vec!["ranks share an evaluation through its file".to_owned()] });
    };
    let samples = limited(job);
    let before = Predictions::read(predictions, job.content_key, job.samples)?;
    let mut own = Predictions::open(&share.part(predictions), job.content_key, job.samples)?;
    let mine = || share.of(samples.len()).map(|index| (index, &samples[index]));
    let is_done = |query: &str, own: &Predictions| before.get(query).is_some() || own.get(query).is_some();
    let (total, resumed) = (mine().count(), mine().filter(|(_, sample)| is_done(&sample.query_id, &own)).count());
    if resumed < total {
        warm_up(job, &samples[0])?;
    }
    let (started, mut done) = (Instant::now(), resumed);
    for (index, sample) in mine() {
        if is_done(&sample.query_id, &own) {
            continue;
        }
        let decoders = decode_query(job, sample, index)?;
        own.add(sample, decoders)?;
        done += 1;
        let seconds = started.elapsed().as_secs_f64();
        let progress = Progress { done, total, query_id: &sample.query_id, seconds, resumed };
        if on_query(&progress).is_break() {
            return Err(EvaluatorError::Interrupted);
        }
    }
    Ok(())
}

/// Takes the lines of all parts, of whatever number of ranks, into the job's file and removes the parts. For one rank, while no other
/// decodes.
///
/// # Errors
/// Files that cannot be read or written.
pub fn merge_shares(job: &EvaluationJob) -> Result<(), EvaluatorError> {
    let Some(predictions) = job.predictions else { return Ok(()) };
    let mut all = Predictions::open(predictions, job.content_key, job.samples)?;
    for part in parts(predictions)? {
        let lines = Predictions::read(&part, job.content_key, job.samples)?;
        for sample in job.samples {
            if let (None, Some(line)) = (all.get(&sample.query_id), lines.get(&sample.query_id)) {
                all.add(sample, line.decoders.clone())?;
            }
        }
        std::fs::remove_file(&part).map_err(EvaluatorError::write(&part))?;
    }
    Ok(())
}
