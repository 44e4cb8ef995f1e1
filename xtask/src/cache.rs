//! The user's cache: what was downloaded once and is shared by all working trees.

use std::{
    env, fs,
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// `$XDG_CACHE_HOME/monopass`, else `~/.cache/monopass`.
#[derive(Debug, Clone)]
pub struct Cache {
    /// The folder itself; made when it is first needed.
    pub root: PathBuf,
}

/// Held while one process changes the cache; the kernel drops it with the process.
#[derive(Debug)]
pub struct CacheLock {
    _file: File,
}

impl Cache {
    /// The cache of this user.
    ///
    /// # Errors
    /// When neither `XDG_CACHE_HOME` nor `HOME` is set.
    pub fn of_user() -> Result<Self> {
        let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let base = match (variable("XDG_CACHE_HOME"), variable("HOME")) {
            (Some(folder), _) => PathBuf::from(folder),
            (None, Some(home)) => PathBuf::from(home).join(".cache"),
            (None, None) => bail!("neither `XDG_CACHE_HOME` nor `HOME` is set: set one of them"),
        };
        // The specification says that a relative one is to be ignored; here it would move with the current folder.
        if !base.is_absolute() {
            bail!("`XDG_CACHE_HOME` is `{}`: it must be an absolute path", base.display());
        }
        Ok(Self { root: base.join("monopass") })
    }

    /// Waits for any other set-up of this user to end, then keeps others out.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn lock(&self) -> Result<CacheLock> {
        fs::create_dir_all(&self.root)
            .with_context(|| format!("the cache `{}` cannot be made", self.root.display()))?;
        let path = self.root.join("setup.lock");
        let file = File::create(&path).with_context(|| format!("`{}` cannot be written", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("another set-up is running (it holds `{}`): waiting for it", path.display());
                file.lock().with_context(|| format!("`{}` cannot be locked", path.display()))?;
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("`{}` cannot be locked", path.display()));
            }
        }
        Ok(CacheLock { _file: file })
    }

    /// Refuses to start what the disk cannot hold.
    ///
    /// # Errors
    /// When fewer than `needed_mib` are free. A system without `df` is not held up.
    pub fn require_free(&self, needed_mib: u64) -> Result<()> {
        let report = Command::new("df").args(["-P", "-m"]).arg(&self.root).output();
        let free = report.ok().and_then(|output| free_mib(&String::from_utf8_lossy(&output.stdout)));
        match free {
            Some(free) if free < needed_mib => bail!(
                "{free} MiB are free where `{}` lies, {needed_mib} MiB are needed: make room, or set `XDG_CACHE_HOME` \
                 to a folder on a larger disk",
                self.root.display()
            ),
            _ => Ok(()),
        }
    }
}

/// The "Available" column of `df -P -m`.
fn free_mib(report: &str) -> Option<u64> {
    report.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()
}

/// Removes a file, link or folder with all it holds; nothing there is fine.
///
/// # Errors
/// Names the path that could not be removed.
pub fn remove(path: &Path) -> Result<()> {
    let Ok(kind) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    let removed = if kind.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.with_context(|| format!("`{}` cannot be removed", path.display()))
}

/// Makes `link` point to `target`, in one step when it points elsewhere already.
///
/// # Errors
/// When a real file or folder stands at `link`: it may be the user's.
pub fn point(link: &Path, target: &Path) -> Result<()> {
    if let Ok(kind) = fs::symlink_metadata(link) {
        if !kind.is_symlink() {
            bail!("`{}` is not a link: move it away, then run this again", link.display());
        }
        if fs::read_link(link).is_ok_and(|now| now == target) {
            return Ok(());
        }
    }
    if let Some(parent) = link.parent() {
        fs::create_dir_all(parent).with_context(|| format!("`{}` cannot be made", parent.display()))?;
    }
    let mut beside = link.as_os_str().to_owned();
    // Of this process alone: another set-up may be making the same link.
    beside.push(format!(".new-{}", std::process::id()));
    let beside = PathBuf::from(beside);
    remove(&beside)?;
    std::os::unix::fs::symlink(target, &beside)
        .and_then(|()| fs::rename(&beside, link))
        .with_context(|| format!("the link `{}` cannot be made", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_free_column_of_df_is_read() {
        let report = "Filesystem 1048576-blocks  Used Available Capacity Mounted on\n/dev/sda1 100 60 40 60% /\n";
        assert_eq!(free_mib(report), Some(40));
        assert_eq!(free_mib(""), None);
    }

    #[test]
    fn too_small_a_disk_is_refused_with_both_numbers() {
        let cache = Cache { root: env::temp_dir() };
        let message = cache.require_free(u64::MAX / 2).unwrap_err().to_string();
        assert!(message.contains("are needed"), "{message}");
        cache.require_free(0).unwrap();
    }

    #[test]
    fn a_link_is_made_moved_and_never_replaces_a_real_folder() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("models/.libtorch");
        point(&link, Path::new("/one")).unwrap();
        point(&link, Path::new("/two")).unwrap();
        point(&link, Path::new("/two")).unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("/two"));
        assert_eq!(fs::read_dir(link.parent().unwrap()).unwrap().count(), 1);

        let real = folder.path().join("real");
        fs::create_dir(&real).unwrap();
        let message = point(&real, Path::new("/two")).unwrap_err().to_string();
        assert!(message.contains("not a link"), "{message}");
        assert!(real.is_dir());
    }

    #[test]
    fn a_second_set_up_waits_for_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache { root: folder.path().to_path_buf() };
        let held = cache.lock().unwrap();
        let other = cache.clone();
        let waiting = std::thread::spawn(move || other.lock().map(drop));
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!waiting.is_finished());
        drop(held);
        waiting.join().unwrap().unwrap();
    }
}
