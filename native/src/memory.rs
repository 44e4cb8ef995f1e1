//! Memory of this process and machine, in MiB.

use crate::ffi;
use std::ffi::c_int;
use std::fs;

const KIB_PER_MIB: f64 = 1024.0;
const BYTES_PER_MIB: f64 = 1024.0 * 1024.0;

/// Largest resident set so far (`VmHWM`). 0 where the kernel does not say.
pub fn peak_rss_mib() -> f64 {
    proc_field_mib("/proc/self/status", "VmHWM:").unwrap_or(0.0)
}

/// Resident set now (`VmRSS`). 0 where the kernel does not say.
pub fn rss_mib() -> f64 {
    proc_field_mib("/proc/self/status", "VmRSS:").unwrap_or(0.0)
}

/// Fullest moment since [`reset_peak`], or since the start: of the device's tensors on CUDA, of the resident set elsewhere.
pub fn peak_mib(device: tch::Device) -> f64 {
    match device {
        tch::Device::Cuda(index) => cuda_device(index).map_or(0.0, |memory| memory.peak_mib),
        _ => peak_rss_mib(),
    }
}

/// Lets [`peak_mib`] count from now on. `false` where the kernel does not offer it: the old peak stays.
#[allow(unsafe_code, reason = "tells libtorch's allocator")]
pub fn reset_peak(device: tch::Device) -> bool {
    if let tch::Device::Cuda(index) = device {
        let (Some(_), Ok(number)) = (cuda_device(index), c_int::try_from(index)) else { return false };
        // SAFETY: takes a number; the device exists.
        ffi::check("reset_peak", unsafe { ffi::monopass_cuda_reset_peak(number) }).is_ok()
    } else {
        // proc_pid_clear_refs(5): 5 resets the peak of the resident set
        fs::write("/proc/self/clear_refs", "5").is_ok()
    }
}

/// Does `work` and tells by how much its fullest moment was above what was held before it. Free blocks go back to the system first, so that what
/// ran before does not count as held. `None` where the kernel does not reset a peak.
pub fn demand_mib<T>(device: tch::Device, work: impl FnOnce() -> T) -> (T, Option<f64>) {
    give_back_free_blocks();
    let held = match device {
        tch::Device::Cuda(index) => cuda_device(index).map_or(0.0, |memory| memory.used_mib),
        _ => rss_mib(),
    };
    let counted = reset_peak(device);
    let done = work();
    (done, counted.then(|| (peak_mib(device) - held).max(0.0)))
}

/// The process keeps freed blocks ([`crate::runtime::init`]); this once it does not.
#[allow(unsafe_code, reason = "malloc_trim has no safe interface")]
fn give_back_free_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim touches free blocks only and is safe to call at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Memory this process could still take: the machine's `MemAvailable`, or what its control group leaves if that is less.
pub fn available_mib() -> f64 {
    let machine = proc_field_mib("/proc/meminfo", "MemAvailable:").unwrap_or(0.0);
    cgroup_left_mib().map_or(machine, |left| left.min(machine))
}

/// Memory of one CUDA device, in MiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeviceMemory {
    /// Held by this process's tensors at the fullest moment so far.
    pub peak_mib: f64,
    /// Held by this process's tensors now.
    pub used_mib: f64,
    /// What the device could still give.
    pub free_mib: f64,
    /// Of the whole device.
    pub total_mib: f64,
}

/// Memory of CUDA device `index`; `None` without CUDA or without such a device.
#[allow(unsafe_code, reason = "asks libtorch's allocator")]
pub fn cuda_device(index: usize) -> Option<DeviceMemory> {
    let number = c_int::try_from(index).ok()?;
    if !tch::Cuda::is_available() || i64::from(number) >= tch::Cuda::device_count() {
        return None;
    }
    let mut bytes = [0i64; 4];
    // SAFETY: writes four numbers; the device exists.
    let error = unsafe { ffi::monopass_cuda_memory(number, bytes.as_mut_ptr()) };
    ffi::check("cuda_device", error).ok()?;
    let [peak_mib, used_mib, free_mib, total_mib] = bytes.map(|bytes| bytes as f64 / BYTES_PER_MIB);
    Some(DeviceMemory { peak_mib, used_mib, free_mib, total_mib })
}

/// A `Name: 123 kB` line of a file under `/proc`.
fn proc_field_mib(path: &str, name: &str) -> Option<f64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / KIB_PER_MIB)
}

/// Limit minus use of the control group, version 2 then 1; page cache that can be dropped counts as free.
fn cgroup_left_mib() -> Option<f64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own_v2 = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let v2 = format!("/sys/fs/cgroup{}", own_v2.trim_end_matches('/'));
    [
        (v2.as_str(), "memory.max", "memory.current", "inactive_file"),
        ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ]
    .iter()
    .find_map(|(folder, limit, usage, cache)| {
        let read = |file: &str| fs::read_to_string(format!("{folder}/{file}")).ok();
        let limit: f64 = read(limit)?.trim().parse().ok()?;
        let usage: f64 = read(usage)?.trim().parse().ok()?;
        let cache = read("memory.stat")
            .and_then(|stat| stat.lines().find_map(|line| line.strip_prefix(&format!("{cache} "))?.parse::<f64>().ok()))
            .unwrap_or(0.0);
        Some(((limit - usage + cache) / BYTES_PER_MIB).max(0.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demand_is_what_work_takes_at_its_fullest() {
        // smaller blocks than the system takes back by itself, as tensors are
        let blocks = || (0..64).map(|_| vec![1u8; 1 << 20]).collect::<Vec<_>>();
        drop(blocks());
        let sum = || blocks().iter().map(|block| usize::from(block[9])).sum::<usize>();
        let (sum, demand) = demand_mib(tch::Device::Cpu, sum);
        let Some(demand) = demand else { return eprintln!("skipped: this kernel does not reset a peak") };
        assert_eq!(sum, 64);
        assert!((60.0..512.0).contains(&demand), "{demand}");
    }

    #[test]
    fn no_figures_of_a_device_that_does_not_exist() {
        assert_eq!(cuda_device(1_000), None);
    }

    #[test]
    fn figures_are_plausible_and_peak_follows_use() {
        let before = rss_mib();
        let block = vec![1u8; 64 << 20];
        let during = rss_mib();
        assert!(block.iter().step_by(4096).all(|byte| *byte == 1));
        assert!(during > before + 32.0, "{before} then {during}");
        assert!(peak_rss_mib() >= during);
        assert!(available_mib() > 0.0);
        drop(block);
        if reset_peak(tch::Device::Cpu) {
            assert!(peak_mib(tch::Device::Cpu) < during, "the block is gone from the peak");
        } else {
            eprintln!("skipped: this kernel does not reset a peak");
        }
    }
}
