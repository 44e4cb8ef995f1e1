//! What a started process does about its launcher's death.

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Variable with the launcher's process id.
pub(crate) const LAUNCHER: &str = "MONOPASS_LAUNCHER";

/// In a process that a launcher started: SIGTERM when the launcher is gone, even by kill -9, so that no rank is left behind. True when the
/// launcher is gone already.
///
/// # Errors
/// The system refuses.
pub fn end_with_launcher() -> std::io::Result<bool> {
    let Some(launcher) = std::env::var(LAUNCHER).ok().and_then(|id| id.parse::<i32>().ok()) else {
        return Ok(false);
    };
    // A shell between the two is the one to outlive then; its own end is not the launcher's.
    let is_parent = || getppid().is_some_and(|parent| parent.as_raw_nonzero().get() == launcher);
    if !is_parent() {
        return Ok(getppid().is_none_or(|parent| parent.as_raw_nonzero().get() == 1));
    }
    set_parent_process_death_signal(Some(Signal::TERM))?;
    Ok(!is_parent())
}
