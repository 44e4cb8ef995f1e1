//! `cargo xtask check`: everything CI asks for, cheapest first.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::{
    arguments::TestRunner,
    crate_arrows, documents, house_rules, libtorch,
    repository::{self, Repository},
    test_run,
};

type Check = fn(&Repository) -> Result<()>;

/// Runs the checks that take seconds all together, then those that build, each only when the ones before it passed.
///
/// # Errors
/// Names the checks that failed; what they found is printed above.
pub fn run(repository: &Repository, tests: bool) -> Result<()> {
    let quick: [(&str, Check); 4] = [
        ("format", format),
        ("house rules", house_rules::check),
        ("crate arrows", crate_arrows::check),
        ("documents", documents::check),
    ];
    let mut failed = Vec::new();
    for (name, check) in quick {
        if let Err(error) = step(name, || check(repository)) {
            eprintln!("error: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    step("libtorch", || libtorch::set_up(repository, None).map(drop))?;
    step("clippy", || clippy(repository))?;
    step("API documentation", || api_documentation(repository))?;
    if tests {
        step("tests", || test_run::run(repository, TestRunner::Cargo, &[]))?;
    }
    Ok(())
}

fn step(name: &str, check: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("== {name}");
    let start = Instant::now();
    let outcome = check();
    let word = if outcome.is_ok() { "ok" } else { "FAILED" };
    eprintln!("== {name}: {word}, {:.1} s", start.elapsed().as_secs_f64());
    outcome
}

fn format(repository: &Repository) -> Result<()> {
    repository::run(&mut repository.cargo(&["fmt", "--all", "--check"]))
}

fn clippy(repository: &Repository) -> Result<()> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    repository::run(&mut repository.cargo(&arguments))
}

fn api_documentation(repository: &Repository) -> Result<()> {
    let mut doc = repository.cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
    repository::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}
