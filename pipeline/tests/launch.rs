//! Processes that die under `monopass launch`: started again, and the result is that of an undisturbed run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod fixture;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fixture::{RANKS_EXPERIMENT, Workplace, pids_of_rank};
use serde_json::Value;

fn workplace() -> Workplace {
    let place = Workplace::new(4096);
    place.write("tiny.yaml", RANKS_EXPERIMENT);
    place
}

#[test]
fn a_killed_worker_costs_the_steps_since_the_last_checkpoint_and_nothing_else() {
    let undisturbed = workplace();
    undisturbed.run(&["launch", "--nproc-per-node", "2", "--", "train", "tiny.yaml"]).expect_code(0);

    let place = workplace();
    let mut command = Command::new(env!("CARGO_BIN_EXE_monopass"));
    command.current_dir(place.path("")).args(["launch", "--nproc-per-node", "2", "--max-restarts", "2"]);
    command.args(["--log-dir", "logs", "--", "train", "tiny.yaml"]);
    command.env("OMP_NUM_THREADS", "1").env("HF_HUB_OFFLINE", "1").env_remove("WORLD_SIZE").env_remove("MONOPASS_LOG");
    let mut launcher = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let checkpoint = place.path("runs/tiny/train/first/checkpoints/step-00000010/manifest.json");
    let started = Instant::now();
    while !checkpoint.exists() {
        assert!(started.elapsed() < Duration::from_secs(120), "no checkpoint came");
        assert!(launcher.try_wait().unwrap().is_none(), "the run ended early");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pids = pids_of_rank(&place.path(""), 1);
    assert_eq!(pids.len(), 1, "{pids:?}");
    assert!(Command::new("kill").args(["-9", &pids[0]]).status().unwrap().success());
    let output = launcher.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("are started again (1 of 2 times)"), "{said}");
    let weights = |place: &Workplace| fs::read(place.path("runs/tiny/model/first/model.safetensors")).unwrap();
    assert!(weights(&place) == weights(&undisturbed), "other weights than the undisturbed run's");
    let log = fs::read_to_string(place.path("logs/start-1/rank-0.log")).unwrap();
    assert!(log.contains("continuing from"), "{log}");
}

#[test]
fn a_signal_while_ranks_are_being_ended_starts_nothing_again() {
    let place = workplace();
    let said = place.path("said.txt");
    let mut command = Command::new(env!("CARGO_BIN_EXE_monopass"));
    command.current_dir(place.path("")).args(["launch", "--nproc-per-node", "2", "--max-restarts", "2"]);
    command.args(["--log-dir", "logs", "--", "train", "tiny.yaml"]);
    command.env("OMP_NUM_THREADS", "1").env("HF_HUB_OFFLINE", "1").env_remove("WORLD_SIZE").env_remove("MONOPASS_LOG");
    let mut launcher = command.stdout(Stdio::null()).stderr(fs::File::create(&said).unwrap()).spawn().unwrap();
    let wait_for = |what: &str, seen: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !seen() {
            assert!(started.elapsed() < Duration::from_secs(120), "{what} did not come");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let signal = |name: &str, pid: &str| assert!(Command::new("kill").args([name, pid]).status().unwrap().success());
    let checkpoint = place.path("runs/tiny/train/first/checkpoints/step-00000010/manifest.json");
    wait_for("a checkpoint", &|| checkpoint.exists());
    let pids = [0, 1].map(|rank| pids_of_rank(&place.path(""), rank).remove(0));
    // Rank 0 cannot end while it is stopped, so the signal comes before the launcher is done with it.
    signal("-STOP", &pids[0]);
    signal("-KILL", &pids[1]);
    wait_for("the failure", &|| fs::read_to_string(&said).unwrap().contains("ending the others"));
    signal("-TERM", &launcher.id().to_string());
    wait_for("the signal", &|| fs::read_to_string(&said).unwrap().contains("SIGTERM: passed on to the ranks"));
    signal("-CONT", &pids[0]);
    let status = launcher.wait().unwrap();
    let said = fs::read_to_string(&said).unwrap();
    assert!(!status.success() && !said.contains("started again"), "{said}");
}

#[test]
fn checkpoints_are_listed_and_verified() {
    let place = workplace();
    place.run(&["launch", "--standalone", "--nproc-per-node", "2", "--", "train", "tiny.yaml"]).expect_code(0);
    let listed = place.run(&["checkpoint", "ls", "runs/tiny"]).expect_code(0).stdout;
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(listed.contains("step-00000060: whole, step 60 of 60") && listed.contains("2 ranks"), "{listed}");
    place.run(&["checkpoint", "verify", "runs/tiny"]).expect_code(0);

    let share = place.path("runs/tiny/train/first/checkpoints/step-00000060/optimizer-00002-of-00002.safetensors");
    let mut bytes = fs::read(&share).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&share, bytes).unwrap();
    let damaged = place.run(&["checkpoint", "verify", "runs/tiny", "--json"]).expect_code(3);
    let report: Value = serde_json::from_str(&damaged.stdout).unwrap();
    assert!(report["checkpoints"][0]["damage"].as_str().unwrap().contains("optimizer-00002-of-00002"), "{report}");
    assert!(damaged.stderr.contains("1 of 2 checkpoints are damaged"), "{}", damaged.stderr);
    place.run(&["checkpoint", "ls", "nowhere"]).expect_code(3);
}

/// In alphabetic order: rank 0 makes `held_out`, rank 1 `lists`; the files are those of one process, and so is the end of a bad source.
#[test]
fn ranks_share_the_preparation_of_sets() {
    let places = [Workplace::new(512), Workplace::new(512)];
    let launched = ["launch", "--nproc-per-node", "2", "--", "prepare", "tiny.yaml"];
    for (place, command) in places.iter().zip([&["prepare", "tiny.yaml"][..], &launched]) {
        place.write("tiny.yaml", fixture::EXPERIMENT);
        let said = place.run(command).expect_code(0).stderr;
        assert!(said.contains("prepare/lists") && said.contains("lists: read 24, kept 24"), "{said}");
        assert!(said.contains("prepare/held_out") && said.contains("held_out: read 6, kept 6"), "{said}");
    }
    for set in ["lists", "held_out"] {
        let samples =
            |place: &Workplace| fs::read(place.path("runs/tiny/data").join(set).join("samples.parquet")).unwrap();
        assert!(samples(&places[0]) == samples(&places[1]), "{set}");
    }
    let again = places[1].run(&launched).expect_code(0).stderr;
    assert_eq!(again.matches("unchanged, skipped").count(), 2, "{again}");

    let missing = ["--set", "data.sets.lists.source={jsonl: {path: nowhere.jsonl}}"];
    let ended = places[1].run(&[&launched[..], &missing].concat()).expect_code(3);
    assert!(ended.stderr.contains("nowhere.jsonl"), "{}", ended.stderr);
}

#[test]
fn ranks_share_an_evaluation() {
    let place = Workplace::new(4096);
    place.write("tiny.yaml", fixture::EXPERIMENT);
    let steps = ["--set", "train.max_steps=1"];
    place.run(&[&["train", "tiny.yaml"][..], &steps].concat()).expect_code(0);
    place.run(&[&["evaluate", "tiny.yaml"][..], &steps].concat()).expect_code(0);
    let values = |place: &Workplace| {
        let evaluations: Value = serde_json::from_str(&place.read("runs/tiny/tables/evaluations.json")).unwrap();
        let rows = evaluations.as_array().unwrap().iter().flat_map(|evaluation| evaluation["rows"].as_array().unwrap());
        rows.map(|row| row["per_query"].to_string()).collect::<Vec<_>>()
    };
    let alone = values(&place);
    for name in ["predictions", "tables"] {
        fs::remove_dir_all(place.path("runs/tiny").join(name)).unwrap();
    }
    let launched = ["launch", "--nproc-per-node", "2", "--", "evaluate", "tiny.yaml"];
    let said = place.run(&[&launched[..], &steps].concat()).expect_code(0).stderr;
    assert!(said.contains("this rank's"), "{said}");
    assert_eq!(values(&place), alone);
    let left = fs::read_dir(place.path("runs/tiny/predictions")).unwrap().flatten();
    assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().contains("rank-")), "parts are left");
}

#[test]
fn counts_of_processes_that_make_no_sense_are_refused() {
    let place = workplace();
    let refused = |count: &str| {
        place.run(&["launch", "--nproc-per-node", count, "--", "train", "tiny.yaml"]).expect_code(2).stderr
    };
    assert!(refused("many").contains("`--nproc-per-node` is `many`"), "no reason");
    assert!(refused("0").contains("`nproc_per_node` is 0"), "no reason");
}

/// The newest step in the metrics.
fn step_told(place: &Workplace) -> Option<u64> {
    let text = fs::read_to_string(place.path("runs/tiny/train/first/metrics.jsonl")).ok()?;
    text.lines().rev().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()?["step"].as_u64())
}

/// Step of the newest checkpoint.
fn newest_checkpoint(place: &Workplace) -> u64 {
    let folder = place.path("runs/tiny/train/first/checkpoints");
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.strip_prefix("step-")?.parse().ok()).max().unwrap_or(0)
}

/// The soak of docs/scale.md; takes minutes: `cargo test -p monopass --test launch -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn twenty_kills_are_twenty_recoveries() {
    const KILLS: usize = 20;
    let long = |place: &Workplace| {
        place.write(
            "tiny.yaml",
            &RANKS_EXPERIMENT.replace("max_steps: 60", "max_steps: 3000").replace("epochs: 100", "epochs: 2000"),
        );
    };
    let undisturbed = workplace();
    long(&undisturbed);
    undisturbed.run(&["launch", "--nproc-per-node", "2", "--", "train", "tiny.yaml"]).expect_code(0);

    let place = workplace();
    long(&place);
    let mut command = Command::new(env!("CARGO_BIN_EXE_monopass"));
    command.current_dir(place.path("")).args(["launch", "--nproc-per-node", "2", "--max-restarts", "40"]);
    command.args(["--log-dir", "logs", "--", "train", "tiny.yaml"]);
    command.env("OMP_NUM_THREADS", "1").env("HF_HUB_OFFLINE", "1").env_remove("WORLD_SIZE").env_remove("MONOPASS_LOG");
    let mut launcher = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut random = 12345u64;
    let mut draw = |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };
    for kill in 0..KILLS {
        // Up to 60 steps (six checkpoints) beyond where this start began, then at any moment, saving included.
        let began = Instant::now();
        let (mut first, beyond) = (None, draw(60));
        while step_told(&place).is_none_or(|step| step < *first.get_or_insert(step) + beyond) {
            assert!(began.elapsed() < Duration::from_secs(300), "start {kill} does not train");
            assert!(launcher.try_wait().unwrap().is_none(), "the run ended after {kill} kills");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(draw(100)));
        let (rank, kept) = (draw(2) as usize, newest_checkpoint(&place));
        let pids = pids_of_rank(&place.path(""), rank);
        let killed = pids.first().is_some_and(|pid| Command::new("kill").args(["-9", pid]).status().unwrap().success());
        assert!(killed, "no process of rank {rank}");
        let log = place.path(&format!("logs/start-{}/rank-0.log", kill + 1));
        let resumed = |text: &str| Some(text.split_once("(step ")?.1.split_once(' ')?.0.parse::<u64>().unwrap());
        let began = Instant::now();
        let from = loop {
            let text = fs::read_to_string(&log).unwrap_or_default();
            match resumed(&text) {
                Some(step) => break step,
                None if kept == 0 && text.contains("step 1/") => break 0,
                None => assert!(began.elapsed() < Duration::from_secs(60), "no recovery after kill {kill}: {text}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        println!(
            "kill {kill} of rank {rank}: newest checkpoint {kept}, went on from {from} after {:.1} s",
            began.elapsed().as_secs_f64()
        );
        assert!(from >= kept, "kill {kill}: checkpoint {kept} was there, the run went on from {from}");
    }
    assert_eq!(launcher.wait().unwrap().code(), Some(0));
    let weights = |place: &Workplace| fs::read(place.path("runs/tiny/model/first/model.safetensors")).unwrap();
    assert!(weights(&place) == weights(&undisturbed), "other weights than the undisturbed run's");
}
