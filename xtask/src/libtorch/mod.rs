//! Brings libtorch and links it as `.libtorch`.
//!
//! The link, not the folder, is what the build reads: every working tree shares one copy in the user's cache, and a
//! libtorch that is on the machine already (`LIBTORCH`) is used where it stands.

mod existing;
mod install;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    cache::{self, Cache},
    host_tools,
    python::Python,
    repository::{self, Repository},
};

/// The one release that tch 0.24.0 is made for.
pub const VERSION: &str = "2.11.0";

/// Which libraries a libtorch folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// What `libtorch_cpu.so` needs, no more.
    Cpu,
    /// Everything the wheel and its CUDA wheels hold.
    Cuda,
}

impl Flavour {
    /// As it stands in folder names and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }

    /// Room for the downloads, pip's own copy of them and what is unpacked, in MiB.
    fn needed_mib(self) -> u64 {
        match self {
            Self::Cpu => 2_000,
            Self::Cuda => 10_000,
        }
    }
}

/// Makes `.libtorch` point to a usable libtorch and returns the folder.
///
/// In this order: a `LIBTORCH` of the user's, a link that stands and was not asked to change, the cache, a download.
///
/// # Errors
/// When the user's libtorch is not usable, a tool is missing, the disk is too small or a download fails.
pub fn set_up(repository: &Repository, asked: Option<Flavour>) -> Result<PathBuf> {
    host_tools::require_cpp_compiler()?;
    let link = repository.libtorch_link();
    let folder = if let Some(folder) = existing::of_user(&link)? {
        if let Some(flavour) = asked {
            bail!("`LIBTORCH` is `{}`: unset it to use `--{}`", folder.display(), flavour.name());
        }
        existing::check(&folder).context("`LIBTORCH` is not usable (unset it to have one downloaded)")?;
        println!("libtorch: {} (from `LIBTORCH`)", folder.display());
        folder
    } else if let (None, Some(folder)) = (asked, existing::linked(&link)) {
        println!("libtorch: {} (nothing to do)", folder.display());
        if host_tools::has_gpu() && !folder.join("lib/libtorch_cuda.so").exists() {
            println!("this machine has a GPU: `cargo xtask setup --cuda` brings the libraries for it");
        }
        folder
    } else {
        let flavour = asked.unwrap_or_else(|| if host_tools::has_gpu() { Flavour::Cuda } else { Flavour::Cpu });
        from_cache(flavour)?
    };
    relink(repository, &link, &folder)?;
    Ok(folder)
}

/// The cache's copy, downloaded when it is not there or not whole.
fn from_cache(flavour: Flavour) -> Result<PathBuf> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!("libtorch wheels are taken for Linux on x86-64 only: set `LIBTORCH` to a libtorch {VERSION} of your own");
    }
    let cache = Cache::of_user()?;
    let folder = cache.root.join(format!("libtorch-{VERSION}-{}", flavour.name()));
    if install::is_whole(&folder) {
        println!("libtorch: {} (in the cache)", folder.display());
        return Ok(folder);
    }
    let python = Python::find()?;
    let _lock = cache.lock()?;
    // The set-up we may have waited for did the work.
    if !install::is_whole(&folder) {
        cache.require_free(flavour.needed_mib())?;
        install::install(&python, flavour, &folder)?;
    }
    println!("libtorch: {}", folder.display());
    Ok(folder)
}

/// Points the link and, when it pointed elsewhere, drops what was built against the other libtorch.
fn relink(repository: &Repository, link: &Path, folder: &Path) -> Result<()> {
    let before = fs::read_link(link).ok();
    cache::point(link, folder)?;
    let built = repository.target().exists();
    if before.is_some_and(|before| before != folder) && built {
        // torch-sys looks for libtorch_cuda.so when it is built, and its build script does not watch the folder.
        for profile in ["dev", "release"] {
            let arguments = ["clean", "--quiet", "--package", "torch-sys", "--package", "monopass-native", "--profile"];
            let mut clean = repository.cargo(&arguments);
            repository::run(clean.arg(profile))?;
        }
    }
    Ok(())
}
