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
    Ok(())
}

/// How to install `package` (Debian's name) with the package manager that is here.
pub fn install_hint(package: &str) -> String {
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if has("apt-get") {
        format!("`sudo apt-get install {package}`")
    } else if has("dnf") {
        let package = if package == "g++" { "gcc-c++" } else { package };
        format!("`sudo dnf install {package}`")
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
