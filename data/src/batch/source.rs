//! Where a loader takes its samples from.

use std::sync::Arc;

use crate::{DataError, RankingSample};

/// Samples by index, from several threads.
pub trait SampleSource<S = RankingSample>: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;
    /// True when there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The sample at `index`.
    fn get(&self, index: usize) -> Result<S, DataError>;
}

impl<S: Clone + Send + Sync> SampleSource<S> for Vec<S> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }
    fn get(&self, index: usize) -> Result<S, DataError> {
        Ok(self[index].clone())
    }
}

impl<S, T: SampleSource<S> + ?Sized> SampleSource<S> for Arc<T> {
    fn len(&self) -> usize {
        (**self).len()
    }
    fn get(&self, index: usize) -> Result<S, DataError> {
        (**self).get(index)
    }
}
