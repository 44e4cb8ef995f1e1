//! Starts the processes of one run on this host and watches them, as `torchrun --no-python` would.
//!
//! [`launch`] gives each process RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT, and a process
//! group of its own. The first that fails ends the others: SIGTERM, so that they can save, then SIGKILL. A signal to the
//! launcher is passed on. The error of the first rank that failed is reported last, after everything the ranks printed.
//! Several hosts each run a launcher: with a number of their own ([`Hosts::Fixed`]), or they meet at an endpoint ([`Rendezvous`]) and may then be
//! fewer or more from one start to the next. With `max_restarts` all ranks are started again after a failure; a run continues from its
//! last whole checkpoint.

mod child;
mod error;
pub mod parent;
mod plan;
mod process;
mod rendezvous;
mod round_watch;
#[cfg(test)]
mod tests;
mod watch;

pub use child::PartProcess;
pub use error::LaunchError;
pub use plan::{Hosts, LaunchPlan};
pub use rendezvous::Rendezvous;
pub use watch::launch;
