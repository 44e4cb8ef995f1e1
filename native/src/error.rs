//! What can go wrong in this crate.

/// Errors of libtorch and of our own C++.
#[derive(Debug, thiserror::Error)]
pub enum NativeError {
    /// A C++ operation threw.
    #[error("`{operation}` failed: {message}")]
    Operation {
        /// Name of the Rust function.
        operation: &'static str,
        /// What it said.
        message: String,
    },
}

/// As tch's own operations do: an error of an operation without a `Result` is a panic that says what was wrong.
pub(crate) fn unwrap<T>(result: Result<T, NativeError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}
