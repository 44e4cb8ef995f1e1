//! Errors of this crate.

use native::c10d::C10dError;

/// What can go wrong in starting and watching processes.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The plan contradicts itself.
    #[error("`{name}` is {got}, wanted {wanted}")]
    Plan {
        /// Which setting.
        name: &'static str,
        /// Its value.
        got: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// A process could not be started.
    #[error("cannot start `{program}` as rank {rank}: {source}")]
    Start {
        /// Program.
        program: String,
        /// Which rank.
        rank: usize,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// The launcher could not listen for signals or for a free port.
    #[error("cannot {doing}: {source}")]
    System {
        /// What it tried.
        doing: &'static str,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// A rank failed; the others were ended.
    #[error("rank {rank} {how}{}", last_words(said))]
    RankFailed {
        /// The first rank that failed.
        rank: usize,
        /// Its exit code or signal, in words.
        how: String,
        /// Its exit code, when it exited by itself.
        code: Option<i32>,
        /// The last lines it wrote to its standard error.
        said: Vec<String>,
    },
    /// Launchers cannot meet: nobody serves the endpoint, or who did is gone.
    #[error("cannot meet other hosts at `{endpoint}`: {source}")]
    Rendezvous {
        /// Host and port.
        endpoint: String,
        /// What c10d said.
        #[source]
        source: C10dError,
    },
    /// Too few hosts came.
    #[error("{came} within {seconds} s")]
    HostsMissing {
        /// What was waited for.
        came: String,
        /// How long.
        seconds: u64,
    },
    /// Another host's rank failed, or the host is lost; the ranks of this host were ended.
    #[error("host {host}: {message}")]
    OtherHost {
        /// Its address.
        host: String,
        /// What happened there.
        message: String,
        /// Whether starting again would only fail again.
        hopeless: bool,
    },
    /// A host came while there was room for it; the ranks were ended to start again with it.
    #[error("another host has come")]
    Newcomer,
    /// A signal ended the run; all ranks have ended.
    #[error("ended by {signal}")]
    Signalled {
        /// `SIGINT` or `SIGTERM`.
        signal: &'static str,
    },
}

fn last_words(said: &[String]) -> String {
    said.iter().map(|line| format!("\n  {line}")).collect()
}
