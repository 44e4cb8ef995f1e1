//! What to start: torchrun's terms.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use crate::LaunchError;

/// Processes of one run on one host.
#[derive(Debug, Clone, PartialEq)]
pub struct LaunchPlan {
    /// Program and arguments, the same for every rank.
    pub command: Vec<String>,
    /// Processes on this host, at least 1.
    pub nproc_per_node: usize,
    /// Hosts, at least 1.
    pub nnodes: usize,
    /// This host, from 0.
    pub node_rank: usize,
    /// Host of rank 0.
    pub master_addr: String,
    /// Port on that host; None finds a free one, which only a single host can do.
    pub master_port: Option<u16>,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// How often all processes are started again after one failed.
    pub max_restarts: usize,
    /// Exit codes after which starting again would only fail again.
    pub final_codes: Vec<i32>,
    /// Folder for what each rank writes to its standard error, a file a rank and start; none when absent.
    pub log_dir: Option<PathBuf>,
}

impl LaunchPlan {
    /// `nproc_per_node` processes of `command` on this host alone.
    pub fn local(command: Vec<String>, nproc_per_node: usize) -> Self {
        Self {
            command,
            nproc_per_node,
            nnodes: 1,
            node_rank: 0,
            master_addr: "127.0.0.1".to_owned(),
            master_port: None,
            grace: Duration::from_secs(30),
            max_restarts: 0,
            final_codes: Vec::new(),
            log_dir: None,
        }
    }

    /// Program, arguments, and the environment of every rank of this host, for start number `start` (from 0).
    pub(crate) fn processes(&self, start: usize) -> Result<Vec<ProcessSpec>, LaunchError> {
        let (program, arguments) = self.check()?;
        let port = match self.master_port {
            Some(port) => port,
            None => free_port()?,
        };
        let world_size = self.nproc_per_node * self.nnodes;
        let spec = |local_rank: usize| {
            let rank = self.node_rank * self.nproc_per_node + local_rank;
            let variables = [
                ("RANK", rank.to_string()),
                ("LOCAL_RANK", local_rank.to_string()),
                ("WORLD_SIZE", world_size.to_string()),
                ("LOCAL_WORLD_SIZE", self.nproc_per_node.to_string()),
                ("GROUP_RANK", self.node_rank.to_string()),
                ("MASTER_ADDR", self.master_addr.clone()),
                ("MASTER_PORT", port.to_string()),
                ("TORCHELASTIC_RESTART_COUNT", start.to_string()),
                ("TORCHELASTIC_MAX_RESTARTS", self.max_restarts.to_string()),
            ];
            let (program, arguments) = (program.clone(), arguments.to_vec());
            let log = self
                .log_dir
                .as_ref()
                .map(|folder| folder.join(format!("start-{start}")).join(format!("rank-{rank}.log")));
            let prefix = (world_size > 1).then(|| format!("[{rank}] "));
            ProcessSpec {
                rank,
                program,
                arguments,
                variables: variables.to_vec(),
                log,
                prefix: prefix.unwrap_or_default(),
            }
        };
        Ok((0..self.nproc_per_node).map(spec).collect())
    }

    fn check(&self) -> Result<(&String, &[String]), LaunchError> {
        let wrong = |name, got: String, wanted| Err(LaunchError::Plan { name, got, wanted });
        if self.nproc_per_node == 0 {
            return wrong("nproc_per_node", "0".to_owned(), "at least 1");
        }
        if self.node_rank >= self.nnodes {
            return wrong("node_rank", self.node_rank.to_string(), "below `nnodes`");
        }
        if self.nnodes > 1 && self.master_port.is_none() {
            return wrong(
                "master_port",
                "not given".to_owned(),
                "the same free port on every host when `nnodes` is above 1",
            );
        }
        match self.command.split_first() {
            Some(split) => Ok(split),
            None => wrong("command", "empty".to_owned(), "a program and its arguments"),
        }
    }
}

/// One process to start.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ProcessSpec {
    pub rank: usize,
    pub program: String,
    pub arguments: Vec<String>,
    pub variables: Vec<(&'static str, String)>,
    /// Where its standard error is kept.
    pub log: Option<PathBuf>,
    /// What stands before its lines on ours.
    pub prefix: String,
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16, LaunchError> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| LaunchError::System { doing: "find a free port", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_on_over_hosts() {
        let plan = LaunchPlan {
            nnodes: 2,
            node_rank: 1,
            master_port: Some(29500),
            ..LaunchPlan::local(vec!["true".to_owned(), "x".to_owned()], 3)
        };
        let processes = plan.processes(0).unwrap();
        assert_eq!(processes.iter().map(|process| process.rank).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(processes[2].arguments, ["x"]);
        let variables = &processes[2].variables;
        for wanted in [("LOCAL_RANK", "2"), ("WORLD_SIZE", "6"), ("MASTER_PORT", "29500"), ("GROUP_RANK", "1")] {
            assert!(variables.contains(&(wanted.0, wanted.1.to_owned())), "{variables:?}");
        }
    }

    #[test]
    fn plans_that_cannot_work_are_refused() {
        let plan = LaunchPlan { nnodes: 2, ..LaunchPlan::local(vec!["true".to_owned()], 1) };
        assert!(plan.processes(0).unwrap_err().to_string().starts_with("`master_port` is not given"));
        let plan = LaunchPlan::local(Vec::new(), 1);
        assert!(plan.processes(0).unwrap_err().to_string().starts_with("`command` is empty"));
    }
}
