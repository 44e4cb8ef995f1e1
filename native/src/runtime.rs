//! Process-wide set-up: the allocator's thresholds and the number of threads.
#![allow(unsafe_code, reason = "mallopt and dlopen have no safe interface")]

use std::sync::Once;

/// Blocks below this come from the heap that stays with the process; glibc refuses more.
const MMAP_THRESHOLD: i32 = 32 << 20;
/// Free memory at the heap's top is kept up to this.
const TRIM_THRESHOLD: i32 = i32::MAX;
/// The heap grows by this much at a time.
const TOP_PAD: i32 = 64 << 20;

/// Call first in `main`: keeps freed blocks in the process (see docs/benchmarks.md) and fixes the number of threads to
/// `OMP_NUM_THREADS`, else all cores. May be called again.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        keep_freed_memory();
        let threads = std::env::var("OMP_NUM_THREADS")
            .ok()
            .and_then(|value| value.split(',').next()?.trim().parse::<i32>().ok())
            .filter(|threads| *threads > 0)
            .or_else(|| i32::try_from(std::thread::available_parallelism().ok()?.get()).ok());
        if let Some(threads) = threads {
            tch::set_num_threads(threads);
        }
    });
}

/// glibc returns multi-megabyte buffers to the kernel at every free, and each new tensor pays page faults for them: raising
/// the thresholds makes element-wise operations up to 20 times faster.
fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt only changes the allocator's own settings and is safe to call at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD);
        libc::mallopt(libc::M_TOP_PAD, TOP_PAD);
    }
}
