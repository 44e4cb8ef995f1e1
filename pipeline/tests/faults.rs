//! Everything that can go wrong under a training run, one test each: the right exit code, a clear message, and afterwards the same command ends
//! in the weights of an undisturbed run.
//!
//! Elsewhere: a killed worker and the soak (launch.rs), signals and kill -9 of one process (interrupt.rs), a full disk and damaged checkpoints
//! (bad_input.rs), two runs in one folder (experiment.rs), a cut link (hosts.rs).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod fixture;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fixture::{RANKS_EXPERIMENT, Workplace, pids_of_rank};

/// More than two, whose order of adding up must not change on the way.
const LAUNCH: [&str; 3] = ["launch", "--nproc-per-node", "4"];
const TRAIN: [&str; 3] = ["--", "train", "tiny.yaml"];

fn workplace(change: impl Fn(&str) -> String) -> Workplace {
    let place = Workplace::new(4096);
    place.write("tiny.yaml", &change(RANKS_EXPERIMENT));
    place
}

fn unchanged(text: &str) -> String {
    text.to_owned()
}

/// Starts the binary without waiting for it.
fn start(place: &Workplace, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_monopass"));
    command.current_dir(place.path("")).args(arguments);
    command.env("OMP_NUM_THREADS", "1").env("HF_HUB_OFFLINE", "1").env_remove("WORLD_SIZE").env_remove("MONOPASS_LOG");
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(pid: &str, signal: &str) {
    assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
}

#[track_caller]
fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happened() {
        assert!(began.elapsed() < Duration::from_secs(120), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn checkpoints(place: &Workplace) -> std::path::PathBuf {
    place.path("runs/tiny/train/first/checkpoints")
}

fn weights(place: &Workplace) -> Vec<u8> {
    fs::read(place.path("runs/tiny/model/first/model.safetensors")).unwrap()
}

fn launched() -> Vec<&'static str> {
    [LAUNCH.as_slice(), TRAIN.as_slice()].concat()
}

/// Weights of an undisturbed run.
fn undisturbed() -> Vec<u8> {
    let place = workplace(unchanged);
    place.run(&launched()).expect_code(0);
    weights(&place)
}

/// All ranks, past their first checkpoint.
fn past_a_checkpoint(place: &Workplace, arguments: &[&str]) -> Child {
    let launcher = start(place, arguments);
    wait_for("a checkpoint", || checkpoints(place).join("step-00000010/manifest.json").exists());
    launcher
}

#[test]
fn a_killed_launcher_leaves_no_ranks_behind() {
    let place = workplace(unchanged);
    let mut launcher = past_a_checkpoint(&place, &launched());
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    wait_for("the ranks' end", || (0..4).all(|rank| pids_of_rank(&place.path(""), rank).is_empty()));
    assert!(!place.path("runs/tiny/model/first").exists(), "it had ended before");
    let again = place.run(&launched()).expect_code(0).stderr;
    assert!(again.contains("continuing from"), "{again}");
    assert!(weights(&place) == undisturbed(), "other weights than the undisturbed run's");
}

#[test]
fn a_rank_that_stalls_is_named() {
    let place =
        workplace(|text| text.replace("  precision: fp32\n", "  precision: fp32\n  collective_timeout_seconds: 3\n"));
    let arguments = [&LAUNCH, ["--grace-seconds", "1", "--"].as_slice(), &TRAIN[1..]].concat();
    let launcher = past_a_checkpoint(&place, &arguments);
    let pids = pids_of_rank(&place.path(""), 1);
    signal(&pids[0], "-STOP");
    let ended = launcher.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(4), "{said}");
    assert!(said.contains("rank 1 failed") && said.contains("no longer answers: it ended, hangs"), "{said}");
    place.run(&launched()).expect_code(0);
    assert!(weights(&place) == undisturbed(), "other weights than the undisturbed run's");
}

/// Whether a checkpoint is being written at this moment.
fn being_written(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| !name.to_string_lossy().starts_with("step-"))
}

#[test]
fn a_signal_while_a_checkpoint_is_written_costs_nothing() {
    let single = |place: &Workplace| place.run(&["train", "tiny.yaml"]).expect_code(0);
    let every_step = |text: &str| text.replace("every_steps: 10", "every_steps: 1");
    let wanted = workplace(every_step);
    single(&wanted);
    let place = workplace(every_step);
    let child = start(&place, &["train", "tiny.yaml"]);
    wait_for("a checkpoint being written", || being_written(&checkpoints(&place)));
    signal(&child.id().to_string(), "-TERM");
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(!being_written(&checkpoints(&place)), "a part of a checkpoint was left");
    let again = single(&place).stderr;
    assert!(again.contains("resumed from step"), "{again}");
    assert!(weights(&place) == weights(&wanted), "other weights than the undisturbed run's");
}

#[test]
fn a_truncated_data_set_is_named_and_made_anew() {
    let place = workplace(unchanged);
    place.run(&["prepare", "tiny.yaml"]).expect_code(0);
    let samples = place.path("runs/tiny/data/lists/samples.parquet");
    let whole = fs::read(&samples).unwrap();
    fs::write(&samples, &whole[..whole.len() / 2]).unwrap();
    let said = place.run(&["train", "tiny.yaml"]).expect_code(0).stderr;
    assert!(said.contains("data/lists") && said.contains("not what its card describes"), "{said}");
    assert!(fs::read(&samples).unwrap() == whole, "the set was not made anew");
}
