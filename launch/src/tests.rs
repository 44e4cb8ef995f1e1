//! Launchers that meet: two in one process, with shells as ranks.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::rendezvous::{Meeting, key};
use crate::{Hosts, LaunchError, LaunchPlan, Rendezvous, launch};

/// A folder of one test.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("monopass-meet-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn meet(min_nodes: usize, max_nodes: usize) -> Rendezvous {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    Rendezvous {
        host: "127.0.0.1".to_owned(),
        port,
        id: "test".to_owned(),
        min_nodes,
        max_nodes,
        join_timeout: Duration::from_secs(30),
        last_call: Duration::from_millis(500),
        keep_alive: Duration::from_secs(5),
    }
}

fn host(rendezvous: &Rendezvous, nproc_per_node: usize, script: &str) -> LaunchPlan {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    LaunchPlan {
        hosts: Hosts::Meet(rendezvous.clone()),
        max_restarts: 2,
        final_codes: vec![2],
        ..LaunchPlan::local(command, nproc_per_node)
    }
}

fn start(plan: LaunchPlan) -> JoinHandle<Result<(), LaunchError>> {
    thread::spawn(move || launch(&plan))
}

fn lines(folder: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    text.split('\n').collect::<Vec<_>>().join(" ").trim().to_owned()
}

#[test]
fn hosts_that_meet_count_their_ranks_on() {
    let (folder, rendezvous) = (folder("count"), meet(2, 2));
    let script = format!("echo $RANK/$WORLD_SIZE $LOCAL_RANK >> {}/$GROUP_RANK", folder.display());
    let two = start(host(&rendezvous, 2, &script));
    // Whoever serves the store: the one that comes first sits in seat 0 or 1.
    let one = start(host(&rendezvous, 1, &script));
    two.join().unwrap().unwrap();
    one.join().unwrap().unwrap();
    let mut ranks: Vec<String> = ["0", "1"]
        .iter()
        .flat_map(|name| lines(&folder, name).split("  ").map(str::to_owned).collect::<Vec<_>>())
        .collect();
    ranks = ranks.join(" ").split(' ').filter(|word| word.contains('/')).map(str::to_owned).collect();
    ranks.sort();
    assert_eq!(ranks, ["0/3", "1/3", "2/3"]);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_failure_on_one_host_starts_all_again() {
    let (folder, rendezvous) = (folder("again"), meet(2, 2));
    let count = format!("echo $TORCHELASTIC_RESTART_COUNT >> {}", folder.display());
    let waits = format!("until grep -qs 0 {}/steady; do sleep 0.01; done", folder.display());
    let steady = format!("{count}/steady; [ $TORCHELASTIC_RESTART_COUNT = 1 ] || sleep 60");
    let fails =
        format!("{count}/fails; {waits}; if [ $TORCHELASTIC_RESTART_COUNT = 0 ]; then echo lost >&2; exit 4; fi");
    let (steady, fails) = (start(host(&rendezvous, 1, &steady)), start(host(&rendezvous, 1, &fails)));
    steady.join().unwrap().unwrap();
    fails.join().unwrap().unwrap();
    assert_eq!((lines(&folder, "steady"), lines(&folder, "fails")), ("0 1".to_owned(), "0 1".to_owned()));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_failure_that_would_come_again_ends_all_hosts() {
    let rendezvous = meet(2, 2);
    let (waits, fails) = (host(&rendezvous, 1, "sleep 60"), host(&rendezvous, 1, "echo no such file >&2; exit 2"));
    let began = Instant::now();
    let (waits, fails) = (start(waits), start(fails));
    assert!(matches!(fails.join().unwrap(), Err(LaunchError::RankFailed { code: Some(2), .. })));
    let error = waits.join().unwrap().unwrap_err();
    assert!(matches!(error, LaunchError::OtherHost { hopeless: true, .. }), "{error}");
    assert!(error.to_string().contains("exited with code 2\n  no such file"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_newcomer_is_taken_in_while_there_is_room() {
    let (folder, rendezvous) = (folder("newcomer"), meet(1, 2));
    let script = format!("echo $WORLD_SIZE >> {}/sizes; [ $WORLD_SIZE = 2 ] || sleep 60", folder.display());
    let first = start(host(&rendezvous, 1, &script));
    let began = Instant::now();
    while lines(&folder, "sizes") != "1" {
        assert!(began.elapsed() < Duration::from_secs(20), "the first host does not start alone");
        thread::sleep(Duration::from_millis(10));
    }
    let second = start(host(&rendezvous, 1, &script));
    first.join().unwrap().unwrap();
    second.join().unwrap().unwrap();
    assert_eq!(lines(&folder, "sizes"), "1 2 2");
    std::fs::remove_dir_all(folder).unwrap();
}

/// The ranks of all hosts save and end when one host is asked to leave; the hosts that were not asked meet again, and no restart is counted.
#[test]
fn ranks_that_were_stopped_from_elsewhere_start_again() {
    let (folder, rendezvous) = (folder("stopped"), meet(2, 2));
    let script = format!(
        "echo $TORCHELASTIC_RESTART_COUNT >> {}/starts; [ $TORCHELASTIC_RESTART_COUNT = 1 ] || exit 130",
        folder.display()
    );
    let plan = |rendezvous: &Rendezvous| LaunchPlan {
        max_restarts: 0,
        final_codes: vec![130],
        stopped_code: Some(130),
        ..host(rendezvous, 1, &script)
    };
    let (one, two) = (start(plan(&rendezvous)), start(plan(&rendezvous)));
    one.join().unwrap().unwrap();
    two.join().unwrap().unwrap();
    assert_eq!(lines(&folder, "starts"), "0 0 1 1");
    // Alone there is nobody else who could have been asked.
    let error = launch(&plan(&meet(1, 1))).unwrap_err();
    assert!(matches!(error, LaunchError::RankFailed { code: Some(130), .. }), "{error}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_store_that_was_begun_anew_is_known_by_its_name() {
    let rendezvous = meet(1, 2);
    let first = Meeting::open(&rendezvous).unwrap();
    assert!(first.is_that_of(&Meeting::open(&rendezvous).unwrap()), "a second connection");
    let elsewhere = Meeting::open(&meet(1, 2)).unwrap();
    assert!(!elsewhere.is_that_of(&first));
}

#[test]
fn too_few_hosts_are_told() {
    let rendezvous = Rendezvous { join_timeout: Duration::from_secs(1), ..meet(2, 3) };
    let error = launch(&host(&rendezvous, 1, "true")).unwrap_err().to_string();
    assert_eq!(error, "1 of at least 2 hosts came within 1 s");
}

#[test]
fn a_first_host_that_is_gone_before_the_round_begins_is_not_waited_for() {
    let short = (Duration::from_secs(1), Duration::from_millis(100));
    let rendezvous = Rendezvous { keep_alive: short.0, last_call: short.1, ..meet(1, 2) };
    // Its launcher serves the store, takes seat 0 and says nothing more.
    let gone = Meeting::open(&rendezvous).unwrap();
    gone.add(&key(0, "seats"), 1).unwrap();
    let began = Instant::now();
    let round = Meeting::open(&rendezvous).unwrap().join(1, &AtomicBool::new(false)).unwrap();
    assert_eq!((round.number, round.seat, round.seats.len()), (1, 0, 1));
    assert!(began.elapsed() < rendezvous.join_timeout / 2, "{:?}", began.elapsed());
}
