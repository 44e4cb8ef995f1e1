//! What has to be on the machine before anything is downloaded, and how to get it.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// Checks for a C++ compiler; cargo and Python are checked where they are used.
///
/// # Errors
/// Says which package brings one.
pub fn require_cpp_compiler() -> Result<()> {
    // The `cc` crate honours CXX and falls back to `c++`; without it the first failure would come minutes later.
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let mut words = compiler.split_whitespace();
    let program = words.next().unwrap_or("c++");
    let found = Command::new(program)
        .args(words)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        bail!("the C++ compiler `{compiler}` does not run: {}", install_hint("g++"));
    }
    let version = Command::new(program).arg("-dumpversion").stdin(Stdio::null()).output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if major(&version).is_some_and(|major| major < OLDEST_COMPILER) {
        bail!(
            "the C++ compiler `{compiler}` is version {version}, wanted GCC {OLDEST_COMPILER} or newer (libtorch's headers and AVX512-BF16): \
             install one and name it by CXX=g++-{OLDEST_COMPILER}"
        );
    }
    Ok(())
}

/// libtorch's headers want GCC 9, `-mavx512bf16` is known since 10.
const OLDEST_COMPILER: u32 = 10;

fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

/// How to install `package` (Debian's name) with the package manager that is here.
pub fn install_hint(package: &str) -> String {
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if has("apt-get") {
        format!("`sudo apt-get install {package}`")
    } else if has("dnf") {
        format!("`sudo dnf install {}`", if package == "g++" { "gcc-c++" } else { package })
    } else if has("zypper") {
        format!("`sudo zypper install {}`", if package == "g++" { "gcc-c++" } else { package })
    } else if has("pacman") {
        let package = match package {
            "g++" => "gcc",
            "python3" => "python",
            "python3-pip" => "python-pip",
            other => other,
        };
        format!("`sudo pacman -S {package}`")
    } else {
        format!("install `{package}` with your system's package manager")
    }
}

/// Whether the machine has an NVIDIA GPU: a device file, or a driver that lists one.
pub fn has_gpu() -> bool {
    if std::path::Path::new("/dev/nvidia0").exists() {
        return true;
    }
    let listed = Command::new("nvidia-smi").arg("-L").stdin(Stdio::null()).output();
    listed.is_ok_and(|output| output.status.success() && output.stdout.starts_with(b"GPU "))
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn a_compilers_version_is_read() {
        assert_eq!([major("12"), major("8.5.0"), major("")], [Some(12), Some(8), None]);
    }
}
