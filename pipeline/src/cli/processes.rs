//! Arguments of starting processes, and of what they leave to go on from.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `monopass launch`.
#[derive(Debug, Args)]
pub struct LaunchArgs {
    /// Processes on this host: a number, `gpu` (one for each GPU), `cpu` (one for each core), or `auto` (`gpu` when there is one).
    #[arg(long, default_value = "1", value_name = "N|auto|gpu|cpu")]
    pub nproc_per_node: String,
    /// Hosts: a number, or the least and the most that may take part.
    #[arg(long, default_value = "1", value_name = "N|MIN:MAX")]
    pub nnodes: String,
    /// This host, from 0.
    #[arg(long, default_value_t = 0)]
    pub node_rank: usize,
    /// Host of rank 0.
    #[arg(long, default_value = "127.0.0.1")]
    pub master_addr: String,
    /// Port on that host; a free one on a single host.
    #[arg(long)]
    pub master_port: Option<u16>,
    /// Where hosts meet: the same on every host; the host with this address serves the meeting. Then `--node-rank` and the master's
    /// address are found, hosts may come and go between MIN and MAX, and a failure on one starts all again.
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with_all = ["node_rank", "master_addr", "master_port"])]
    pub rdzv_endpoint: Option<String>,
    /// How hosts meet.
    #[arg(long, value_parser = ["c10d"], default_value = "c10d")]
    pub rdzv_backend: String,
    /// Name of the run at the endpoint.
    #[arg(long, default_value = "default", value_name = "ID")]
    pub rdzv_id: String,
    /// Seconds to wait for enough hosts.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub rdzv_join_seconds: u64,
    /// Seconds that enough hosts wait for more.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub rdzv_last_call_seconds: u64,
    /// Seconds without a word after which a host is lost.
    #[arg(long, default_value_t = 15, value_name = "SECONDS")]
    pub rdzv_keep_alive_seconds: u64,
    /// Seconds between SIGTERM and SIGKILL, after a failure or a signal: a step and a checkpoint must fit.
    #[arg(long, default_value_t = 30)]
    pub grace_seconds: u64,
    /// Start all processes again after a failure, so often; a run goes on from its last checkpoint.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub max_restarts: usize,
    /// This host alone, with a free port.
    #[arg(long, conflicts_with_all = ["nnodes", "node_rank", "master_addr", "master_port", "rdzv_endpoint"])]
    pub standalone: bool,
    /// Keep what each rank says in this folder, a file a rank and start.
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// What each process runs: `prepare FILE ..`, `train FILE ..`, `evaluate FILE ..` or `run FILE ..`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `monopass checkpoint ..`.
#[derive(Debug, Subcommand)]
pub enum CheckpointCommand {
    /// List the checkpoints of a run, newest first, and whether each is whole.
    #[command(after_help = "Example:\n  monopass checkpoint ls runs/quickstart")]
    Ls {
        /// The run's folder.
        run: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Write the model that a checkpoint of a run holds as a Hugging Face folder, adapters merged and beside it.
    ///
    /// The run's stages before it and its prepared sets must still be there.
    #[command(
        after_help = "Example:\n  monopass checkpoint export runs/quickstart/train/first/checkpoints/step-00000050 --out early-model"
    )]
    Export {
        /// The checkpoint's folder.
        checkpoint: PathBuf,
        /// The folder to write.
        #[arg(long)]
        out: PathBuf,
        /// Replace what is there.
        #[arg(long)]
        force: bool,
    },
    /// Compare a checkpoint's files, or those of all of a run, with their checksums.
    #[command(after_help = "Example:\n  monopass checkpoint verify runs/quickstart")]
    Verify {
        /// A checkpoint's folder, or a run's.
        path: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}
