//! libtorch's c10d: a TCP store, a process group (Gloo for CPU tensors, NCCL for CUDA ones) and the gradient reducer of
//! DistributedDataParallel. No collective is written by hand; `cpp/c10d.cpp` translates.
//!
//! NCCL is there when the build defines `MONOPASS_NCCL`, which needs the CUDA libtorch and the headers of CUDA and NCCL;
//! [`has_nccl`] says so.
#![allow(unsafe_code, reason = "calls into c10d.cpp")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::net::{IpAddr, ToSocketAddrs as _, UdpSocket};
use std::ptr;
use std::time::Duration;

use tch::Tensor;

/// What c10d said, or why it could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum C10dError {
    /// An exception of libtorch: a timeout, a lost connection, tensors that do not match.
    #[error("c10d: {message}")]
    Failed {
        /// First line of its message.
        message: String,
    },
    /// Text for the store holds a zero byte.
    #[error("`{text}` holds a zero byte, wanted plain text")]
    ZeroByte {
        /// The text, escaped.
        text: String,
    },
    /// NCCL was asked for and is not part of this build.
    #[error(
        "this build has no NCCL: CUDA tensors cannot be reduced; build with the CUDA libtorch and NCCL's headers (docs/gpu.md)"
    )]
    NoNccl,
}

/// How to join a group of processes.
#[derive(Debug, Clone)]
pub struct JoinOptions {
    /// Host of the store.
    pub host: String,
    /// Port of the store.
    pub port: u16,
    /// Whether this process runs the store (usually rank 0).
    pub serve_store: bool,
    /// Prefix of all keys; differs between restarts of one run.
    pub prefix: String,
    /// This process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub world_size: usize,
    /// Longest wait for another process, in joining and in each collective.
    pub timeout: Duration,
    /// Reduce CUDA tensors through NCCL.
    pub nccl: bool,
}

/// True when CUDA tensors can be reduced.
pub fn has_nccl() -> bool {
    // SAFETY: takes nothing and returns a constant.
    unsafe { monopass_c10d_has_nccl() != 0 }
}

/// A joined group of processes. Collectives must be called in the same order by all of them.
#[derive(Debug)]
pub struct ProcessGroup {
    raw: *mut RawGroup,
}

impl ProcessGroup {
    /// Joins; blocks until the others have joined or the timeout passes.
    ///
    /// # Errors
    /// No store at the address, other processes missing, or NCCL asked for without being built in.
    pub fn join(options: &JoinOptions) -> Result<Self, C10dError> {
        if options.nccl && !has_nccl() {
            return Err(C10dError::NoNccl);
        }
        let host = c_string(&options.host)?;
        let own_address = c_string(&own_address(&options.host, options.port).unwrap_or_default())?;
        let prefix = c_string(&options.prefix)?;
        let timeout_ms = i64::try_from(options.timeout.as_millis()).unwrap_or(i64::MAX);
        let mut raw = ptr::null_mut();
        // SAFETY: the strings live until the call returns, and `raw` is written only on success.
        let error = unsafe {
            monopass_c10d_join(
                host.as_ptr(),
                c_int::from(options.port),
                own_address.as_ptr(),
                c_int::from(options.serve_store),
                prefix.as_ptr(),
                options.rank as c_int,
                options.world_size as c_int,
                timeout_ms,
                c_int::from(options.nccl),
                &mut raw,
            )
        };
        check(error)?;
        Ok(Self { raw })
    }

    /// Adds `tensor` up over all processes, in place; all get the same bits.
    ///
    /// # Errors
    /// A process left or did not come in time, or shapes differ.
    pub fn all_reduce_sum(&self, tensor: &mut Tensor) -> Result<(), C10dError> {
        // SAFETY: the group is alive, and the tensor is borrowed for the whole (blocking) call.
        check(unsafe { monopass_c10d_all_reduce_sum(self.raw, tensor.as_mut_ptr().cast()) })
    }

    /// Overwrites `tensor` with that of process `root`, in place.
    ///
    /// # Errors
    /// As [`Self::all_reduce_sum`].
    pub fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<(), C10dError> {
        // SAFETY: the group is alive, and the tensor is borrowed for the whole (blocking) call.
        check(unsafe { monopass_c10d_broadcast(self.raw, tensor.as_mut_ptr().cast(), root as c_int) })
    }

    /// Puts a value into the store that all processes see.
    ///
    /// # Errors
    /// The store's process is gone.
    pub fn store_set(&self, key: &str, value: &str) -> Result<(), C10dError> {
        let (key, value) = (c_string(key)?, c_string(value)?);
        // SAFETY: the group is alive and both strings live until the call returns.
        check(unsafe { monopass_c10d_store_set(self.raw, key.as_ptr(), value.as_ptr()) })
    }

    /// Value in the store, if one was put there. Does not wait.
    ///
    /// # Errors
    /// The store's process is gone.
    pub fn store_get(&self, key: &str) -> Result<Option<String>, C10dError> {
        let key = c_string(key)?;
        let mut value = ptr::null_mut();
        // SAFETY: the group is alive, the key lives until the call returns, and `value` is null or a fresh string.
        check(unsafe { monopass_c10d_store_get(self.raw, key.as_ptr(), &mut value) })?;
        Ok(take_string(value))
    }

    /// The reducer for `parameters` (leaves that require gradients, the same on every process). `bucket_bytes` is the
    /// size of one message. `in_bf16`: float32 gradients are rounded to bf16, travel and are added up so.
    ///
    /// # Errors
    /// Parameters differ between processes.
    pub fn reducer(&self, parameters: &[Tensor], bucket_bytes: i64, in_bf16: bool) -> Result<Reducer<'_>, C10dError> {
        let pointers: Vec<*mut c_void> = parameters.iter().map(|tensor| tensor.as_ptr().cast_mut().cast()).collect();
        let mut raw = ptr::null_mut();
        // SAFETY: the pointers are read during the call only: the reducer keeps handles of its own to the same tensors.
        check(unsafe {
            let length = pointers.len() as i64;
            monopass_c10d_reducer_new(self.raw, pointers.as_ptr(), length, bucket_bytes, c_int::from(in_bf16), &mut raw)
        })?;
        Ok(Reducer { raw, group: PhantomData })
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // SAFETY: `raw` came from a successful join and is given back once.
        unsafe { monopass_c10d_leave(self.raw) }
    }
}

/// DistributedDataParallel's bucketed reducer: hooks on the parameters send each bucket as soon as its gradients are there,
/// while the backward pass goes on. Gradients are *summed* over processes.
#[derive(Debug)]
pub struct Reducer<'a> {
    raw: *mut RawReducer,
    group: PhantomData<&'a ProcessGroup>,
}

impl Reducer<'_> {
    /// The next backward pass reduces; when it returns, every `grad()` holds the sum. Backward passes without this call
    /// before them accumulate locally. Every parameter must get a gradient, exactly once.
    ///
    /// # Errors
    /// The previous reduced pass left parameters without gradient.
    pub fn prepare(&self) -> Result<(), C10dError> {
        // SAFETY: `raw` is alive until drop.
        check(unsafe { monopass_c10d_reducer_prepare(self.raw) })
    }

    /// Time since the last bucket was sent. Right after a reduced backward pass: what it waited for, nothing left to compute.
    #[must_use]
    pub fn since_last_sent(&self) -> Duration {
        // SAFETY: `raw` is alive until drop.
        Duration::from_secs_f64(unsafe { monopass_c10d_reducer_seconds_since_last_sent(self.raw) }.max(0.0))
    }
}

impl Drop for Reducer<'_> {
    fn drop(&mut self) {
        // SAFETY: `raw` came from a successful construction and is given back once.
        unsafe { monopass_c10d_reducer_free(self.raw) }
    }
}

/// Drops the gradient of a leaf: its memory is free for the next forward pass, and the next backward pass moves a fresh
/// gradient in instead of adding to zeros.
pub fn clear_gradient(parameter: &mut Tensor) {
    // SAFETY: the tensor is borrowed mutably, and only its own gradient handle is reset.
    unsafe { monopass_clear_gradient(parameter.as_mut_ptr().cast()) }
}

/// This host's address on the way to another, where that can be found out. Nothing is sent. A name that leads back to the loopback says
/// nothing about where others find this host.
pub fn own_address(host: &str, port: u16) -> Option<String> {
    let target = (host, port).to_socket_addrs().ok()?.next()?;
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(target).ok()?;
    let address = socket.local_addr().ok()?.ip();
    let named_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|host| host.is_loopback());
    (named_loopback || !address.is_loopback()).then(|| address.to_string())
}

pub(crate) fn c_string(text: &str) -> Result<CString, C10dError> {
    CString::new(text).map_err(|_| C10dError::ZeroByte { text: text.escape_debug().to_string() })
}

pub(crate) fn check(error: *mut c_char) -> Result<(), C10dError> {
    match take_string(error) {
        None => Ok(()),
        Some(message) => Err(C10dError::Failed { message }),
    }
}

/// Copies and frees a string of the C side; None for null.
pub(crate) fn take_string(string: *mut c_char) -> Option<String> {
    if string.is_null() {
        return None;
    }
    // SAFETY: not null, made by `copy_string` in c10d.cpp, which ends it with a zero.
    let text = unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned();
    // SAFETY: allocated on the C side, freed there once.
    unsafe { monopass_c10d_free_string(string) };
    Some(text)
}

#[repr(C)]
struct RawGroup {
    _opaque: [u8; 0],
}

#[repr(C)]
struct RawReducer {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn monopass_c10d_has_nccl() -> c_int;
    fn monopass_c10d_join(
        host: *const c_char,
        port: c_int,
        own_address: *const c_char,
        serve_store: c_int,
        prefix: *const c_char,
        rank: c_int,
        world_size: c_int,
        timeout_ms: i64,
        nccl: c_int,
        group: *mut *mut RawGroup,
    ) -> *mut c_char;
    fn monopass_c10d_leave(group: *mut RawGroup);
    fn monopass_c10d_all_reduce_sum(group: *mut RawGroup, tensor: *mut c_void) -> *mut c_char;
    fn monopass_c10d_broadcast(group: *mut RawGroup, tensor: *mut c_void, root: c_int) -> *mut c_char;
    fn monopass_c10d_store_set(group: *mut RawGroup, key: *const c_char, value: *const c_char) -> *mut c_char;
    fn monopass_c10d_store_get(group: *mut RawGroup, key: *const c_char, value: *mut *mut c_char) -> *mut c_char;
    fn monopass_c10d_reducer_new(
        group: *mut RawGroup,
        parameters: *const *mut c_void,
        num_parameters: i64,
        bucket_bytes: i64,
        in_bf16: c_int,
        reducer: *mut *mut RawReducer,
    ) -> *mut c_char;
    fn monopass_c10d_reducer_prepare(reducer: *mut RawReducer) -> *mut c_char;
    fn monopass_c10d_reducer_seconds_since_last_sent(reducer: *const RawReducer) -> f64;
    fn monopass_c10d_reducer_free(reducer: *mut RawReducer);
    fn monopass_clear_gradient(tensor: *mut c_void);
    fn monopass_c10d_free_string(string: *mut c_char);
}
