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
use crate::checkpoint::{find_latest, list};
use crate::config::{CheckpointConfig, Distribution, Precision, TrainConfig};
use crate::resume::checkpoints_folder;
use crate::{Ranks, TrainError};

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
        "sent as bf16" => TrainConfig { grad_reduce_in_bf16: true, ..config },
        "sums sent as bf16" => {
            let precision = Precision::Bf16Master;
            TrainConfig { micro_batch_size: 2, precision, grad_reduce_in_bf16: true, ..config }
        }
        "late" | "gone" => TrainConfig { collective_timeout_seconds: 3, ..config },
        "ddp 50" => fifty(Distribution::Ddp),
        "zero1 50" => fifty(Distribution::Zero1),
        _ => config,
    }
}

/// Fifty steps with everything a share could get wrong: masters, weight decay, clipping, accumulation.
fn fifty(distribution: Distribution) -> TrainConfig {
    TrainConfig {
        distribution,
        max_steps: Some(50),
        collective_timeout_seconds: 20,
        micro_batch_size: 2,
        precision: Precision::Bf16Master,
        weight_decay: 0.1,
        max_grad_norm: 0.5,
        checkpoint: CheckpointConfig {
            every_steps: 20,
            keep: 3,
            background: Some(distribution == Distribution::Zero1),
        },
        ..config()
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
        if let "late" | "gone" = case.as_str() {
            return meeting(&case, &ranks);
        }
        let stop = AtomicBool::new(false);
        // Each rank starts from weights of its own; rank 0's must win.
        let mut model = model(config.precision, 1 + ranks.rank() as u64);
        let rank = ranks.rank();
        let mut loader = loader(move |batch| match (case.as_str(), batch.step, rank) {
            ("bad data on 1", 2, 1) => {
                Err(DataError::Io { path: "set.parquet".into(), source: std::io::ErrorKind::UnexpectedEof.into() })
            }
            ("abort 1", 2, 1) | ("abort 0", 2, 0) => std::process::abort(),
            ("silent step", 2, 1) | ("empty step", 2, _) => {
                batch.micro_batches.clear();
                Ok(())
            }
            _ => Ok(()),
        });
        let report = crate::train(&mut model, &mut loader, &config, run(&folder, &ranks, &stop))?;
        let counts =
            format!("{} steps, {} updates, {} samples", report.state.step, report.state.updates, report.state.samples);
        std::fs::write(folder.join(format!("rank-{rank}.counts")), counts).unwrap();
        Ok(())
    });
    let text = result.map_or_else(|error| error.to_string(), |()| "done".to_owned());
    std::fs::write(folder.join(format!("rank-{rank}.txt")), text).unwrap();
}

/// Rank 0 works for longer than a collective waits, or ends.
fn meeting(case: &str, ranks: &Ranks) -> Result<(), TrainError> {
    match (case, ranks.rank()) {
        ("late", 0) => std::thread::sleep(Duration::from_secs(8)),
        ("gone", 1) => std::process::abort(),
        _ => {}
    }
    ranks.meet()?;
    ranks.barrier()
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

/// Through the reducer and after the last backward pass: near enough to learn the same, and not the same.
#[test]
fn gradients_sent_as_bf16_are_rounded_a_little() {
    for (case, exact, tolerance) in [("sent as bf16", "plain", 0.01), ("sums sent as bf16", "masters", 0.02)] {
        assert_same_curve(case, tolerance);
        let norms = |case| {
            let folder = tempfile::tempdir().unwrap();
            trained(case, folder.path());
            let [waited, took] = ["communication_seconds", "step_seconds"].map(|key| logged(folder.path(), key));
            assert!(
                waited.iter().zip(&took).all(|(waited, took)| *waited > 0.0 && waited < took),
                "{waited:?} {took:?}"
            );
            logged(folder.path(), "grad_norm")
        };
        let (rounded, whole) = (norms(case), norms(exact));
        assert!((rounded[0] - whole[0]).abs() < 0.01 * whole[0], "{case}: {} {}", rounded[0], whole[0]);
        assert_ne!(rounded[0], whole[0], "{case}");
    }
}

#[test]
fn a_rank_without_data_for_a_step_does_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (said, _) = two_ranks("silent step", folder.path());
    assert_eq!(said, ["done", "done"]);
}

#[test]
fn a_step_without_data_on_any_rank_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (said, _) = two_ranks("empty step", folder.path());
    assert_eq!(said, ["done", "done"]);
    for rank in 0..2 {
        let counts = std::fs::read_to_string(folder.path().join(format!("rank-{rank}.counts"))).unwrap();
        assert_eq!(counts, "6 steps, 5 updates, 40 samples");
    }
}

#[test]
fn a_rank_that_is_late_is_waited_for_while_it_lives() {
    let folder = tempfile::tempdir().unwrap();
    let (said, took) = two_ranks("late", folder.path());
    assert_eq!(said, ["done", "done"]);
    assert!(took > Duration::from_secs(8), "{took:?}");
    let folder = tempfile::tempdir().unwrap();
    let (said, _) = two_ranks("gone", folder.path());
    assert!(said[0].starts_with("rank 1 failed, so rank 0 stops: it gives no sign of life"), "{said:?}");
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

fn checkpoint_bytes(folder: &Path, step: u64, file: &str) -> Vec<u8> {
    let path = checkpoints_folder(folder).join(format!("step-{step:08}")).join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Trains a case in `folder` with two ranks.
fn trained(case: &str, folder: &Path) {
    let (said, _) = two_ranks(case, folder);
    assert_eq!(said, ["done", "done"], "{case}");
}

#[test]
fn zero1_is_ddp_to_the_bit_with_half_the_state_a_rank() {
    let (ddp, zero1) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    trained("ddp 50", ddp.path());
    trained("zero1 50", zero1.path());
    for step in [20, 40, 50] {
        let weights = |folder: &Path| checkpoint_bytes(folder, step, "weights.safetensors");
        assert_eq!(weights(ddp.path()), weights(zero1.path()), "step {step}");
    }
    assert_eq!(logged(ddp.path(), "grad_norm"), logged(zero1.path(), "grad_norm"));
    let whole = checkpoint_bytes(ddp.path(), 50, "optimizer.safetensors").len() as f64;
    for rank in [1, 2] {
        let share =
            checkpoint_bytes(zero1.path(), 50, &format!("optimizer-0000{rank}-of-00002.safetensors")).len() as f64;
        assert!(share < (0.5 + 0.05) * whole, "rank {rank}: {share} of {whole} bytes");
    }

    // Continued from step 20 by two ranks: the same bits. The run writes steps 40 and 50 again.
    let again = checkpoint_bytes(zero1.path(), 50, "weights.safetensors");
    for step in ["step-00000040", "step-00000050"] {
        std::fs::remove_dir_all(checkpoints_folder(zero1.path()).join(step)).unwrap();
    }
    trained("zero1 50", zero1.path());
    assert_eq!(checkpoint_bytes(zero1.path(), 50, "weights.safetensors"), again);

    // Shares put together are ddp's state: what one process continues from.
    std::fs::remove_dir_all(checkpoints_folder(zero1.path()).join("step-00000050")).unwrap();
    let config = fifty(Distribution::Ddp);
    let mut alone = model(config.precision, 1);
    let report = train_until(&mut alone, &config, zero1.path(), Some(41)).unwrap();
    assert_eq!((report.resumed_from, report.state.step), (Some(40), 41));
    let states = |folder: &Path| {
        let found = find_latest(&checkpoints_folder(folder)).unwrap().unwrap();
        let mut model = model(config.precision, 2);
        model.train_all();
        let optimizer = crate::adamw::AdamW::new(model.trainable_parameters(), &config, &Ranks::single());
        found.load(&optimizer.weights(), &optimizer.state()).unwrap();
        optimizer.state()
    };
    std::fs::remove_dir_all(checkpoints_folder(zero1.path()).join("step-00000041")).unwrap();
    std::fs::remove_dir_all(checkpoints_folder(ddp.path()).join("step-00000050")).unwrap();
    assert_eq!(list(&checkpoints_folder(zero1.path())).unwrap()[0].0, 40);
    assert!(super::support::same_bits(&states(ddp.path()), &states(zero1.path())));
}

#[test]
fn a_missing_share_is_a_damaged_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    trained("zero1 50", folder.path());
    let newest = checkpoints_folder(folder.path()).join("step-00000050");
    std::fs::remove_file(newest.join("optimizer-00002-of-00002.safetensors")).unwrap();
    let found = find_latest(&checkpoints_folder(folder.path())).unwrap().unwrap();
    assert_eq!(found.state.step, 40);
    assert!(found.damaged[0].contains("optimizer-00002-of-00002.safetensors"), "{:?}", found.damaged);
}
