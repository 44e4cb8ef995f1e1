//! The only crate with `unsafe` and C++: libtorch's c10d, fused kernels and optimiser steps, the process's memory.
pub mod attention;
pub mod ops;
pub mod optim;
pub mod runtime;
pub mod memory;
pub mod c10d;
