//! Makes a libtorch folder out of wheels: download, unpack beside the final place, rename.
//!
//! Whatever stops it, the final folder is whole or absent. Finished downloads survive in `….partial/wheels` until the
//! folder stands, so a second start fetches only what is missing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{Flavour, VERSION};
use crate::{
    cache,
    python::{Python, Wheel, twice, wheels},
};

/// Written last: one line `SIZE PATH` for every library.
pub const MANIFEST: &str = "monopass-manifest";

/// What `libtorch_cpu.so` of the CUDA wheel loads beside torch's own libraries. The versions are those that torch
/// 2.11.0 asks for through `cuda-toolkit` 13.0.2.
const CPU_RUNTIME: [&str; 2] = ["nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"];
/// Headers that the CUDA runtime's own headers include and no wheel of torch's asks for.
const CUDA_HEADERS: [&str; 2] = ["nvidia-cuda-crt==13.0.88", "nvidia-cuda-cccl==13.0.85"];

/// The libraries that have to be there when all is unpacked; for the CPU also all that may be.
const CPU_LIBRARIES: [&str; 4] = ["libc10.so", "libtorch_cpu.so", "libgomp.so.1", "libshm.so"];
const CPU_RUNTIME_LIBRARIES: [&str; 2] = ["libcudart.so.13", "libcupti.so.13"];
const CUDA_LIBRARIES: [&str; 7] = [
    "libtorch.so",
    "libtorch_cuda.so",
    "libc10_cuda.so",
    "libcudart.so.13",
    "libcublas.so.13",
    "libcudnn.so.9",
    "libnccl.so.2",
];

/// Whether `folder` holds every library at the size it had when it was installed.
pub fn is_whole(folder: &Path) -> bool {
    let Ok(manifest) = fs::read_to_string(folder.join(MANIFEST)) else {
        return false;
    };
    let same = |line: &str| {
        let (size, path) = line.split_once(' ')?;
        let now = fs::metadata(folder.join(path)).ok()?.len();
        (size.parse() == Ok(now)).then_some(())
    };
    !manifest.is_empty() && manifest.lines().all(|line| same(line).is_some())
}

/// Downloads and unpacks `flavour` so that `folder` stands whole.
///
/// # Errors
/// When a download or the disk fails; `folder` is then as it was.
pub fn install(python: &Python, flavour: Flavour, folder: &Path) -> Result<()> {
    let staging = with_suffix(folder, ".partial");
    let tree = staging.join("tree");
    let downloads = staging.join("wheels");
    cache::remove(&tree)?;
    cache::remove(&downloads.join("tmp"))?;
    fs::create_dir_all(&tree).with_context(|| format!("`{}` cannot be made", tree.display()))?;

    println!("downloading libtorch {VERSION} ({}) as the `torch` wheel", flavour.name());
    let needs_cuda = unpack_torch(python, flavour, &downloads, &tree)?;
    match (flavour, needs_cuda.as_slice()) {
        // A wheel built for the CPU alone, from an index that has them.
        (Flavour::Cpu, []) => {}
        (Flavour::Cpu, _) => unpack_cuda(python, &CPU_RUNTIME, false, &downloads, &tree)?,
        (Flavour::Cuda, []) => bail!("the `torch` wheel that pip chose has no CUDA in it: check pip's index"),
        (Flavour::Cuda, needed) => {
            let needed: Vec<&str> = needed.iter().map(String::as_str).chain(CUDA_HEADERS).collect();
            unpack_cuda(python, &needed, true, &downloads, &tree)?;
        }
    }
    finish(flavour, !needs_cuda.is_empty(), &tree)?;

    let old = with_suffix(folder, ".old");
    cache::remove(&old)?;
    if folder.exists() {
        fs::rename(folder, &old).with_context(|| format!("`{}` cannot be moved", folder.display()))?;
    }
    fs::rename(&tree, folder).with_context(|| format!("`{}` cannot be moved into place", tree.display()))?;
    cache::remove(&old)?;
    cache::remove(&staging)
}

/// Unpacks the torch wheel and returns the CUDA wheels it asks for.
fn unpack_torch(python: &Python, flavour: Flavour, downloads: &Path, tree: &Path) -> Result<Vec<String>> {
    let cpu_rules = CPU_LIBRARIES.map(|library| format!("torch/lib/{library}=lib"));
    let mut rules = vec!["torch/include/**=include"];
    match flavour {
        Flavour::Cpu => rules.extend(cpu_rules.iter().map(String::as_str)),
        Flavour::Cuda => rules.push("torch/lib/*.so*=lib"),
    }
    twice(|| {
        python.download(&[&format!("torch=={VERSION}")], false, downloads)?;
        let found = wheels(downloads, Some("torch"))?;
        let [wheel] = found.as_slice() else {
            bail!("`{}` holds {} torch wheels, one is expected: remove the folder", downloads.display(), found.len());
        };
        let Wheel::Whole(needed) = python.cuda_requirements(wheel)? else {
            return Ok(Wheel::Damaged);
        };
        Ok(match python.unpack(wheel, tree, &rules)? {
            Wheel::Whole(_) => Wheel::Whole(needed),
            Wheel::Damaged => Wheel::Damaged,
        })
    })
}

/// Unpacks the libraries of CUDA wheels into one folder, where torch's run path (`$ORIGIN`) finds them; their headers,
/// which NCCL's process group is compiled with, into `cuda/`.
fn unpack_cuda(python: &Python, needed: &[&str], all: bool, downloads: &Path, tree: &Path) -> Result<()> {
    let cpu_rules = CPU_RUNTIME_LIBRARIES.map(|library| format!("nvidia/*/lib/{library}=lib"));
    let rules: Vec<&str> = if all {
        vec!["nvidia/*/lib/*.so*=lib", "nvidia/*/include/**=cuda"]
    } else {
        cpu_rules.iter().map(String::as_str).collect()
    };
    twice(|| {
        python.download(needed, all, downloads)?;
        for wheel in wheels(downloads, None)? {
            let ours = wheel.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nvidia_"));
            if ours && matches!(python.unpack(&wheel, tree, &rules)?, Wheel::Damaged) {
                return Ok(Wheel::Damaged);
            }
        }
        Ok(Wheel::Whole(()))
    })
}

/// Adds what the build looks for and no wheel has, checks the whole and writes the manifest.
fn finish(flavour: Flavour, cuda_wheel: bool, tree: &Path) -> Result<()> {
    let lib = tree.join("lib");
    let mut needed: Vec<&str> = CPU_LIBRARIES.to_vec();
    if flavour == Flavour::Cuda {
        needed.extend(CUDA_LIBRARIES);
    } else {
        if cuda_wheel {
            needed.extend(CPU_RUNTIME_LIBRARIES);
        }
        // The wheel's own libtorch.so would pull in libtorch_cuda.so; torch-sys links the name `torch`.
        std::os::unix::fs::symlink("libtorch_cpu.so", lib.join("libtorch.so"))
            .with_context(|| format!("`{}` cannot be written", lib.display()))?;
    }
    for library in needed {
        if !lib.join(library).is_file() {
            bail!("the wheels hold no `{library}`: is `torch` {VERSION} on this index the usual one?");
        }
    }
    // torch-sys reads it and compares the version.
    write(&tree.join("build-version"), &format!("{VERSION}+{}\n", flavour.name()))?;

    let mut manifest = Vec::new();
    for entry in fs::read_dir(&lib).with_context(|| format!("`{}` cannot be read", lib.display()))? {
        let entry = entry.with_context(|| format!("`{}` cannot be read", lib.display()))?;
        let size = fs::metadata(entry.path()).with_context(|| format!("`{}`", entry.path().display()))?.len();
        manifest.push(format!("{size} lib/{}\n", entry.file_name().to_string_lossy()));
    }
    manifest.sort();
    write(&tree.join(MANIFEST), &manifest.concat())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("`{}` cannot be written", path.display()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_whole_only_at_the_sizes_of_its_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert!(!is_whole(folder));
        fs::create_dir(folder.join("lib")).unwrap();
        fs::write(folder.join("lib/libc10.so"), "12345").unwrap();
        fs::write(folder.join(MANIFEST), "").unwrap();
        assert!(!is_whole(folder));
        fs::write(folder.join(MANIFEST), "5 lib/libc10.so\n").unwrap();
        assert!(is_whole(folder));
        fs::write(folder.join("lib/libc10.so"), "1234").unwrap();
        assert!(!is_whole(folder));
        fs::remove_file(folder.join("lib/libc10.so")).unwrap();
        assert!(!is_whole(folder));
    }
}
