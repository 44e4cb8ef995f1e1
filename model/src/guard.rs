//! Panics of libraries on damaged files, made into errors.

use std::any::Any;
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
    read.unwrap_or_else(|panic| Err(format!("damaged (the reader gave up: {})", message(panic.as_ref()))))
}

/// What `panic!` was given.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it does not say why")
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
        assert_eq!(error.unwrap_err(), "damaged (the reader gave up: thrift)");
        let counted = guarded::<()>(|| panic!("{} of {}", 3, 2));
        assert_eq!(counted.unwrap_err(), "damaged (the reader gave up: 3 of 2)");
        assert!(!panics_are_told_as_errors());
    }
}
