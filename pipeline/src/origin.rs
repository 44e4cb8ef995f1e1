//! Where figures come from: the day, the program, the machine.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tch::Device;

/// Kept beside a run's tables when something was evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// `2026-11-25`, UTC.
    pub date: String,
    /// `monopass 0.1.0`, with the commit where the build was told it (`MONOPASS_COMMIT`).
    pub program: String,
    /// Where the model ran: `Cpu`, `Cuda(0)`.
    pub device: String,
    /// As the processor calls itself, and what it has for bf16.
    pub processor: String,
    /// Cores this process may use.
    pub cores: usize,
}

/// File of a run's [`Origin`], beside the tables.
pub const ORIGIN_FILE: &str = "origin.json";

impl Origin {
    /// Of this process, now.
    #[must_use]
    pub fn now(device: Device) -> Self {
        let commit = option_env!("MONOPASS_COMMIT").map(|commit| format!(" at {commit}")).unwrap_or_default();
        Self {
            date: today(),
            program: format!("monopass {}{commit}", env!("CARGO_PKG_VERSION")),
            device: format!("{device:?}"),
            processor: processor(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
        }
    }

    /// In a line.
    #[must_use]
    pub fn words(&self) -> String {
        let Self { date, program, device, processor, cores } = self;
        let plural = if *cores == 1 { "core" } else { "cores" };
        format!("{date}, {program}, {device}, {cores} {plural} of {processor}")
    }
}

fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let date = i64::try_from(seconds).ok().and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0));
    date.map_or_else(|| "an unknown day".to_owned(), |date| date.date_naive().to_string())
}

/// Out of Linux's `/proc/cpuinfo`.
fn processor(cpuinfo: &str) -> String {
    let value = |key: &str| {
        let line = cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|name| name.trim() == key))?;
        Some(line.split_once(':')?.1.trim())
    };
    let name = value("model name").filter(|name| !name.is_empty()).unwrap_or("a processor without a name");
    let flags: Vec<&str> = value("flags").unwrap_or_default().split_whitespace().collect();
    let bf16 = [("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16")];
    match bf16.iter().find(|(flag, _)| flags.contains(flag)) {
        Some((_, words)) => format!("{name} with {words}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_named_with_what_it_has_for_bf16() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx512_bf16 avx\n\nprocessor\t: 1\n";
        assert_eq!(processor(text), "AMD EPYC with AVX512-BF16");
        assert_eq!(processor("model name : Xeon\nflags : fpu\n"), "Xeon");
        assert_eq!(processor(""), "a processor without a name");
    }

    #[test]
    fn a_line_tells_the_day_and_the_machine() {
        let words = Origin::now(Device::Cpu).words();
        assert!(words.starts_with("20") && words.contains("monopass ") && words.contains(" of "), "{words}");
    }
}
