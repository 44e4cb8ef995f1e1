//! Where figures come from: the day, the program, the machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::write_whole::{read_json, write_json};

/// `monopass 0.1.0 at 1a2b3c4`: the commit of the checkout it was built from (or `MONOPASS_COMMIT` at build time), with `+changes` where the
/// sources differed from it.
pub const PROGRAM: &str = concat!("monopass ", env!("MONOPASS_VERSION"));

/// The command that is running, as a shell reads it.
#[must_use]
pub fn command() -> String {
    as_typed(std::env::args().collect())
}

/// Words quoted where a shell would split or change them.
#[must_use]
pub fn as_typed(words: Vec<String>) -> String {
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}

/// Kept beside a run's tables for each model that was evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// `2026-11-25`, UTC.
    pub date: String,
    /// [`PROGRAM`].
    pub program: String,
    /// Where the model ran: `Cpu`, `Cuda(0)`.
    pub device: String,
    /// As the processor calls itself, and the most that it has for bf16.
    pub processor: String,
    /// Cores this process may use.
    pub cores: usize,
}

/// By model, beside a run's tables: models may be evaluated on different days by different programs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origins(BTreeMap<String, Origin>);

const ORIGINS_FILE: &str = "origins.json";

impl Origins {
    /// Of the run with this folder of tables; none where nothing was evaluated.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn read(tables: &Path) -> anyhow::Result<Self> {
        let path = tables.join(ORIGINS_FILE);
        if path.exists() { read_json(&path) } else { Ok(Self::default()) }
    }

    /// Notes that `model` was evaluated by this process, now.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn note(tables: &Path, model: &str, device: Device) -> anyhow::Result<()> {
        let mut origins = Self::read(tables)?;
        origins.0.insert(model.to_owned(), Origin::now(device));
        write_json(&tables.join(ORIGINS_FILE), &origins)
            .with_context(|| format!("cannot note where `{model}` was evaluated"))
    }

    /// Of the models that `wanted` says yes to, in a line; absent where there are none. Models are named where they differ.
    #[must_use]
    pub fn words(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
        for (model, origin) in self.0.iter().filter(|(model, _)| wanted(model)) {
            let words = origin.words();
            match groups.iter_mut().find(|(of, _)| *of == words) {
                Some((_, models)) => models.push(model),
                None => groups.push((words, vec![model])),
            }
        }
        match &groups[..] {
            [] => None,
            [(words, _)] => Some(words.clone()),
            several => {
                let each = several.iter().map(|(words, models)| format!("{}: {words}", models.join(", ")));
                Some(each.collect::<Vec<_>>().join("; "))
            }
        }
    }
}

impl Origin {
    /// Of this process, now.
    #[must_use]
    pub fn now(device: Device) -> Self {
        Self {
            date: today(),
            program: PROGRAM.to_owned(),
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
    let most = [("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16"), ("avx512f", "AVX-512"), ("avx2", "AVX2")];
    match most.iter().find(|(flag, _)| flags.contains(flag)) {
        Some((_, words)) => format!("{name} with {words}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_named_with_the_most_it_has_for_bf16() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx512_bf16 avx\n\nprocessor\t: 1\n";
        assert_eq!(processor(text), "AMD EPYC with AVX512-BF16");
        assert_eq!(processor("model name : Core\nflags : avx avx2 bmi1\n"), "Core with AVX2");
        assert_eq!(processor("model name : Xeon\nflags : fpu\n"), "Xeon");
        assert_eq!(processor(""), "a processor without a name");
    }

    #[test]
    fn models_are_named_where_their_origins_differ() {
        let on = |date: &str| Origin { date: date.to_owned(), ..Origin::now(Device::Cpu) };
        let origins =
            |of: &[(&str, &str)]| Origins(of.iter().map(|(model, date)| ((*model).to_owned(), on(date))).collect());
        let same = origins(&[("a", "d1"), ("b", "d1"), ("c", "d2")]);
        assert_eq!(same.words(|model| model != "c"), Some(on("d1").words()));
        let both = format!("a, b: {}; c: {}", on("d1").words(), on("d2").words());
        assert_eq!(same.words(|_| true), Some(both));
        assert_eq!(same.words(|_| false), None);
    }

    #[test]
    fn a_later_model_leaves_the_earlier_ones_origin() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Origins::read(folder.path()).unwrap(), Origins::default());
        Origins::note(folder.path(), "a", Device::Cpu).unwrap();
        Origins::note(folder.path(), "b", Device::Cpu).unwrap();
        assert_eq!(Origins::read(folder.path()).unwrap().0.len(), 2);
    }

    #[test]
    fn a_line_tells_the_day_and_the_machine() {
        let words = Origin::now(Device::Cpu).words();
        assert!(words.starts_with("20") && words.contains("monopass ") && words.contains(" of "), "{words}");
    }
}
