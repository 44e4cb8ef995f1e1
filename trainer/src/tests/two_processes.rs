//! Two ranks over Gloo equal one process with the whole batch, and fail together.
//!
//! The parent starts this very test binary twice with torchrun's variables and only [`one_rank`] selected.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use data::DataError;

use super::support::{config, loader, logged, model, run, train_until};
use crate::Ranks;
use crate::config::{Precision, TrainConfig};

const CASE: &str = "MONOPASS_TEST_CASE";
const FOLDER: &str = "MONOPASS_TEST_FOLDER";

/// What the two ranks do.
fn case_config(case: &str) -> TrainConfig {
    let config = TrainConfig { max_steps: Some(6), collective_timeout_seconds: 20, ..config() };
    match case {
        // Two micro-batches a rank: accumulation, then the reducer.
        "accumulated" => TrainConfig { micro_batch_size: 2, ..config },
        "recomputed" => TrainConfig { micro_batch_size: 2, gradient_checkpointing: true, ..config },
        "masters" => TrainConfig { micro_batch_size: 2, precision: Precision::Bf16Master, ..config },
        _ => config,
    }
}

/// Runs in the children only.
#[test]
fn one_rank() {
    let (Ok(case), Ok(folder)) = (std::env::var(CASE), std::env::var(FOLDER)) else { return };
    let config = case_config(&case);
    let timeout = Duration::from_secs(config.collective_timeout_seconds);
    let folder = PathBuf::from(folder);
    let rank = std::env::var("RANK").unwrap();
    let result = Ranks::from_env(timeout, false).and_then(|ranks| {
        let stop = AtomicBool::new(false);
        // Each rank starts from weights of its own; rank 0's must win.
        let mut model = model(config.precision, 1 + ranks.rank() as u64);
        let rank = ranks.rank();
        let mut loader = loader(move |batch| match (case.as_str(), batch.step, rank) {
            ("bad data on 1", 2, 1) => {
                Err(DataError::Io { path: "set.parquet".into(), source: std::io::ErrorKind::UnexpectedEof.into() })
            }
            ("abort 1", 2, 1) | ("abort 0", 2, 0) => std::process::abort(),
            ("silent step", 2, 1) => {
                batch.micro_batches.clear();
                Ok(())
            }
            _ => Ok(()),
        });
        crate::train(&mut model, &mut loader, &config, run(&folder, &ranks, &stop))
    });
    let text = result.map_or_else(|error| error.to_string(), |_| "done".to_owned());
    std::fs::write(folder.join(format!("rank-{rank}.txt")), text).unwrap();
}

/// Runs both ranks of a case to their end; what each said (empty: nothing) and how long it took.
fn two_ranks(case: &str, folder: &Path) -> ([String; 2], Duration) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let started = Instant::now();
    let mut children: Vec<Child> = (0..2).map(|rank| spawn(case, folder, rank, port)).collect();
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        if started.elapsed() > Duration::from_secs(100) {
            for child in &mut children {
                let _ = child.kill();
            }
            panic!("`{case}` did not end");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let said = [0, 1].map(|rank| std::fs::read_to_string(folder.join(format!("rank-{rank}.txt"))).unwrap_or_default());
    (said, started.elapsed())
}

fn spawn(case: &str, folder: &Path, rank: usize, port: u16) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["tests::two_processes::one_rank", "--exact", "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .env(FOLDER, folder)
        .env("RANK", rank.to_string())
        .env("LOCAL_RANK", rank.to_string())
        .env("WORLD_SIZE", "2")
        .env("MASTER_ADDR", "127.0.0.1")
        .env("MASTER_PORT", port.to_string())
        .env("OMP_NUM_THREADS", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Loss curves of two ranks and of one process with the same global batch.
fn curves(case: &str) -> (Vec<f64>, Vec<f64>) {
    let folder = tempfile::tempdir().unwrap();
    let (said, _) = two_ranks(case, folder.path());
    assert_eq!(said, ["done", "done"], "{case}");
    let two = logged(folder.path(), "loss");
    let config = case_config(case);
    let alone = tempfile::tempdir().unwrap();
    train_until(&mut model(config.precision, 1), &config, alone.path(), None).unwrap();
    (two, logged(alone.path(), "loss"))
}

fn assert_same_curve(case: &str, tolerance: f64) {
    let (two, one) = curves(case);
    assert_eq!(two.len(), 6);
    for (two, one) in two.iter().zip(&one) {
        assert!((two - one).abs() < tolerance * one, "{case}: {two} {one}");
    }
    assert!(two[5] < two[0]);
}

#[test]
fn two_ranks_equal_one_process_with_twice_the_batch() {
    assert_same_curve("plain", 1e-4);
    assert_same_curve("accumulated", 1e-4);
}

#[test]
fn two_ranks_equal_one_where_the_reducer_cannot_overlap() {
    assert_same_curve("recomputed", 1e-4);
    // bf16 passes round differently in batches of two and four.
    assert_same_curve("masters", 0.02);
}

#[test]
fn a_rank_without_data_for_a_step_does_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (said, _) = two_ranks("silent step", folder.path());
    assert_eq!(said, ["done", "done"]);
}

#[test]
fn a_rank_that_fails_is_named_by_the_other_within_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let (said, took) = two_ranks("bad data on 1", folder.path());
    assert!(said[0].starts_with("rank 1 failed, so rank 0 stops: step 2: "), "{said:?}");
    assert!(said[1].starts_with("step 2: "), "{said:?}");
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn a_rank_that_dies_is_named_by_the_other_within_seconds() {
    for (case, dead, alive) in [("abort 1", 1, 0), ("abort 0", 0, 1)] {
        let folder = tempfile::tempdir().unwrap();
        let (said, took) = two_ranks(case, folder.path());
        let wanted = format!("rank {dead} failed, so rank {alive} stops: ");
        assert!(said[alive].starts_with(&wanted), "{said:?}");
        assert!(took < Duration::from_secs(60), "{took:?}");
    }
}
