//! A libtorch that is already here: the user's, or what `.libtorch` points to.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{VERSION, install};

/// The user's `LIBTORCH`, if it is one: `cargo xtask` itself runs with the variable set to our own link.
///
/// # Errors
/// When it is set to a folder that does not exist.
pub fn of_user(link: &Path) -> Result<Option<PathBuf>> {
    let Some(value) = env::var_os("LIBTORCH").filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let folder = PathBuf::from(value);
    if folder == link {
        return Ok(None);
    }
    let folder = fs::canonicalize(&folder)
        .with_context(|| format!("`LIBTORCH` names `{}`, which cannot be read", folder.display()))?;
    Ok(Some(folder))
}

/// Where `.libtorch` points, when a usable libtorch is there.
pub fn linked(link: &Path) -> Option<PathBuf> {
    let folder = fs::read_link(link).ok()?;
    let whole =
        if folder.join(install::MANIFEST).exists() { install::is_whole(&folder) } else { check(&folder).is_ok() };
    whole.then_some(folder)
}

/// Checks that `folder` has the libraries, the headers and the version the build needs.
///
/// # Errors
/// Names what is missing, or both versions.
pub fn check(folder: &Path) -> Result<()> {
    for needed in ["lib/libtorch_cpu.so", "lib/libtorch.so", "lib/libc10.so", "include/torch/csrc/api/include/torch"] {
        if !folder.join(needed).exists() {
            bail!("`{}` has no `{needed}`", folder.display());
        }
    }
    if env::var_os("LIBTORCH_BYPASS_VERSION_CHECK").is_some() {
        return Ok(());
    }
    let version = version(folder)?;
    if version != VERSION {
        bail!("`{}` is libtorch {version}, {VERSION} is needed", folder.display());
    }
    Ok(())
}

/// The version by the headers, which the libtorch archives and the wheel both have.
fn version(folder: &Path) -> Result<String> {
    let places = ["include/torch/headeronly/version.h", "include/torch/csrc/api/include/torch/version.h"];
    for place in places {
        let text = fs::read_to_string(folder.join(place)).unwrap_or_default();
        let part = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(&format!("#define TORCH_VERSION_{name} ")));
            value.map(|value| value.trim().to_owned())
        };
        if let (Some(major), Some(minor), Some(patch)) = (part("MAJOR"), part("MINOR"), part("PATCH")) {
            return Ok(format!("{major}.{minor}.{patch}"));
        }
    }
    bail!("`{}` has no `{}`", folder.display(), places[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn libtorch(version: [u32; 3]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in ["lib/libtorch_cpu.so", "lib/libtorch.so", "lib/libc10.so"] {
            write(&folder.path().join(file), "");
        }
        fs::create_dir_all(folder.path().join("include/torch/csrc/api/include/torch")).unwrap();
        let [major, minor, patch] = version;
        let header = format!(
            "#pragma once\n#define TORCH_VERSION_MAJOR {major}\n#define TORCH_VERSION_MINOR {minor}\n\
             #define TORCH_VERSION_PATCH {patch}\n"
        );
        write(&folder.path().join("include/torch/headeronly/version.h"), &header);
        folder
    }

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_whole_libtorch_of_the_right_version_is_accepted() {
        check(libtorch([2, 11, 0]).path()).unwrap();
    }

    #[test]
    fn another_version_is_refused_with_both_numbers() {
        let message = check(libtorch([2, 10, 0]).path()).unwrap_err().to_string();
        assert!(message.contains("2.10.0") && message.contains("2.11.0"), "{message}");
    }

    #[test]
    fn a_missing_library_is_named() {
        let folder = libtorch([2, 11, 0]);
        fs::remove_file(folder.path().join("lib/libc10.so")).unwrap();
        let message = check(folder.path()).unwrap_err().to_string();
        assert!(message.contains("`lib/libc10.so`"), "{message}");
    }

    #[test]
    fn a_dangling_link_is_no_libtorch() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join(".libtorch");
        assert_eq!(linked(&link), None);
        std::os::unix::fs::symlink("/nowhere/at/all", &link).unwrap();
        assert_eq!(linked(&link), None);
        let real = libtorch([2, 11, 0]);
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(real.path(), &link).unwrap();
        assert_eq!(linked(&link).as_deref(), Some(real.path()));
    }
}
