//! `cargo xtask test`: every test of the workspace.

use anyhow::Result;

use crate::{
    arguments::TestRunner,
    libtorch,
    repository::{self, Repository},
};

/// Sets up and runs all tests; `rest` goes to the runner unchanged.
///
/// # Errors
/// When set-up or a test fails.
pub fn run(repository: &Repository, runner: TestRunner, rest: &[String]) -> Result<()> {
    libtorch::set_up(repository, None)?;
    let base: &[&str] = match runner {
        TestRunner::Cargo => &["test", "--workspace", "--locked"],
        TestRunner::Nextest => &["nextest", "run", "--workspace", "--locked"],
    };
    repository::run(repository.cargo(base).args(rest))?;
    if runner == TestRunner::Nextest && rest.is_empty() {
        // nextest does not run them.
        repository::run(&mut repository.cargo(&["test", "--workspace", "--locked", "--doc"]))?;
    }
    Ok(())
}
