//! Waiting for all ranks, and ending them together.

use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::plan::Place;
use crate::process::{RankGroup, RankProcess};
use crate::rendezvous::{Meeting, Round};
use crate::round_watch::{HostFailure, News, RoundWatch};
use crate::{Hosts, LaunchError, LaunchPlan};

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
    let ended = runtime.block_on(watch(plan));
    // A connection that is still being tried must not hold the program up.
    runtime.shutdown_background();
    ended
}

async fn watch(plan: &LaunchPlan) -> Result<(), LaunchError> {
    plan.check()?;
    let mut signals = Signals::listen()?;
    let (mut meeting, mut over) = (None, None);
    let mut restarts = 0;
    loop {
        let (place, round) = match plan.fixed_place(restarts)? {
            Some(place) => (place, None),
            None => {
                let (met, round) = meet(plan, meeting.take(), over, &mut signals).await?;
                let watch = RoundWatch::start(met.clone(), round.clone());
                meeting = Some(met);
                (round.place(), Some((round.number, watch)))
            }
        };
        let several = place.world_size > plan.nproc_per_node;
        let (number, mut news) = round.unzip();
        let ended = watch_one(plan, &place, news.as_mut(), &mut signals).await;
        let again = match &ended {
            // Who asked for an end while ranks were being ended must not see them start again.
            _ if signals.came => false,
            Err(LaunchError::Newcomer) => true,
            // One host was asked to leave; all ranks saved, and the others go on without it.
            Err(error) if several && was_stopped(plan, error) => true,
            Err(error) if starting_again_may_help(plan, error) && restarts < plan.max_restarts => {
                restarts += 1;
                true
            }
            _ => false,
        };
        if !again {
            leave(plan, news).await;
            return ended;
        }
        if let Err(error) = ended {
            let reason = error.to_string();
            let first = reason.lines().next().unwrap_or_default();
            tracing::warn!("{first}; all ranks are started again ({restarts} of {} times)", plan.max_restarts);
        }
        leave(plan, news).await;
        over = number;
    }
}

/// Says goodbye to the other hosts, and waits for theirs where the store is here. A network that is gone must not hold this up.
async fn leave(plan: &LaunchPlan, watch: Option<RoundWatch>) {
    if let (Hosts::Meet(rendezvous), Some(watch)) = (&plan.hosts, watch) {
        let patience = rendezvous.keep_alive + Duration::from_secs(1);
        let _ = timeout(patience, tokio::task::spawn_blocking(move || drop(watch))).await;
    }
}

/// A rank saved and ended, as one does whose fellow on another host was asked to. Hosts that are told their numbers cannot do without one.
fn was_stopped(plan: &LaunchPlan, error: &LaunchError) -> bool {
    let stopped = |code: &Option<i32>| code.is_some() && *code == plan.stopped_code;
    matches!((&plan.hosts, error), (Hosts::Meet(_), LaunchError::RankFailed { code, .. }) if stopped(code))
}

fn starting_again_may_help(plan: &LaunchPlan, error: &LaunchError) -> bool {
    match error {
        LaunchError::RankFailed { code, .. } => !code.is_some_and(|code| plan.final_codes.contains(&code)),
        LaunchError::OtherHost { hopeless, .. } => !hopeless,
        _ => false,
    }
}

/// Waits for the other hosts, beside the signals. `over` is the round that has just ended.
async fn meet(
    plan: &LaunchPlan,
    meeting: Option<Meeting>,
    over: Option<u64>,
    signals: &mut Signals,
) -> Result<(Meeting, Round), LaunchError> {
    let Hosts::Meet(rendezvous) = plan.hosts.clone() else { unreachable!("only called where hosts meet") };
    let nproc_per_node = plan.nproc_per_node;
    let patience = rendezvous.join_timeout + rendezvous.last_call + rendezvous.keep_alive;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let mut joining = tokio::task::spawn_blocking(move || {
        // A connection that broke is made anew; the store may be another one then, whose rounds begin at 0.
        let before = meeting.clone();
        let meeting = meeting.filter(Meeting::answers).map_or_else(|| Meeting::open(&rendezvous), Ok)?;
        if let (Some(number), Some(before)) = (over, before)
            && meeting.is_that_of(&before)
        {
            meeting.advance(number)?;
        }
        let round = meeting.join(nproc_per_node, &asked)?;
        tracing::info!("round {}: host {} of {}", round.number, round.seat, round.seats.len());
        Ok((meeting, round))
    });
    let error = tokio::select! {
        joined = &mut joining => return joined.unwrap_or_else(|error| Err(no_process(error))),
        (signal, _) = signals.next() => LaunchError::Signalled { signal },
        // The network may be gone in the middle of a question.
        () = tokio::time::sleep(patience) => {
            LaunchError::HostsMissing { came: "no answer from where hosts meet".to_owned(), seconds: patience.as_secs() }
        }
    };
    stop.store(true, Ordering::SeqCst);
    // The question may still be waiting for its answer; the process ends with this error.
    Err(error)
}

fn no_process(error: tokio::task::JoinError) -> LaunchError {
    LaunchError::System { doing: "wait for a process", source: std::io::Error::other(error) }
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: SignalStream,
    terminate: SignalStream,
    /// One has come.
    came: bool,
}

impl Signals {
    fn listen() -> Result<Self, LaunchError> {
        let listen = |kind| signal(kind).map_err(|source| LaunchError::System { doing: "listen for signals", source });
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            came: false,
        })
    }

    async fn next(&mut self) -> (&'static str, Signal) {
        let signal = tokio::select! {
            _ = self.interrupt.recv() => ("SIGINT", Signal::INT),
            _ = self.terminate.recv() => ("SIGTERM", Signal::TERM),
        };
        self.came = true;
        signal
    }
}

/// One start, to its end.
async fn watch_one(
    plan: &LaunchPlan,
    place: &Place,
    mut round: Option<&mut RoundWatch>,
    signals: &mut Signals,
) -> Result<(), LaunchError> {
    let (groups, mut ends) = start_all(plan, place)?;
    let mut ending = Ending { groups, grace: plan.grace, error: None, signalled: false, deadline: None };
    loop {
        let overdue = sleep_until(ending.deadline.unwrap_or_else(Instant::now));
        tokio::select! {
            ended = ends.join_next() => match ended {
                None => return ending.error.map_or(Ok(()), Err),
                Some(Ok((process, status))) => {
                    let first = ending.error.is_none();
                    ending.ended(process, status?).await;
                    if let (true, Some(error), Some(round)) = (first, &ending.error, &round)
                        // The other hosts' ranks were stopped as well.
                        && !was_stopped(plan, error)
                    {
                        round.failed(error.to_string(), !starting_again_may_help(plan, error));
                    }
                }
                Some(Err(error)) => return Err(no_process(error)),
            },
            (name, signal) = signals.next() => ending.pass_on(signal, name),
            news = next_news(&mut round) => ending.hear(news),
            () = overdue, if ending.deadline.is_some() => ending.kill(),
        }
    }
}

/// News of the other hosts; never any without a round, or after its watcher has ended.
async fn next_news(round: &mut Option<&mut RoundWatch>) -> News {
    if let Some(round) = round
        && let Some(news) = round.news.recv().await
    {
        return news;
    }
    std::future::pending().await
}

type Ended = (RankProcess, Result<ExitStatus, LaunchError>);

/// Starts every rank; dropping the set on an error kills those already started.
fn start_all(plan: &LaunchPlan, place: &Place) -> Result<(Vec<RankGroup>, JoinSet<Ended>), LaunchError> {
    let mut groups = Vec::new();
    let mut ends = JoinSet::new();
    for spec in plan.processes(place)? {
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
    /// A signal was passed on.
    signalled: bool,
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
        process.last_words().await;
        if status.success() || self.error.is_some() {
            return;
        }
        self.error = Some(process.failure(status));
        if !self.groups.is_empty() {
            tracing::warn!("rank {rank} failed; ending the others");
        }
        self.end(Signal::TERM);
    }

    /// A signal to the launcher is one to the ranks; a second one ends patience.
    fn pass_on(&mut self, signal: Signal, name: &'static str) {
        if std::mem::replace(&mut self.signalled, true) {
            tracing::warn!("{name} again: killing the ranks");
            return self.end(Signal::KILL);
        }
        tracing::info!("{name}: passed on to the ranks");
        // A newcomer is no failure that should be told in its place.
        if matches!(self.error, None | Some(LaunchError::Newcomer)) {
            self.error = Some(LaunchError::Signalled { signal: name });
        }
        self.end(signal);
    }

    /// Another host failed or came: the ranks here end as well, and save what they can.
    fn hear(&mut self, news: News) {
        if self.error.is_some() {
            return;
        }
        self.error = Some(match news {
            News::Failed(HostFailure { host, message, hopeless, .. }) => {
                LaunchError::OtherHost { host, message, hopeless }
            }
            News::Newcomer => LaunchError::Newcomer,
        });
        self.end(Signal::TERM);
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
