//! Python as a tool of set-up: its pip downloads wheels, its zipfile module unpacks them. Nothing of it is needed at
//! run time.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{cache, host_tools};

const UNPACK: &str = include_str!("unpack_wheel.py");
/// The status by which `unpack_wheel.py` says that a file is damaged.
const DAMAGED: i32 = 3;

/// Wheels for this platform whatever Python runs here: their libraries are used, not their modules.
const WHEEL_TAGS: [&str; 15] = [
    "--only-binary=:all:",
    "--implementation=cp",
    "--python-version=3.12",
    "--abi=cp312",
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux_2_27_x86_64",
    "--platform=manylinux_2_26_x86_64",
    "--platform=manylinux_2_25_x86_64",
    "--platform=manylinux_2_24_x86_64",
    "--platform=manylinux_2_18_x86_64",
    "--platform=manylinux_2_17_x86_64",
    "--platform=manylinux2014_x86_64",
    "--platform=manylinux_2_12_x86_64",
    "--platform=manylinux_2_5_x86_64",
    "--platform=linux_x86_64",
];

/// A Python 3 that has pip.
#[derive(Debug)]
pub struct Python {
    program: PathBuf,
}

/// What reading a wheel came to.
#[derive(Debug)]
pub enum Wheel<T> {
    /// It was whole as far as it was read.
    Whole(T),
    /// It was not; the file has been removed.
    Damaged,
}

impl Python {
    /// `$PYTHON`, else `python3`, when it has pip and zipfile.
    ///
    /// # Errors
    /// Says which of the two is missing and how to get it.
    pub fn find() -> Result<Self> {
        let program = PathBuf::from(env::var_os("PYTHON").unwrap_or_else(|| "python3".into()));
        let python = Self { program };
        let answers = |arguments: &[&str]| {
            let output = python.command(arguments).output();
            output.is_ok_and(|output| output.status.success())
        };
        let shown = python.program.display();
        if !answers(&["-c", "import sys, zipfile, zlib; sys.exit(sys.version_info < (3, 7))"]) {
            bail!(
                "`{shown}` (3.7 or newer) is needed to unpack wheels: {}, or name another by PYTHON=/path/to/python3",
                host_tools::install_hint("python3")
            );
        }
        if !answers(&["-m", "pip", "--version"]) {
            bail!(
                "`{shown}` has no pip, which downloads the wheels: {}; in a virtual environment `{shown} -m ensurepip`; or name \
                 another Python by PYTHON=/path/to/python3 (`python3 -m venv DIR` makes one with pip)",
                host_tools::install_hint("python3-pip")
            );
        }
        Ok(python)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null());
        // Under `cargo xtask` it may name our libtorch folder, whose libraries are not Python's; what else it names may be.
        if let Some(paths) = env::var_os("LD_LIBRARY_PATH") {
            let own = env::split_paths(&paths).filter(|path| !path.ends_with(".libtorch/lib"));
            command.env("LD_LIBRARY_PATH", env::join_paths(own).unwrap_or_default());
        }
        command
    }

    /// `pip download` into `folder`. A wheel that is there and whole is kept; one that was cut short is fetched again.
    /// pip's own configuration (index, certificates, proxy, cache) applies.
    ///
    /// # Errors
    /// When pip fails; its own words stand above ours.
    pub fn download(&self, requirements: &[&str], dependencies: bool, folder: &Path) -> Result<()> {
        let temporary = folder.join("tmp");
        fs::create_dir_all(&temporary).with_context(|| format!("`{}` cannot be made", temporary.display()))?;
        let mut command = self.command(&["-m", "pip", "download", "--no-input"]);
        if !dependencies {
            command.arg("--no-deps");
        }
        command
            .args(WHEEL_TAGS)
            .arg("--dest")
            .arg(folder)
            .args(requirements)
            // pip moves a finished download from here to `folder`: on one file system that is a rename.
            .env("TMPDIR", &temporary);
        let status = command.status().with_context(|| format!("`{}` cannot be started", self.program.display()))?;
        cache::remove(&temporary)?;
        if !status.success() {
            bail!(
                "pip could not download {} ({status}): see its message above; `pip config list` shows the index it \
                 uses. Running the same command again goes on where this one stopped",
                requirements.join(" ")
            );
        }
        Ok(())
    }

    /// The CUDA wheels a wheel's metadata asks for, such as `nvidia-nccl-cu13==2.28.9`.
    ///
    /// # Errors
    /// When Python cannot be run.
    pub fn cuda_requirements(&self, wheel: &Path) -> Result<Wheel<Vec<String>>> {
        let read = self.read_wheel(&["requirements"], wheel, &[])?;
        Ok(match read {
            Wheel::Whole(text) => Wheel::Whole(text.lines().map(str::to_owned).collect()),
            Wheel::Damaged => Wheel::Damaged,
        })
    }

    /// Writes the members that `rules` name (`unpack_wheel.py` explains them) below `folder`; returns their number.
    ///
    /// # Errors
    /// When Python cannot be run or `folder` cannot be written.
    pub fn unpack(&self, wheel: &Path, folder: &Path, rules: &[&str]) -> Result<Wheel<usize>> {
        let folder = folder.to_string_lossy();
        let arguments: Vec<&str> = std::iter::once(folder.as_ref()).chain(rules.iter().copied()).collect();
        Ok(match self.read_wheel(&["unpack"], wheel, &arguments)? {
            Wheel::Whole(text) => Wheel::Whole(text.trim().parse().context("`unpack_wheel.py` printed no number")?),
            Wheel::Damaged => Wheel::Damaged,
        })
    }

    fn read_wheel(&self, verb: &[&str], wheel: &Path, rest: &[&str]) -> Result<Wheel<String>> {
        let mut command = self.command(&["-c", UNPACK]);
        command.args(verb).arg(wheel).args(rest).stderr(Stdio::inherit());
        let output = command.output().with_context(|| format!("`{}` cannot be started", self.program.display()))?;
        if output.status.code() == Some(DAMAGED) {
            cache::remove(wheel)?;
            return Ok(Wheel::Damaged);
        }
        if !output.status.success() {
            bail!("`{}` cannot be unpacked ({})", wheel.display(), output.status);
        }
        let text = String::from_utf8(output.stdout).context("`unpack_wheel.py` printed no UTF-8")?;
        Ok(Wheel::Whole(text))
    }
}

/// The wheels in `folder` whose distribution is `name`, or all of them.
///
/// # Errors
/// When `folder` cannot be read.
pub fn wheels(folder: &Path, name: Option<&str>) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("`{}` cannot be read", folder.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("`{}` cannot be read", folder.display()))?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        // A wheel's name is DISTRIBUTION-VERSION-TAGS.whl, with no other hyphen in the distribution.
        let distribution = file.split('-').next().unwrap_or_default();
        if file.ends_with(".whl") && name.is_none_or(|name| name == distribution) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Downloads and reads, and once more when what came was damaged.
///
/// # Errors
/// When the second copy is damaged too, and whatever `attempt` returns.
pub fn twice<T>(mut attempt: impl FnMut() -> Result<Wheel<T>>) -> Result<T> {
    for _ in 0..2 {
        if let Wheel::Whole(value) = attempt()? {
            return Ok(value);
        }
        eprintln!("a download was damaged and has been removed; fetching it once more");
    }
    bail!("the download is damaged again: the index or a cache on the way (`pip cache purge`) serves a broken file")
}
