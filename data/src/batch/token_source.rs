//! Samples as token ids: what a loader draws from, whatever the task.

use std::sync::Arc;

use super::{SamplePlace, SampleSource, TokenizedSample, tokenize_sample};
use crate::prompt::PromptBuilder;
use crate::random::Stream;
use crate::{DataError, RankingSample};

/// Tokenised samples by their place in the order, from several threads.
pub trait TokenSource: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// True when there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample at a place: a pure function of place and seed.
    ///
    /// # Errors
    /// A sample that cannot be read or tokenised.
    fn tokens(&self, place: SamplePlace, seed: u64) -> Result<TokenizedSample, DataError>;

    /// What to say of a sample with more than `limit` tokens.
    fn too_long(&self, sample: &TokenizedSample, limit: usize) -> DataError {
        let (query_id, tokens) = (sample.query_id.clone(), sample.input_ids.len());
        DataError::PromptTooLong { query_id, tokens, limit }
    }
}

/// Candidate lists with their target order.
pub struct RankingTokens {
    /// The lists.
    pub source: Arc<dyn SampleSource>,
    /// Writes their prompts.
    pub builder: PromptBuilder,
    /// Shuffle every list anew each epoch, the target with it.
    pub shuffle_candidates: bool,
}

impl TokenSource for RankingTokens {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn tokens(&self, place: SamplePlace, seed: u64) -> Result<TokenizedSample, DataError> {
        let mut sample = self.source.get(place.index)?;
        if self.shuffle_candidates {
            sample = shuffled(&sample, seed, place);
        }
        tokenize_sample(&self.builder, &sample)
    }
}

/// The list in an order of this epoch's own.
fn shuffled(sample: &RankingSample, seed: u64, place: SamplePlace) -> RankingSample {
    let parts = [seed, place.epoch, place.index as u64];
    let order = Stream::new("candidates of an epoch", &parts).permutation(sample.passages.len());
    sample.select(&order.into_iter().map(|index| index as u16).collect::<Vec<_>>())
}
