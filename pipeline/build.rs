//! Gives the program a run path to libtorch that does not depend on where cargo's target folder lies, so that
//! `monopass` can be copied or built elsewhere (`.cargo/config.toml` sets LIBTORCH, and adds a relative path beside), and the
//! version that its results are noted with.

use std::process::Command;
use std::{env, path::Path};

/// What the program is made of, from this folder.
const SOURCES: [&str; 11] = [
    "src",
    "Cargo.toml",
    "build.rs",
    "../native",
    "../model",
    "../data",
    "../trainer",
    "../evaluator",
    "../launch",
    "../Cargo.toml",
    "../Cargo.lock",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=MONOPASS_COMMIT");
    let linux = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux");
    if let (true, Some(libtorch)) = (linux, env::var_os("LIBTORCH")) {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", Path::new(&libtorch).join("lib").display());
    }
    // The program is built anew when one of these changes anyway.
    if Path::new("../Cargo.lock").exists() {
        SOURCES.iter().for_each(|source| println!("cargo:rerun-if-changed={source}"));
    }
    let commit = env::var("MONOPASS_COMMIT").ok().filter(|commit| !commit.is_empty()).or_else(commit);
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let version = commit.map_or_else(|| version.clone(), |commit| format!("{version} at {commit}"));
    println!("cargo:rustc-env=MONOPASS_VERSION={version}");
}

/// Of the checkout the program is built from, with `+changes` where its sources differ from it; none outside of one.
fn commit() -> Option<String> {
    let above = env::current_dir().ok()?.parent()?.canonicalize().ok()?;
    if Path::new(&git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()? != above {
        return None;
    }
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    println!("cargo:rerun-if-changed={}", git(&["rev-parse", "--git-path", "logs/HEAD"])?);
    let changed = git(&[["status", "--porcelain", "--untracked-files=no", "--"].as_slice(), &SOURCES].concat())?;
    Some(if changed.is_empty() { commit } else { format!("{commit}+changes") })
}

fn git(arguments: &[&str]) -> Option<String> {
    // A commit that is made meanwhile wants the lock.
    let output = Command::new("git")
        .env_remove("GIT_DIR")
        .arg("--no-optional-locks")
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
