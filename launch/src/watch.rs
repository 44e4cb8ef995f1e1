//! Waiting for all ranks, and ending them together.

use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::process::{RankGroup, RankProcess};
use crate::{LaunchError, LaunchPlan};

/// Starts all processes of this host and waits for their end; after a failure all are started again while restarts remain.
///
/// # Errors
/// A process could not be started; a rank failed (the others have been ended) and no restart remains or would help; SIGINT or
/// SIGTERM came and all ranks ended.
pub fn launch(plan: &LaunchPlan) -> Result<(), LaunchError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|source| LaunchError::System { doing: "start the watcher", source })?;
    runtime.block_on(watch(plan))
}

async fn watch(plan: &LaunchPlan) -> Result<(), LaunchError> {
    let listen = |kind| signal(kind).map_err(|source| LaunchError::System { doing: "listen for signals", source });
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut start = 0;
    loop {
        match watch_one(plan, start, &mut interrupt, &mut terminate).await {
            Err(LaunchError::RankFailed { rank, how, code, .. })
                if start < plan.max_restarts && !code.is_some_and(|code| plan.final_codes.contains(&code)) =>
            {
                start += 1;
                tracing::warn!(
                    "rank {rank} {how}; all ranks are started again ({start} of {} times)",
                    plan.max_restarts
                );
            }
            other => return other,
        }
    }
}

/// One start, to its end.
async fn watch_one(
    plan: &LaunchPlan,
    start: usize,
    interrupt: &mut SignalStream,
    terminate: &mut SignalStream,
) -> Result<(), LaunchError> {
    let (groups, mut ends) = start_all(plan, start)?;
    let mut ending = Ending { groups, grace: plan.grace, error: None, deadline: None };
    loop {
        let overdue = sleep_until(ending.deadline.unwrap_or_else(Instant::now));
        tokio::select! {
            ended = ends.join_next() => match ended {
                None => return ending.error.map_or(Ok(()), Err),
                Some(Ok((process, status))) => ending.ended(process, status?).await,
                Some(Err(error)) => {
                    let source = std::io::Error::other(error);
                    return Err(LaunchError::System { doing: "wait for a process", source });
                }
            },
            _ = interrupt.recv() => ending.pass_on(Signal::INT, "SIGINT"),
            _ = terminate.recv() => ending.pass_on(Signal::TERM, "SIGTERM"),
            () = overdue, if ending.deadline.is_some() => ending.kill(),
        }
    }
}

type Ended = (RankProcess, Result<ExitStatus, LaunchError>);

/// Starts every rank; dropping the set on an error kills those already started.
fn start_all(plan: &LaunchPlan, start: usize) -> Result<(Vec<RankGroup>, JoinSet<Ended>), LaunchError> {
    let mut groups = Vec::new();
    let mut ends = JoinSet::new();
    for spec in plan.processes(start)? {
        let process = RankProcess::start(&spec)?;
        groups.push(process.group);
        ends.spawn(process.wait());
    }
    Ok((groups, ends))
}

/// How the run comes to its end.
struct Ending {
    /// Ranks that still run.
    groups: Vec<RankGroup>,
    grace: Duration,
    /// The first thing that went wrong.
    error: Option<LaunchError>,
    /// When patience ends.
    deadline: Option<Instant>,
}

impl Ending {
    /// A rank ended; a failure ends the others.
    async fn ended(&mut self, mut process: RankProcess, status: ExitStatus) {
        let rank = process.group.rank;
        self.groups.retain(|group| group.rank != rank);
        // What it started and left behind.
        process.group.signal(Signal::KILL);
        if status.success() || self.error.is_some() {
            return;
        }
        self.error = Some(process.failure(status).await);
        if !self.groups.is_empty() {
            tracing::warn!("rank {rank} failed; ending the others");
        }
        self.end(Signal::TERM);
    }

    /// A signal to the launcher is one to the ranks; a second one ends patience.
    fn pass_on(&mut self, signal: Signal, name: &'static str) {
        if matches!(self.error, Some(LaunchError::Signalled { .. })) {
            tracing::warn!("{name} again: killing the ranks");
            return self.end(Signal::KILL);
        }
        tracing::info!("{name}: passed on to the ranks");
        self.error.get_or_insert(LaunchError::Signalled { signal: name });
        self.end(signal);
    }

    fn end(&mut self, signal: Signal) {
        self.groups.iter().for_each(|group| group.signal(signal));
        self.deadline.get_or_insert(Instant::now() + self.grace);
    }

    fn kill(&mut self) {
        tracing::warn!("ranks did not end in {:?}; killing them", self.grace);
        self.groups.iter().for_each(|group| group.signal(Signal::KILL));
        self.deadline = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, nproc_per_node: usize) -> LaunchPlan {
        LaunchPlan::local(["sh", "-c", script].map(str::to_owned).to_vec(), nproc_per_node)
    }

    #[test]
    fn every_rank_gets_its_variables() {
        let folder = std::env::temp_dir().join(format!("monopass-launch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let script = format!("echo $RANK/$WORLD_SIZE $MASTER_ADDR > {}/$LOCAL_RANK", folder.display());
        launch(&shell(&script, 3)).unwrap();
        for rank in 0..3 {
            let text = std::fs::read_to_string(folder.join(rank.to_string())).unwrap();
            assert_eq!(text.trim(), format!("{rank}/3 127.0.0.1"));
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_first_failure_ends_the_others_and_is_reported_with_its_last_words() {
        let started = std::time::Instant::now();
        let script = "if [ $RANK = 1 ]; then echo 'no such data set' >&2; exit 3; fi; sleep 60";
        let error = launch(&shell(script, 3)).unwrap_err();
        let LaunchError::RankFailed { rank: 1, code: Some(3), ref said, .. } = error else { panic!("{error}") };
        assert_eq!(said, &["no such data set"]);
        assert_eq!(error.to_string(), "rank 1 exited with code 3\n  no such data set");
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn ranks_that_ignore_sigterm_are_killed() {
        let started = std::time::Instant::now();
        let script = "if [ $RANK = 0 ]; then sleep 0.5; exit 1; fi; trap '' TERM; while :; do sleep 0.1; done";
        let plan = LaunchPlan { grace: Duration::from_millis(500), ..shell(script, 2) };
        let error = launch(&plan).unwrap_err();
        assert!(matches!(error, LaunchError::RankFailed { rank: 0, .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_missing_program_is_named() {
        let plan = LaunchPlan::local(vec!["/no/such/program".to_owned()], 2);
        let error = launch(&plan).unwrap_err().to_string();
        assert!(error.starts_with("cannot start `/no/such/program` as rank 0: "), "{error}");
    }

    /// Ranks append to a file of their own at each start.
    fn counting(folder: &std::path::Path, then: &str) -> String {
        format!("echo $TORCHELASTIC_RESTART_COUNT >> {}/$RANK; {then}", folder.display())
    }

    fn starts(folder: &std::path::Path, rank: usize) -> String {
        std::fs::read_to_string(folder.join(rank.to_string())).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("monopass-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn all_ranks_start_again_until_they_succeed() {
        let folder = folder("restart");
        // The failure ends rank 0 whatever it is doing, so rank 1 waits until rank 0 has counted its start.
        let fails_twice = format!(
            "if [ $RANK = 1 ] && [ $TORCHELASTIC_RESTART_COUNT -lt 2 ]; then \
             until grep -qs $TORCHELASTIC_RESTART_COUNT {}/0; do sleep 0.01; done; echo lost >&2; exit 4; fi",
            folder.display()
        );
        let log_dir = Some(folder.join("logs"));
        let plan = LaunchPlan { max_restarts: 3, log_dir, ..shell(&counting(&folder, &fails_twice), 2) };
        launch(&plan).unwrap();
        assert_eq!((starts(&folder, 0), starts(&folder, 1)), ("0 1 2".to_owned(), "0 1 2".to_owned()));
        assert_eq!(std::fs::read_to_string(folder.join("logs/start-1/rank-1.log")).unwrap(), "lost\n");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn restarts_end_and_hopeless_failures_are_not_tried_again() {
        let folder = folder("hopeless");
        let plan = LaunchPlan { max_restarts: 1, final_codes: vec![2], ..shell(&counting(&folder, "exit 4"), 1) };
        assert!(matches!(launch(&plan).unwrap_err(), LaunchError::RankFailed { code: Some(4), .. }));
        assert_eq!(starts(&folder, 0), "0 1");
        let plan = LaunchPlan { command: shell(&counting(&folder, "exit 2"), 1).command, ..plan };
        assert!(matches!(launch(&plan).unwrap_err(), LaunchError::RankFailed { code: Some(2), .. }));
        assert_eq!(starts(&folder, 0), "0 1 0");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
