//! Monopass evaluator.
