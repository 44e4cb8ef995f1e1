//! libtorch's TCPStore alone: where launchers on several hosts meet before there are ranks.
#![allow(unsafe_code, reason = "calls into store.cpp")]

use std::ffi::{c_char, c_int};
use std::net::TcpListener;
use std::os::fd::IntoRawFd as _;
use std::ptr;
use std::time::Duration;

use crate::c10d::{C10dError, c_string, check, take_string};

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For somebody to serve.
    pub connect: Duration,
    /// For an answer.
    pub answer: Duration,
}

/// A connection to the store, and the store itself in the process that serves it.
#[derive(Debug)]
pub struct Store {
    raw: *mut RawStore,
}

// SAFETY: the C++ object is tied to no thread: TCPStore guards its connection with a mutex of its own.
unsafe impl Send for Store {}

impl Store {
    /// Serves the store on `listener`, and connects to it at `host`.
    ///
    /// # Errors
    /// The socket is of no use.
    pub fn serve(host: &str, listener: TcpListener, limits: Limits) -> Result<Self, C10dError> {
        let address = listener.local_addr().map_err(|error| C10dError::Failed { message: error.to_string() })?;
        Self::open(host, address.port(), listener.into_raw_fd(), limits)
    }

    /// Connects to the store that another process serves, trying again while the limits allow.
    ///
    /// # Errors
    /// Nobody serves there.
    pub fn connect(host: &str, port: u16, limits: Limits) -> Result<Self, C10dError> {
        Self::open(host, port, -1, limits)
    }

    fn open(host: &str, port: u16, listening: c_int, limits: Limits) -> Result<Self, C10dError> {
        let host = c_string(host)?;
        let milliseconds = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let (timeout, patience) = (milliseconds(limits.connect), milliseconds(limits.answer));
        let mut raw = ptr::null_mut();
        // SAFETY: the host's name lives until the call returns; `raw` is written only on success; the socket's ownership passes on.
        check(unsafe {
            monopass_store_open(host.as_ptr(), c_int::from(port), listening, timeout, patience, &mut raw)
        })?;
        Ok(Self { raw })
    }

    /// Puts a value.
    ///
    /// # Errors
    /// The store's process is gone, or does not answer.
    pub fn set(&self, key: &str, value: &str) -> Result<(), C10dError> {
        let (key, value) = (c_string(key)?, c_string(value)?);
        // SAFETY: the store is alive and both strings live until the call returns.
        check(unsafe { monopass_store_set(self.raw, key.as_ptr(), value.as_ptr()) })
    }

    /// The value, if one was put there. Does not wait.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn get(&self, key: &str) -> Result<Option<String>, C10dError> {
        let key = c_string(key)?;
        let mut value = ptr::null_mut();
        // SAFETY: the store is alive, the key lives until the call returns, and `value` is null or a fresh string.
        check(unsafe { monopass_store_get(self.raw, key.as_ptr(), &mut value) })?;
        Ok(take_string(value))
    }

    /// Adds `amount` to a number (0 where absent) and returns the sum, which no other process gets between.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn add(&self, key: &str, amount: i64) -> Result<i64, C10dError> {
        let key = c_string(key)?;
        let mut sum = 0;
        // SAFETY: the store is alive, the key and the sum live until the call returns.
        check(unsafe { monopass_store_add(self.raw, key.as_ptr(), amount, &mut sum) })?;
        Ok(sum)
    }

    /// Sets the key where it holds `old`, or is absent and `old` is empty; else leaves it.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn replace(&self, key: &str, old: &str, new: &str) -> Result<(), C10dError> {
        let (key, old, new) = (c_string(key)?, c_string(old)?, c_string(new)?);
        // SAFETY: the store is alive and the strings live until the call returns.
        check(unsafe { monopass_store_replace(self.raw, key.as_ptr(), old.as_ptr(), new.as_ptr()) })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: `raw` came from a successful opening and is given back once.
        unsafe { monopass_store_close(self.raw) }
    }
}

#[repr(C)]
struct RawStore {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn monopass_store_open(
        host: *const c_char,
        port: c_int,
        listening: c_int,
        timeout_ms: i64,
        patience_ms: i64,
        store: *mut *mut RawStore,
    ) -> *mut c_char;
    fn monopass_store_close(store: *mut RawStore);
    fn monopass_store_set(store: *mut RawStore, key: *const c_char, value: *const c_char) -> *mut c_char;
    fn monopass_store_get(store: *mut RawStore, key: *const c_char, value: *mut *mut c_char) -> *mut c_char;
    fn monopass_store_add(store: *mut RawStore, key: *const c_char, amount: i64, sum: *mut i64) -> *mut c_char;
    fn monopass_store_replace(
        store: *mut RawStore,
        key: *const c_char,
        old: *const c_char,
        new: *const c_char,
    ) -> *mut c_char;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Limits {
        Limits { connect: Duration::from_secs(seconds), answer: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_listener_that_never_says_a_word_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = Store::connect("127.0.0.1", port, seconds(1)).unwrap_err().to_string();
        assert!(error.contains("does not answer"), "{error}");
    }

    #[test]
    fn two_connections_see_one_store() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let first = Store::serve("127.0.0.1", listener, seconds(5)).unwrap();
        let second = Store::connect("127.0.0.1", port, seconds(5)).unwrap();
        assert_eq!(second.get("round").unwrap(), None);
        first.replace("round", "", "1").unwrap();
        second.replace("round", "1", "2").unwrap();
        first.replace("round", "1", "9").unwrap();
        assert_eq!(first.get("round").unwrap().as_deref(), Some("2"));
        assert_eq!((first.add("seats", 1).unwrap(), second.add("seats", 1).unwrap()), (1, 2));
        drop(first);
        assert!(second.get("round").is_err(), "the store is gone");
    }

    #[test]
    fn nobody_there_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = Store::connect("127.0.0.1", port, seconds(1)).unwrap_err().to_string();
        assert!(error.starts_with("c10d: "), "{error}");
    }
}
