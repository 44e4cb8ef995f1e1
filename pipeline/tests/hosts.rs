//! Two hosts, as network namespaces with a cable between them: they meet, train together, and lose the cable.
//!
//! Needs root and iproute2; skipped, and saying so, without them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod fixture;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fixture::{RANKS_EXPERIMENT, Workplace};

/// Two namespaces and a cable; gone when dropped.
struct TwoHosts {
    names: [String; 2],
    subnet: String,
}

impl TwoHosts {
    /// None, with the reason printed, where namespaces cannot be made.
    fn connect() -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        let id = std::process::id();
        let hosts = Self {
            names: ["a", "b"].map(|side| format!("mp{side}{id}-{count}")),
            subnet: format!("10.{}.{}", 64 + id % 128, 1 + (id / 128 % 25) * 10 + count as u32),
        };
        if !hosts.wire() {
            println!("skipped: network namespaces need root and iproute2");
            return None;
        }
        Some(hosts)
    }

    /// Makes the namespaces, the cable and the addresses; whether all of it could be made.
    fn wire(&self) -> bool {
        let [a, b] = &self.names;
        self.names.iter().all(|name| ip(&["netns", "add", name]))
            && ip(&["link", "add", "cable", "netns", a, "type", "veth", "peer", "name", "cable", "netns", b])
            && self.names.iter().enumerate().all(|(host, name)| {
                ip(&["-n", name, "addr", "add", &format!("{}/24", self.address(host)), "dev", "cable"])
                    && ip(&["-n", name, "link", "set", "cable", "up"])
                    && ip(&["-n", name, "link", "set", "lo", "up"])
            })
    }

    fn address(&self, host: usize) -> String {
        format!("{}.{}", self.subnet, host + 1)
    }

    /// Pulls the cable, or puts it back.
    fn cable(&self, state: &str) {
        assert!(ip(&["-n", &self.names[1], "link", "set", "cable", state]));
    }

    /// A program on one host, in `folder`.
    fn start(&self, host: usize, folder: &Path, program: &str, arguments: &[String]) -> Child {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[host], program]).args(arguments).current_dir(folder);
        command.env("OMP_NUM_THREADS", "1").env("HF_HUB_OFFLINE", "1");
        command.env_remove("WORLD_SIZE").env_remove("MONOPASS_LOG");
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// `monopass launch` with two processes on one host.
    fn launch(&self, host: usize, folder: &Path, flags: &str, experiment: &str) -> Child {
        let text = format!(
            "launch --nnodes 2 --nproc-per-node 2 --rdzv-endpoint {}:29400 {flags} -- train {experiment}",
            self.address(0)
        );
        self.start(host, folder, env!("CARGO_BIN_EXE_monopass"), &words(&text))
    }
}

impl Drop for TwoHosts {
    fn drop(&mut self) {
        for name in &self.names {
            ip(&["netns", "del", name]);
        }
    }
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn workplace() -> Workplace {
    let place = Workplace::new(4096);
    let text = RANKS_EXPERIMENT.replace("  precision: fp32\n", "  precision: fp32\n  collective_timeout_seconds: 5\n");
    place.write("tiny.yaml", &text);
    place
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn weights(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("runs/tiny/model/first/model.safetensors")).unwrap()
}

/// Losses of all steps of a stage.
fn losses(folder: &Path, stage: &str) -> Vec<f64> {
    let text = fs::read_to_string(folder.join(stage).join("metrics.jsonl")).unwrap();
    let loss = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].as_f64().unwrap();
    text.lines().map(loss).collect()
}

fn assert_close(one: &[f64], two: &[f64], tolerance: f64) {
    assert_eq!(one.len(), two.len(), "{one:?} {two:?}");
    for (a, b) in one.iter().zip(two) {
        assert!((a - b).abs() < tolerance * a.abs().max(1e-2), "{one:?} {two:?}");
    }
}

#[test]
fn two_hosts_meet_and_train_as_one_process() {
    let Some(hosts) = TwoHosts::connect() else { return };
    let alone = workplace();
    alone.run(&["train", "tiny.yaml"]).expect_code(0);
    let place = workplace();
    let folder = place.path("");
    let started = [0, 1].map(|host| hosts.launch(host, &folder, "", "tiny.yaml"));
    for host in started {
        let ended = host.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{}", said(&ended));
    }
    let stage = "runs/tiny/train/first";
    assert_close(&losses(&alone.path(""), stage), &losses(&folder, stage), 1e-3);
}

/// Waits for the run's first checkpoint, then pulls the cable.
fn cut_after_a_checkpoint(hosts: &TwoHosts, place: &Workplace) {
    let checkpoint = place.path("runs/tiny/train/first/checkpoints/step-00000010/manifest.json");
    let began = Instant::now();
    while !checkpoint.exists() {
        assert!(began.elapsed() < Duration::from_secs(120), "no checkpoint came");
        std::thread::sleep(Duration::from_millis(2));
    }
    hosts.cable("down");
}

/// The launchers' ends, within two minutes.
fn ends(hosts: &TwoHosts, mut started: [Child; 2]) -> [Output; 2] {
    let began = Instant::now();
    while !started.iter_mut().all(|host| host.try_wait().unwrap().is_some()) {
        if began.elapsed() > Duration::from_secs(120) {
            started.iter_mut().for_each(|host| drop(host.kill()));
            hosts.cable("up");
            panic!("the hosts hang: {:?}", started.map(|host| said(&host.wait_with_output().unwrap())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    started.map(|host| host.wait_with_output().unwrap())
}

/// Weights of four ranks on one host.
fn undisturbed() -> Vec<u8> {
    let place = workplace();
    place.run(&["launch", "--nproc-per-node", "4", "--", "train", "tiny.yaml"]).expect_code(0);
    weights(&place.path(""))
}

const IMPATIENT: &str = "--rdzv-keep-alive-seconds 3 --rdzv-join-seconds 20 --grace-seconds 2";

#[test]
fn a_cut_cable_ends_both_hosts_and_the_same_command_goes_on() {
    let Some(hosts) = TwoHosts::connect() else { return };
    let place = workplace();
    let folder = place.path("");
    let started = [0, 1].map(|host| hosts.launch(host, &folder, IMPATIENT, "tiny.yaml"));
    cut_after_a_checkpoint(&hosts, &place);
    for host in ends(&hosts, started) {
        assert_eq!(host.status.code(), Some(4), "{}", said(&host));
        // Who notices first: a rank, the launcher that serves the meeting, or the one that asks there.
        let why = ["no longer answers", "no word for 3s", "the store does not answer"];
        assert!(why.iter().any(|why| said(&host).contains(why)), "{}", said(&host));
    }
    hosts.cable("up");
    let started = [0, 1].map(|host| hosts.launch(host, &folder, IMPATIENT, "tiny.yaml"));
    for host in ends(&hosts, started) {
        assert_eq!(host.status.code(), Some(0), "{}", said(&host));
    }
    assert!(weights(&folder) == undisturbed(), "other weights than the undisturbed run's");
}

#[test]
fn hosts_meet_again_when_the_cable_is_back() {
    let Some(hosts) = TwoHosts::connect() else { return };
    let place = workplace();
    let folder = place.path("");
    let flags = format!("{IMPATIENT} --max-restarts 3");
    let started = [0, 1].map(|host| hosts.launch(host, &folder, &flags, "tiny.yaml"));
    cut_after_a_checkpoint(&hosts, &place);
    std::thread::sleep(Duration::from_secs(8));
    hosts.cable("up");
    for host in ends(&hosts, started) {
        assert_eq!(host.status.code(), Some(0), "{}", said(&host));
        assert!(said(&host).contains("are started again"), "{}", said(&host));
    }
    assert!(weights(&folder) == undisturbed(), "other weights than the undisturbed run's");
}

/// The run of docs/scale.md, with SmolLM2 (`cargo xtask quickstart` brings it) and, where `TORCHRUN` names it, the real torchrun:
/// `TORCHRUN=.../bin/torchrun cargo test -p monopass --test hosts -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn smollm2_trains_on_two_hosts() {
    let hosts = TwoHosts::connect().expect("root and iproute2");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/SmolLM2-135M-Instruct").canonicalize().unwrap();
    let place = Workplace::empty();
    let experiment = RANKS_EXPERIMENT
        .replace(
            "{path: model, device: cpu, precision: fp32}",
            &format!("{{path: '{}', device: cpu}}", model.display()),
        )
        .replace("max_steps: 60", "max_steps: 3")
        .replace("learning_rate: 1e-3", "learning_rate: 1e-4");
    for run in ["alone", "launch", "torchrun"] {
        place.write(&format!("{run}.yaml"), &experiment.replace("name: tiny", &format!("name: {run}")));
    }
    let folder = place.path("");
    let stage = |run: &str| losses(&folder, &format!("runs/{run}/train/first"));
    place.run(&["train", "alone.yaml"]).expect_code(0);
    println!("one process:          {:?}", stage("alone"));

    let started = [0, 1].map(|host| hosts.launch(host, &folder, "", "launch.yaml"));
    for host in started {
        let ended = host.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{}", said(&ended));
    }
    println!("2 hosts x 2, launch:   {:?}", stage("launch"));
    assert_close(&stage("alone"), &stage("launch"), 1e-3);

    let Ok(torchrun) = std::env::var("TORCHRUN") else { return println!("skipped: `TORCHRUN` names no torchrun") };
    let started = [0, 1].map(|host| {
        let text = format!(
            "--nnodes 2 --nproc-per-node 2 --node-rank {host} --master-addr {} --master-port 29500 --no-python {} train torchrun.yaml",
            hosts.address(0),
            env!("CARGO_BIN_EXE_monopass")
        );
        hosts.start(host, &folder, &torchrun, &words(&text))
    });
    for host in started {
        let ended = host.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{}", said(&ended));
    }
    println!("2 hosts x 2, torchrun: {:?}", stage("torchrun"));
    assert_close(&stage("alone"), &stage("torchrun"), 1e-3);
}
