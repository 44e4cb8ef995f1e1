//! Ctrl-C, SIGTERM and kill -9: what was trained is kept, and resumed training ends in the same bits.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod fixture;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fixture::{EXPERIMENT, Workplace};

/// Long enough to be caught in the middle.
fn workplace() -> Workplace {
    let place = Workplace::new(4096);
    let text = EXPERIMENT
        .replace("num_queries: 24", "num_queries: 120")
        .replace("    - {name: rank_zephyr, data: lists, objective: {rank_zephyr: {}}}\n", "");
    place.write("tiny.yaml", &text);
    place
}

fn start(place: &Workplace, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_monopass"));
    command.current_dir(place.path("")).args(arguments);
    command.env("OMP_NUM_THREADS", "1").env("HF_HUB_OFFLINE", "1").env_remove("WORLD_SIZE").env_remove("MONOPASS_LOG");
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until some steps are logged, then sends the signal.
fn signal_in_the_middle(place: &Workplace, child: &Child, signal: i32) {
    wait_for_steps(place, "runs/tiny/train/first/metrics.jsonl");
    kill(child, signal);
}

fn wait_for_steps(place: &Workplace, metrics: &str) {
    let metrics = place.path(metrics);
    let started = Instant::now();
    loop {
        let steps = fs::read_to_string(&metrics).map_or(0, |text| text.lines().count());
        if steps >= 5 {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "no steps after two minutes");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn kill(child: &Child, signal: i32) {
    let status = Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status().unwrap();
    assert!(status.success());
}

fn weights(place: &Workplace) -> Vec<u8> {
    fs::read(place.path("runs/tiny/model/first/model.safetensors")).unwrap()
}

fn uninterrupted() -> Vec<u8> {
    let place = workplace();
    place.run(&["train", "tiny.yaml"]).expect_code(0);
    weights(&place)
}

#[test]
fn a_signal_checkpoints_and_the_next_run_ends_in_the_same_bits() {
    let wanted = uninterrupted();
    for signal in [2, 15] {
        let place = workplace();
        let child = start(&place, &["train", "tiny.yaml"]);
        signal_in_the_middle(&place, &child, signal);
        let ended = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(130), "{text}");
        assert!(text.contains("is checkpointed after step"), "{text}");
        assert!(!place.path("runs/tiny/model/first").exists());
        let again = place.run(&["train", "tiny.yaml"]).expect_code(0);
        assert!(again.stderr.contains("resumed from step"), "{}", again.stderr);
        assert!(weights(&place) == wanted, "signal {signal}: the weights differ");
    }
}

#[test]
fn a_killed_run_resumes_to_the_same_bits() {
    let wanted = uninterrupted();
    let place = workplace();
    let mut child = start(&place, &["train", "tiny.yaml"]);
    signal_in_the_middle(&place, &child, 9);
    child.wait().unwrap();
    let again = place.run(&["train", "tiny.yaml"]).expect_code(0);
    assert!(again.stderr.contains("resumed from step"), "{}", again.stderr);
    assert!(weights(&place) == wanted, "the weights differ");
}

#[test]
fn an_interrupted_run_whose_settings_change_starts_anew() {
    let place = workplace();
    let child = start(&place, &["train", "tiny.yaml"]);
    signal_in_the_middle(&place, &child, 15);
    child.wait_with_output().unwrap();
    let text = place.run(&["train", "tiny.yaml", "--set", "train.max_steps=3"]).expect_code(0).stderr;
    assert!(text.contains("unfinished training is discarded"), "{text}");
}

/// A signal to a table or a sweep is one to what it started: that saves, and the same command goes on.
#[test]
fn a_table_and_a_sweep_pass_signals_on() {
    let place = workplace();
    place.write(
        "table.yaml",
        "\
name: t
title: T
experiments: {tiny: {file: tiny.yaml}}
columns: [{key: ndcg, label: N, from: ndcg_cut_10}]
rows: [{label: first, experiment: tiny, where: {model: first, decoder: single_token}}]
",
    );
    for signal in [2, 15] {
        let child = start(&place, &["table", "table.yaml"]);
        signal_in_the_middle(&place, &child, signal);
        let ended = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(130), "{text}");
        assert!(text.contains("is checkpointed after step") && text.contains("experiment `tiny` is stopped"), "{text}");
        let _ = fs::remove_file(place.path("runs/tiny/train/first/metrics.jsonl"));
        let again = start(&place, &["train", "tiny.yaml"]);
        signal_in_the_middle(&place, &again, 15);
        let text = String::from_utf8_lossy(&again.wait_with_output().unwrap().stderr).into_owned();
        assert!(text.contains("continuing from"), "the folder is free: {text}");
        let _ = fs::remove_dir_all(place.path("runs"));
    }
    place.write("sweep.yaml", "name: s\nexperiment: tiny.yaml\nover: {list: [{seed: 1}, {seed: 2}]}\n");
    let child = start(&place, &["sweep", "sweep.yaml"]);
    wait_for_steps(&place, "runs/s/01-seed-1/train/first/metrics.jsonl");
    kill(&child, 15);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{}", String::from_utf8_lossy(&ended.stderr));
    let said = place.read("runs/s/logs/01-seed-1.log");
    assert!(said.contains("is checkpointed after step"), "{said}");
    assert!(!place.path("runs/s/02-seed-2").exists());
}

/// `rank` keeps every query it has ranked, whatever ends it.
#[test]
fn a_stopped_rank_goes_on_where_it_was() {
    let place = Workplace::new(4096);
    let passages: Vec<String> =
        (0..8).map(|i| format!(r#"{{"doc_id": "d{i}", "title": "", "text": "x y z"}}"#)).collect();
    let row = |i: usize| {
        format!(r#"{{"query_id": "q{i}", "query": "box", "passages": [{}], "origin": "t"}}"#, passages.join(", "))
    };
    place.write("lists.jsonl", &(0..600).map(|i| row(i) + "\n").collect::<String>());
    let to = |out: &'static str| {
        let prompt = ["--prompt", "{identifiers: alphabetic}", "--window", "3", "--stride", "1"];
        [&["rank", "--model", "model", "--candidates", "lists.jsonl", "--out", out][..], &prompt].concat()
    };
    place.run(&to("whole.txt")).expect_code(0);
    let part = place.path("run.txt.part");
    let kept = || fs::read_to_string(&part).map_or(0, |text| text.matches('\n').count());
    for (signal, code) in [("-2", Some(130)), ("-9", None)] {
        let before = kept();
        let child = start(&place, &to("run.txt"));
        let started = Instant::now();
        while kept() < before + 20 {
            assert!(started.elapsed() < Duration::from_secs(120), "nothing ranked after two minutes");
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), code, "{}", String::from_utf8_lossy(&ended.stderr));
        assert!(!place.path("run.txt").exists());
    }
    let before = kept();
    let again = place.run(&to("run.txt")).expect_code(0);
    assert!(before >= 40 && again.stderr.contains(&format!("{before} of 600 queries")), "{before}: {}", again.stderr);
    assert!(place.read("run.txt") == place.read("whole.txt") && !part.exists());
}
