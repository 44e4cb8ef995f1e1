//! What to start: torchrun's terms.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use crate::parent::LAUNCHER;
use crate::{LaunchError, Rendezvous};

/// Processes of one run on one host.
#[derive(Debug, Clone, PartialEq)]
pub struct LaunchPlan {
    /// Program and arguments, the same for every rank.
    pub command: Vec<String>,
    /// Processes on this host, at least 1.
    pub nproc_per_node: usize,
    /// The hosts of the run.
    pub hosts: Hosts,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// How often all processes are started again after one failed.
    pub max_restarts: usize,
    /// Exit codes after which starting again would only fail again.
    pub final_codes: Vec<i32>,
    /// Exit code of a rank that saved and ended because it, or a rank of another host, was asked to.
    pub stopped_code: Option<i32>,
    /// Folder for what each rank writes to its standard error, a file a rank and start; none when absent.
    pub log_dir: Option<PathBuf>,
}

/// The hosts of a run, and which one this is.
#[derive(Debug, Clone, PartialEq)]
pub enum Hosts {
    /// Known beforehand; every launcher is told its number.
    Fixed {
        /// Hosts, at least 1.
        nnodes: usize,
        /// This host, from 0.
        node_rank: usize,
        /// Host of rank 0.
        master_addr: String,
        /// Port on that host; None finds a free one, which only a single host can do.
        master_port: Option<u16>,
    },
    /// Found when they meet.
    Meet(Rendezvous),
}

/// Where this host stands among all in one start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub node_rank: usize,
    pub first_rank: usize,
    pub world_size: usize,
    pub master_addr: String,
    pub master_port: u16,
    /// Number of the start, from 0.
    pub start: usize,
}

impl LaunchPlan {
    /// `nproc_per_node` processes of `command` on this host alone.
    pub fn local(command: Vec<String>, nproc_per_node: usize) -> Self {
        let hosts = Hosts::Fixed { nnodes: 1, node_rank: 0, master_addr: "127.0.0.1".to_owned(), master_port: None };
        Self {
            command,
            nproc_per_node,
            hosts,
            grace: Duration::from_secs(30),
            max_restarts: 0,
            final_codes: Vec::new(),
            stopped_code: None,
            log_dir: None,
        }
    }

    /// Where this host stands in start number `start`; None where hosts have to meet to know.
    pub(crate) fn fixed_place(&self, start: usize) -> Result<Option<Place>, LaunchError> {
        let Hosts::Fixed { nnodes, node_rank, master_addr, master_port } = &self.hosts else {
            return Ok(None);
        };
        let master_port = match *master_port {
            Some(port) => port,
            None => free_port()?,
        };
        Ok(Some(Place {
            node_rank: *node_rank,
            first_rank: node_rank * self.nproc_per_node,
            world_size: nnodes * self.nproc_per_node,
            master_addr: master_addr.clone(),
            master_port,
            start,
        }))
    }

    /// Program, arguments, and the environment of every rank of this host.
    pub(crate) fn processes(&self, place: &Place) -> Result<Vec<ProcessSpec>, LaunchError> {
        let (program, arguments) = self.command.split_first().ok_or(LaunchError::Plan {
            name: "command",
            got: "empty".to_owned(),
            wanted: "a program and its arguments",
        })?;
        let Place { node_rank, first_rank, world_size, start, .. } = *place;
        let spec = |local_rank: usize| {
            let rank = first_rank + local_rank;
            let variables = [
                ("RANK", rank.to_string()),
                ("LOCAL_RANK", local_rank.to_string()),
                ("WORLD_SIZE", world_size.to_string()),
                ("LOCAL_WORLD_SIZE", self.nproc_per_node.to_string()),
                ("GROUP_RANK", node_rank.to_string()),
                ("MASTER_ADDR", place.master_addr.clone()),
                ("MASTER_PORT", place.master_port.to_string()),
                ("TORCHELASTIC_RESTART_COUNT", start.to_string()),
                ("TORCHELASTIC_MAX_RESTARTS", self.max_restarts.to_string()),
                (LAUNCHER, std::process::id().to_string()),
            ];
            let log = |folder: &PathBuf| folder.join(format!("start-{start}")).join(format!("rank-{rank}.log"));
            ProcessSpec {
                rank,
                program: program.clone(),
                arguments: arguments.to_vec(),
                variables: variables.to_vec(),
                log: self.log_dir.as_ref().map(log),
                prefix: if world_size > 1 { format!("[{rank}] ") } else { String::new() },
            }
        };
        Ok((0..self.nproc_per_node).map(spec).collect())
    }

    /// What contradicts itself.
    pub(crate) fn check(&self) -> Result<(), LaunchError> {
        let wrong = |name, got: String, wanted| Err(LaunchError::Plan { name, got, wanted });
        if self.nproc_per_node == 0 {
            return wrong("nproc_per_node", "0".to_owned(), "at least 1");
        }
        match &self.hosts {
            Hosts::Fixed { nnodes, node_rank, .. } if node_rank >= nnodes => {
                wrong("node_rank", node_rank.to_string(), "below `nnodes`")
            }
            Hosts::Fixed { nnodes: 2.., master_port: None, .. } => wrong(
                "master_port",
                "not given".to_owned(),
                "the same free port on every host when `nnodes` is above 1",
            ),
            // Each launcher would count its starts by itself, and ranks of different counts never find each other.
            Hosts::Fixed { nnodes: 2.., .. } if self.max_restarts > 0 => wrong(
                "max_restarts",
                self.max_restarts.to_string(),
                "0 where hosts are told their numbers; hosts that meet (`--rdzv-endpoint`) start again together",
            ),
            Hosts::Meet(Rendezvous { min_nodes, max_nodes, .. }) if *min_nodes == 0 || min_nodes > max_nodes => {
                wrong("nnodes", format!("{min_nodes}:{max_nodes}"), "MIN:MAX with MIN at least 1 and at most MAX")
            }
            _ => Ok(()),
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
pub(crate) fn free_port() -> Result<u16, LaunchError> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| LaunchError::System { doing: "find a free port", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_hosts(node_rank: usize, master_port: Option<u16>) -> Hosts {
        Hosts::Fixed { nnodes: 2, node_rank, master_addr: "10.0.0.1".to_owned(), master_port }
    }

    #[test]
    fn ranks_count_on_over_hosts() {
        let plan = LaunchPlan {
            hosts: two_hosts(1, Some(29500)),
            ..LaunchPlan::local(vec!["true".to_owned(), "x".to_owned()], 3)
        };
        let processes = plan.processes(&plan.fixed_place(0).unwrap().unwrap()).unwrap();
        assert_eq!(processes.iter().map(|process| process.rank).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(processes[2].arguments, ["x"]);
        let variables = &processes[2].variables;
        for wanted in [("LOCAL_RANK", "2"), ("WORLD_SIZE", "6"), ("MASTER_PORT", "29500"), ("GROUP_RANK", "1")] {
            assert!(variables.contains(&(wanted.0, wanted.1.to_owned())), "{variables:?}");
        }
    }

    #[test]
    fn plans_that_cannot_work_are_refused() {
        let refused = |plan: LaunchPlan| plan.check().unwrap_err().to_string();
        let plan = LaunchPlan { hosts: two_hosts(0, None), ..LaunchPlan::local(vec!["true".to_owned()], 1) };
        assert!(refused(plan.clone()).starts_with("`master_port` is not given"));
        assert!(refused(LaunchPlan { hosts: two_hosts(2, Some(1)), ..plan.clone() }).starts_with("`node_rank` is 2"));
        let again = LaunchPlan { hosts: two_hosts(0, Some(1)), max_restarts: 3, ..plan.clone() };
        assert!(refused(again).starts_with("`max_restarts` is 3, wanted 0 where hosts are told their numbers"));
        assert!(refused(LaunchPlan { nproc_per_node: 0, ..plan }).starts_with("`nproc_per_node` is 0"));
        let plan = LaunchPlan::local(Vec::new(), 1);
        let error = plan.processes(&plan.fixed_place(0).unwrap().unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("`command` is empty"));
    }
}
