//! Errors of this crate.

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
