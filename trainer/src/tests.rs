//! Training tiny random models on data made in memory: no mocks, no files but the run's own.

mod faults;
mod gradients;
mod learning;
mod resume;
mod support;
mod two_processes;
