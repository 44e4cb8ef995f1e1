//! A process that does a part of this one's work: an experiment of a table, a run of a sweep.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::parent::LAUNCHER;

/// A started process of this program. It is in a group of its own, so that a terminal's Ctrl-C comes to it once, through this process;
/// it ends when this process does, even by kill -9 ([`crate::parent::end_with_launcher`]).
#[derive(Debug)]
pub struct PartProcess {
    child: Child,
    /// It was asked to end; a second signal would keep it from saving.
    asked: bool,
}

impl PartProcess {
    /// Starts it, without input.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).process_group(0).env(LAUNCHER, std::process::id().to_string());
        Ok(Self { child: command.spawn()?, asked: false })
    }

    /// How it ended; `None` while it works. With `stop` it is asked, once, to save and end.
    ///
    /// # Errors
    /// What the system says.
    pub fn poll(&mut self, stop: bool) -> io::Result<Option<ExitStatus>> {
        let ended = self.child.try_wait()?;
        if ended.is_none() && stop && !self.asked {
            self.asked = true;
            if let Some(id) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
                // Not waited for yet, so the id is still its own; it may have ended a moment ago.
                let _ = kill_process(id, Signal::TERM);
            }
        }
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn it_is_asked_once_and_has_time_to_save() {
        let script = "n=0; trap 'n=$((n+1))' TERM; echo ready; i=0
            while [ $i -lt 10 ]; do sleep 0.05; i=$((i+1)); done; exit $((10+n))";
        let mut process = PartProcess::start(Command::new("sh").args(["-c", script]).stdout(Stdio::piped())).unwrap();
        process.child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        assert_eq!(process.poll(false).unwrap(), None);
        let started = Instant::now();
        let status = loop {
            if let Some(status) = process.poll(true).unwrap() {
                break status;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "it goes on");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(11), "one signal, and all the time it needs");
    }
}
