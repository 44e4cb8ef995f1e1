//! What goes wrong in a run stays small and is named.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use data::DataError;
use data::batch::StepBatch;

use super::support::{POISON, config, loader, logged, model, poisoned_model, run};
use crate::config::{Precision, TrainConfig};
use crate::{Ranks, TrainError};

fn poison(batch: &mut StepBatch) {
    let input_ids = &mut batch.micro_batches[0].input_ids;
    let _ = input_ids.narrow(1, 0, 1).fill_(POISON);
}

#[test]
fn a_step_that_is_not_finite_is_skipped_counted_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (ranks, stop) = (Ranks::single(), AtomicBool::new(false));
    let mut model = poisoned_model();
    let mut loader = loader(|batch| {
        if batch.step == 2 {
            poison(batch);
        }
        Ok(())
    });
    let report = crate::train(&mut model, &mut loader, &config(), run(folder.path(), &ranks, &stop)).unwrap();
    assert_eq!((report.state.skipped_steps, report.state.updates, report.state.step), (1, 5, 6));
    let losses = logged(folder.path(), "loss");
    assert!(losses[2].is_nan() && losses[5].is_finite(), "{losses:?}");
    let kept: Vec<_> = std::fs::read_dir(folder.path().join("not_finite")).unwrap().collect();
    assert_eq!(kept.len(), 2);
    let text = std::fs::read_to_string(folder.path().join("not_finite/step-00000002-rank-0.json")).unwrap();
    assert!(text.contains(r#""16""#), "the sample's id is named: {text}");
}

#[test]
fn too_many_skipped_steps_end_the_run_with_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let (ranks, stop) = (Ranks::single(), AtomicBool::new(false));
    let mut model = poisoned_model();
    let mut poisoned = loader(|batch| {
        poison(batch);
        Ok(())
    });
    let config = TrainConfig { max_skipped_steps: 1, ..config() };
    let error = crate::train(&mut model, &mut poisoned, &config, run(folder.path(), &ranks, &stop)).unwrap_err();
    let TrainError::NotFinite { step: 1, skipped: 2, limit: 1, batch, .. } = &error else { panic!("{error}") };
    assert!(batch.exists());
}

/// One batch that has no sample short enough must not end a run of days.
#[test]
fn a_step_that_no_sample_fits_changes_nothing_and_many_in_a_row_end_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let (ranks, stop) = (Ranks::single(), AtomicBool::new(false));
    let emptied = |steps: std::ops::Range<u64>| {
        loader(move |batch: &mut StepBatch| {
            if steps.contains(&batch.step) {
                batch.micro_batches.clear();
            }
            Ok(())
        })
    };
    let few = TrainConfig { max_skipped_steps: 2, ..config() };
    let mut learned = model(Precision::Fp32, 1);
    let report = crate::train(&mut learned, &mut emptied(3..5), &few, run(folder.path(), &ranks, &stop)).unwrap();
    let state = &report.state;
    assert_eq!((state.step, state.updates, state.skipped_steps, state.samples), (6, 4, 0, 32));
    assert_eq!(logged(folder.path(), "loss").len(), 4, "what was not measured is not logged");

    let folder = tempfile::tempdir().unwrap();
    let mut learned = model(Precision::Fp32, 1);
    let error = crate::train(&mut learned, &mut emptied(1..6), &few, run(folder.path(), &ranks, &stop)).unwrap_err();
    assert!(matches!(error, TrainError::EmptySteps { step: 3, steps: 3, limit: 4096 }), "{error}");
    // A short run of nothing else is no success.
    let folder = tempfile::tempdir().unwrap();
    let error =
        crate::train(&mut learned, &mut emptied(0..6), &config(), run(folder.path(), &ranks, &stop)).unwrap_err();
    assert!(matches!(error, TrainError::EmptySteps { step: 5, steps: 6, .. }), "{error}");
}

#[test]
fn bad_data_names_its_step() {
    let folder = tempfile::tempdir().unwrap();
    let (ranks, stop) = (Ranks::single(), AtomicBool::new(false));
    let mut failing = loader(|batch| {
        if batch.step < 3 {
            return Ok(());
        }
        Err(DataError::Io { path: "set.parquet".into(), source: std::io::ErrorKind::UnexpectedEof.into() })
    });
    let mut model = model(Precision::Fp32, 1);
    let error = crate::train(&mut model, &mut failing, &config(), run(folder.path(), &ranks, &stop)).unwrap_err();
    assert!(error.to_string().starts_with("step 3: "), "{error}");
    assert!(folder.path().join("checkpoints/step-00000002/manifest.json").exists());
}

#[test]
fn a_short_loader_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (ranks, stop) = (Ranks::single(), AtomicBool::new(false));
    let mut model = model(Precision::Fp32, 1);
    let mut empty = |_: &_, _| -> Result<crate::StepBatches, DataError> { Ok(Box::new(std::iter::empty())) };
    let error = crate::train(&mut model, &mut empty, &config(), run(folder.path(), &ranks, &stop)).unwrap_err();
    assert!(matches!(error, TrainError::DataEnded { step: 0, wanted: 6 }), "{error}");
}

#[test]
fn a_panicking_operation_becomes_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (ranks, stop) = (Ranks::single(), AtomicBool::new(false));
    let mut model = model(Precision::Fp32, 1);
    let mut out_of_range = loader(|batch| {
        let _ = batch.micro_batches[0].input_ids.narrow(1, 0, 1).fill_(1_000_000);
        Ok(())
    });
    let run = run(folder.path(), &ranks, &stop);
    let error = crate::train(&mut model, &mut out_of_range, &config(), run).unwrap_err();
    assert!(matches!(&error, TrainError::Panicked { rank: 0, .. }), "{error}");
}

#[test]
fn a_checkpoint_that_cannot_be_written_ends_the_run_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (ranks, stop) = (Ranks::single(), AtomicBool::new(false));
    std::fs::write(folder.path().join("checkpoints"), "a file where the folder should be").unwrap();
    let mut model = model(Precision::Fp32, 1);
    let result = crate::train(&mut model, &mut loader(|_| Ok(())), &config(), run(folder.path(), &ranks, &stop));
    let error = result.unwrap_err().to_string();
    assert!(error.contains("checkpoints"), "{error}");
}

#[test]
fn a_full_disk_ends_the_run_and_leaves_what_was_saved() {
    let Some(disk) = small_disk() else {
        eprintln!("skipped: no right to mount a small file system");
        return;
    };
    let folder = disk.path.join("run");
    std::fs::create_dir(&folder).unwrap();
    let (ranks, stop) = (Ranks::single(), AtomicBool::new(false));
    let mut model = model(Precision::Fp32, 1);
    let result = crate::train(&mut model, &mut loader(|_| Ok(())), &config(), run(&folder, &ranks, &stop));
    let error = result.unwrap_err();
    assert!(matches!(&error, TrainError::DiskFull { .. }), "{error}");
    let names: Vec<_> = std::fs::read_dir(folder.join("checkpoints")).unwrap().collect();
    assert!(names.is_empty(), "{names:?}");
}

/// A file system of two megabytes, less than a checkpoint needs.
struct SmallDisk {
    path: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.path).output();
    }
}

fn small_disk() -> Option<SmallDisk> {
    let folder = tempfile::tempdir().ok()?;
    let path = folder.path().join("disk");
    std::fs::create_dir(&path).ok()?;
    let mount = |path: &Path| {
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(path).output()
    };
    let mounted = mount(&path).is_ok_and(|output| output.status.success());
    mounted.then_some(SmallDisk { path, _folder: folder })
}
