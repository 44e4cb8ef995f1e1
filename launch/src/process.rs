//! One started process: its output, its end, its group.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;

use crate::LaunchError;
use crate::plan::ProcessSpec;

/// Lines of standard error kept for the report.
const LAST_LINES: usize = 20;

/// The process group of a rank: the process and all it started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RankGroup {
    pub rank: usize,
    group: Option<Pid>,
}

impl RankGroup {
    /// Sends a signal to all of the group; nothing when all have ended.
    pub fn signal(self, signal: Signal) {
        if let Some(group) = self.group {
            // It may have ended a moment ago.
            let _ = kill_process_group(group, signal);
        }
    }
}

/// A running rank. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct RankProcess {
    pub group: RankGroup,
    child: Child,
    said: Arc<Mutex<VecDeque<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl RankProcess {
    /// Starts the process in a group of its own, so that what it starts ends with it.
    pub fn start(spec: &ProcessSpec) -> Result<Self, LaunchError> {
        let start = |source| LaunchError::Start { program: spec.program.clone(), rank: spec.rank, source };
        let mut child = Command::new(&spec.program)
            .args(&spec.arguments)
            .envs(spec.variables.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(start)?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let log = spec.log.as_deref().map(create_log).transpose()?;
        let (kept, prefix) = (Arc::clone(&said), spec.prefix.clone());
        let reader = child.stderr.take().map(|stderr| tokio::spawn(pass_on(stderr, kept, log, prefix)));
        Ok(Self { group: RankGroup { rank: spec.rank, group }, child, said, reader })
    }

    /// Waits for the end of the process.
    pub async fn wait(mut self) -> (Self, Result<ExitStatus, LaunchError>) {
        let status = self.child.wait().await;
        let status = status.map_err(|source| LaunchError::System { doing: "wait for a process", source });
        (self, status)
    }

    /// Waits until what a process that has ended wrote to its standard error is passed on.
    pub async fn last_words(&mut self) {
        if let Some(reader) = self.reader.take() {
            // A grandchild may hold the pipe open; its lines are not waited for.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(1), reader).await;
        }
    }

    /// The failure of a process that has ended.
    pub fn failure(&self, status: ExitStatus) -> LaunchError {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exited with code {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "ended".to_owned(),
        };
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        LaunchError::RankFailed { rank: self.group.rank, how, code: status.code(), said }
    }
}

fn create_log(path: &Path) -> Result<File, LaunchError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let created = std::fs::create_dir_all(folder).and_then(|()| File::create(path));
    created.map_err(|source| LaunchError::System { doing: "make a rank's log", source })
}

/// Passes lines on to our own standard error and to the log, and keeps the last.
async fn pass_on(stderr: ChildStderr, said: Arc<Mutex<VecDeque<String>>>, mut log: Option<File>, prefix: String) {
    let mut lines = BufReader::new(stderr).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line).into_owned();
        // A closed standard error or a full disk must not end the run.
        let _ = writeln!(std::io::stderr(), "{prefix}{line}");
        if let Some(log) = &mut log {
            let _ = writeln!(log, "{line}");
        }
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() == LAST_LINES {
            said.pop_front();
        }
        said.push_back(line);
    }
}
