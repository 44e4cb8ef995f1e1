//! Process-wide set-up: the allocator's thresholds, the number of threads, CUDA when libtorch has it.
#![allow(unsafe_code, reason = "mallopt and dlopen have no safe interface")]

use std::ffi::{CStr, CString};
use std::path::PathBuf;
use std::sync::{Once, OnceLock};

/// Blocks below this come from the heap that stays with the process; glibc refuses more.
const MMAP_THRESHOLD: i32 = 32 << 20;
/// Free memory at the heap's top is kept up to this.
const TRIM_THRESHOLD: i32 = i32::MAX;
/// The heap grows by this much at a time.
const TOP_PAD: i32 = 64 << 20;

unsafe extern "C" {
    fn monopass_quiet_log();
}

/// Call first in `main`: lets libtorch log errors only (`TORCH_CPP_LOG_LEVEL` overrides), keeps freed blocks in the process (see docs/benchmarks.md), fixes the number of threads to
/// `OMP_NUM_THREADS`, else the cores over the ranks of this host (`LOCAL_WORLD_SIZE`), and loads libtorch's CUDA part when it lies beside the rest. May be called again.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: sets a variable of the environment; `init` comes first in `main`, before other threads read it.
        unsafe { monopass_quiet_log() };
        keep_freed_memory();
        let said = |name: &str| std::env::var(name).ok().and_then(|value| first_number(&value));
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let threads = num_threads(said("OMP_NUM_THREADS"), said("LOCAL_WORLD_SIZE"), cores);
        tch::set_num_threads(i32::try_from(threads).unwrap_or(1));
        let _ = cuda_problem();
    });
}

/// What is asked for, else this process's share of the cores: ranks with a thread for every core would take turns.
fn num_threads(asked: Option<usize>, ranks_here: Option<usize>, cores: usize) -> usize {
    asked.unwrap_or_else(|| (cores / ranks_here.unwrap_or(1)).max(1))
}

/// The first of a list such as OMP_NUM_THREADS may hold; none of 0.
fn first_number(text: &str) -> Option<usize> {
    text.split(',').next()?.trim().parse().ok().filter(|number| *number > 0)
}

/// Why libtorch's CUDA part, though installed, did not load; `None` when it did or when there is none. Loads it.
pub fn cuda_problem() -> Option<&'static str> {
    static PROBLEM: OnceLock<Option<String>> = OnceLock::new();
    PROBLEM.get_or_init(|| cuda_library().and_then(|path| load(&path).err())).as_deref()
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

/// `libtorch_cuda.so` beside the `libtorch_cpu.so` this process runs on.
fn cuda_library() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let cpu = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"))?;
    let path = PathBuf::from(&cpu[cpu.find('/')?..]).with_file_name("libtorch_cuda.so");
    path.exists().then_some(path)
}

/// Linkers drop libraries whose symbols nobody names; CUDA's kernels register themselves when the library is loaded.
fn load(path: &std::path::Path) -> Result<(), String> {
    let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: a NUL-terminated path; the library's initialisers only register with libtorch. The handle stays open.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: dlerror gives null or a text of this thread, copied at once.
    let message = unsafe { libc::dlerror() };
    if message.is_null() {
        return Err(format!("`{}` did not load", path.display()));
    }
    // SAFETY: not null, NUL-terminated, alive until the next call of a dl function by this thread.
    Err(unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_may_run_twice_and_leaves_torch_working() {
        init();
        init();
        assert!(tch::get_num_threads() >= 1);
        assert!(cuda_library().is_some() || cuda_problem().is_none());
    }

    #[test]
    fn ranks_of_a_host_share_its_cores() {
        assert_eq!(num_threads(first_number("3,1"), Some(2), 8), 3);
        assert_eq!(num_threads(None, Some(2), 8), 4);
        assert_eq!(num_threads(None, Some(16), 8), 1);
        assert_eq!(num_threads(first_number("0"), first_number("x"), 8), 8);
    }

    #[test]
    fn a_library_that_does_not_load_says_why() {
        let problem = load(std::path::Path::new("/nowhere/libtorch_cuda.so")).unwrap_err();
        assert!(problem.contains("/nowhere/libtorch_cuda.so"), "{problem}");
    }
}
