//! Where a loader takes its samples from.

use std::sync::Arc;

use crate::{DataError, RankingSample};

/// Samples by index, from several threads.
pub trait SampleSource: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;
    /// True when there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The sample at `index`.
    fn get(&self, index: usize) -> Result<RankingSample, DataError>;
}

impl SampleSource for Vec<RankingSample> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }
    fn get(&self, index: usize) -> Result<RankingSample, DataError> {
        Ok(self[index].clone())
    }
}

impl<S: SampleSource + ?Sized> SampleSource for Arc<S> {
    fn len(&self) -> usize {
        (**self).len()
    }
    fn get(&self, index: usize) -> Result<RankingSample, DataError> {
        (**self).get(index)
    }
}
