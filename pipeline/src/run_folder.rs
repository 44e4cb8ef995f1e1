//! `runs/<name>/`: where one experiment keeps everything.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::failure::UsageError;

/// A model's name as part of a file's name: models of other places are named by their paths.
pub fn file_name(model: &str) -> String {
    model.replace('/', "_")
}

/// The folders and files of a run.
#[derive(Debug, Clone)]
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// The run `name` below `output_dir`. Touches nothing.
    pub fn new(output_dir: &Path, name: &str) -> Self {
        Self { root: output_dir.join(name) }
    }

    /// The run that lies in a folder.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// The resolved experiment file.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.yaml")
    }

    /// The resolved settings by which the tables were made: a command that was begun with others has not changed them yet.
    pub fn tables_config(&self) -> PathBuf {
        self.tables().join("settings.yaml")
    }
    /// Everything that was said, with times.
    pub fn log(&self) -> PathBuf {
        self.root.join("run.log")
    }
    /// A prepared set.
    pub fn set(&self, set: &str) -> PathBuf {
        self.root.join("data").join(set)
    }
    /// Metrics, TensorBoard events and checkpoints of a training stage.
    pub fn train(&self, stage: &str) -> PathBuf {
        self.root.join("train").join(stage)
    }
    /// The model a training stage ends with, as a Hugging Face folder.
    pub fn model(&self, stage: &str) -> PathBuf {
        self.root.join("model").join(stage)
    }
    /// Rankings and answers per set and model.
    pub fn predictions(&self) -> PathBuf {
        self.root.join("predictions")
    }
    /// A model's rankings of a set, as a file with this ending.
    pub fn predictions_of(&self, set: &str, model: &str, ending: &str) -> PathBuf {
        self.predictions().join(format!("{set}.{}.{ending}", file_name(model)))
    }
    /// A model's answers about a set, as a file with this ending.
    pub fn answers_of(&self, set: &str, model: &str, ending: &str) -> PathBuf {
        self.predictions_of(set, model, &format!("answers.{ending}"))
    }
    /// The model's own rankings of a set, and what heads learn from; of each model and set a folder.
    pub fn teacher(&self, model: &str, set: &str) -> PathBuf {
        self.root.join("teacher").join(format!("{set}.{}", file_name(model)))
    }
    /// A model's own rankings of a set.
    pub fn rankings(&self, model: &str, set: &str) -> PathBuf {
        self.root.join("rankings").join(format!("{set}.{}.parquet", file_name(model)))
    }
    /// A head trained on a model.
    pub fn head(&self, model: &str, head: &str) -> PathBuf {
        self.root.join("heads").join(file_name(model)).join(head)
    }
    /// Result tables.
    pub fn tables(&self) -> PathBuf {
        self.root.join("tables")
    }
    /// The report.
    pub fn report(&self) -> PathBuf {
        self.root.join("report.html")
    }
    /// What a finished stage was made from.
    pub fn stamp(&self, stage: &str) -> PathBuf {
        self.root.join("stamps").join(format!("{}.json", stage.replace('/', ".")))
    }

    /// Whether a process works in the folder.
    pub fn is_locked(&self) -> bool {
        let locked = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        File::open(self.root.join(".lock")).is_ok_and(locked)
    }

    /// Makes the folder and takes its lock; the lock ends with the returned value or the process.
    ///
    /// # Errors
    /// When another process works in the folder, or it cannot be made.
    pub fn lock(&self) -> anyhow::Result<FolderLock> {
        fs::create_dir_all(&self.root)
            .with_context(|| format!("cannot make the run folder `{}`", self.root.display()))?;
        let path = self.root.join(".lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open `{}`", path.display()))?;
        let patience = patience();
        match lock_within(&file, patience) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                let message = format!("`{}` is in use by another run (process {})", self.root.display(), holder.trim());
                // Starting again may find it free.
                anyhow::ensure!(patience.is_zero(), "{message} after {} s", patience.as_secs());
                let hint = "wait for it, or give this run a name of its own: `--set name=other`";
                return Err(UsageError::new(message, hint).into());
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock `{}`", path.display()));
            }
        }
        file.set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()))
            .with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(FolderLock { _file: file })
    }
}

/// How long to wait for another's lock. Ranks that are started again, and those of several hosts, may find that of a host which is lost: a file
/// system takes it away when its lease ends (NFS: 90 s).
fn patience() -> Duration {
    let of = |name: &str| std::env::var(name).ok();
    let again = of("TORCHELASTIC_RESTART_COUNT").is_some_and(|count| count.trim() != "0");
    let several_hosts = of("LOCAL_WORLD_SIZE").is_some_and(|local| of("WORLD_SIZE").is_some_and(|all| all != local));
    Duration::from_secs(if again || several_hosts { 150 } else { 0 })
}

fn lock_within(file: &File, patience: Duration) -> Result<(), TryLockError> {
    let (began, mut told) = (Instant::now(), None);
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if began.elapsed() < patience => {
                told.get_or_insert_with(|| {
                    tracing::info!("the run's folder is locked; waiting up to {patience:?} for it")
                });
                std::thread::sleep(Duration::from_millis(200));
            }
            other => return other,
        }
    }
}

/// Held while a process works in a run folder.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_in_the_folder_is_refused_while_the_first_works() {
        let out = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(out.path(), "a");
        assert!(!folder.is_locked());
        let lock = folder.lock().unwrap();
        assert!(folder.is_locked());
        let message = folder.lock().unwrap_err().to_string();
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        drop(lock);
        folder.lock().unwrap();
    }

    #[test]
    fn a_lock_that_is_given_up_in_time_is_taken() {
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("lock");
        let (held, wanted) = (File::create(&path).unwrap(), File::open(&path).unwrap());
        held.lock().unwrap();
        assert!(matches!(lock_within(&wanted, Duration::ZERO), Err(TryLockError::WouldBlock)));
        let waits = std::thread::spawn(move || lock_within(&wanted, Duration::from_secs(60)).is_ok());
        drop(held);
        assert!(waits.join().unwrap());
    }
}
