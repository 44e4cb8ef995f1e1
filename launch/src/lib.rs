//! Starts the processes of one run on this host and watches them, as `torchrun --no-python` would.
//!
//! [`launch`] gives each process RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT, and a process
//! group of its own. The first that fails ends the others: SIGTERM, so that they can save, then SIGKILL. A signal to the
//! launcher is passed on. The error of the first rank that failed is reported last, after everything the ranks printed.
//! Several hosts each run a launcher with their own `node_rank`. With `max_restarts` all ranks are started again after a failure; a
//! run continues from its last whole checkpoint.

mod error;
mod plan;
mod process;
mod watch;

pub use error::LaunchError;
pub use plan::LaunchPlan;
pub use watch::launch;
