//! Panics of libraries on damaged files, made into errors.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread would be caught and told as an error: a panic hook need not print it.
#[must_use]
pub fn panics_are_told_as_errors() -> bool {
    GUARDED.get()
}

/// Runs a library's reader on bytes from outside.
///
/// # Errors
/// Its own, and its panic.
pub fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let outer = GUARDED.replace(true);
    let read = catch_unwind(AssertUnwindSafe(read));
    GUARDED.set(outer);
    read.unwrap_or_else(|_| Err("damaged (the reader gave up)".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_and_is_known_to_be_caught() {
        let error = guarded::<()>(|| {
            assert_eq!(guarded(|| Ok(1)), Ok(1));
            assert!(panics_are_told_as_errors(), "still, behind the inner one");
            panic!("thrift")
        });
        assert!(error.unwrap_err().contains("damaged"));
        assert!(!panics_are_told_as_errors());
    }
}
