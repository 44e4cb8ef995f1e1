//! Ctrl-C and SIGTERM: the first asks training to stop after its step and save, the second ends the program at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::failure::{Ending, Interrupted};

/// Set by the first signal.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Listens for both signals from now on.
    ///
    /// # Errors
    /// When the system refuses the handler.
    pub fn listen() -> anyhow::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the second signal finds the flag set and ends the program.
            signal_hook::flag::register_conditional_shutdown(signal, Ending::Interrupted as i32, Arc::clone(&flag))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
                .with_context(|| format!("cannot listen for signal {signal}"))?;
        }
        Ok(Self(flag))
    }

    /// Whether to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// The flag itself, for loops that poll it.
    pub fn shared(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Ends the command between two pieces of work.
    ///
    /// # Errors
    /// [`Interrupted`] once a signal came.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.is_set() {
            let saved = "finished stages are kept; the same command goes on from here".to_owned();
            return Err(Interrupted { saved }.into());
        }
        Ok(())
    }
}
