//! The only crate with `unsafe` and C++: libtorch's c10d, fused kernels and optimiser steps, the process's memory.
//!
//! Every kernel has a tensor-op twin that is exact, runs on every device and kind, and serves as the tests' oracle.

pub mod attention;
pub mod c10d;
#[cfg(test)]
mod draws;
mod error;
mod ffi;
pub mod kernels;
pub mod memory;
pub mod ops;
pub mod optim;
pub mod runtime;
pub mod store;

pub use error::NativeError;
pub use ffi::kernels_run;
