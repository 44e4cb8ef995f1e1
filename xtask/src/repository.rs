//! Where the working tree is, and how cargo is called in it.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// The working tree this command was started in.
#[derive(Debug, Clone)]
pub struct Repository {
    /// The folder that holds the workspace's `Cargo.toml`.
    pub root: PathBuf,
}

impl Repository {
    /// Finds the workspace from `CARGO_MANIFEST_DIR` (set by `cargo run`), else from the current folder upwards.
    ///
    /// # Errors
    /// When no folder above holds a workspace manifest.
    pub fn find() -> Result<Self> {
        let start = match env::var_os("CARGO_MANIFEST_DIR") {
            Some(folder) => PathBuf::from(folder),
            None => env::current_dir().context("the current folder cannot be read")?,
        };
        for folder in start.ancestors() {
            let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
            if manifest.lines().any(|line| line.trim() == "[workspace]") {
                return Ok(Self { root: folder.to_path_buf() });
            }
        }
        bail!("no workspace `Cargo.toml` in or above `{}`", start.display())
    }

    /// The link the build reads libtorch through.
    pub fn libtorch_link(&self) -> PathBuf {
        self.root.join(".libtorch")
    }

    /// Where built programs go: as cargo says, whose own settings may name another folder than `CARGO_TARGET_DIR` or `target`.
    pub fn target(&self) -> PathBuf {
        let metadata = ["metadata", "--format-version", "1", "--no-deps", "--offline"];
        let output = self.cargo(&metadata).stderr(std::process::Stdio::null()).output();
        let said = output.ok().and_then(|output| String::from_utf8(output.stdout).ok());
        match said.as_deref().and_then(target_directory) {
            Some(folder) => PathBuf::from(folder),
            None => self.root.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into())),
        }
    }

    /// `cargo` with `arguments`, in the root, with libtorch on the loader's path.
    pub fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments);
        self.prepare(&mut command);
        command
    }

    /// A built program of the workspace, started like [`Self::cargo`].
    pub fn program(&self, path: &Path) -> Command {
        let mut command = Command::new(path);
        self.prepare(&mut command);
        command
    }

    fn prepare(&self, command: &mut Command) {
        let lib = self.libtorch_link().join("lib");
        command
            .current_dir(&self.root)
            .stdin(Stdio::null())
            // The caller's own: cargo sets it for us and a nested cargo must find its own crate's.
            .env_remove("CARGO_MANIFEST_DIR")
            .env("LD_LIBRARY_PATH", loader_path(&lib, env::var_os("LD_LIBRARY_PATH").as_deref()));
    }
}

/// `lib` before whatever the variable held; needed when a target folder elsewhere makes the relative run path miss.
fn loader_path(lib: &Path, before: Option<&std::ffi::OsStr>) -> std::ffi::OsString {
    let mut path = lib.as_os_str().to_owned();
    let others = before.map(env::split_paths).into_iter().flatten();
    for other in others.filter(|other| other != lib && !other.as_os_str().is_empty()) {
        path.push(":");
        path.push(other);
    }
    path
}

/// Runs a command to its end.
///
/// # Errors
/// Names the command when it cannot start or does not succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| format!("`{shown}` cannot be started"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// The command as a user would type it.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    std::iter::once(name).chain(command.get_args()).map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// `target_directory` of cargo's metadata. A path with characters that JSON escapes is not read.
fn target_directory(metadata: &str) -> Option<&str> {
    let (_, rest) = metadata.split_once("\"target_directory\":\"")?;
    let (folder, _) = rest.split_once('"')?;
    (!folder.contains('\\')).then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_folder_is_read() {
        let said = r#"{"packages":[],"target_directory":"/tmp/built here","version":1}"#;
        assert_eq!(target_directory(said), Some("/tmp/built here"));
        assert_eq!(target_directory(r#"{"target_directory":"/a\\b"}"#), None);
        assert_eq!(target_directory(""), None);
    }

    #[test]
    fn the_loader_path_starts_with_ours_and_holds_it_once() {
        let lib = Path::new("/repo/.libtorch/lib");
        assert_eq!(loader_path(lib, None), "/repo/.libtorch/lib");
        assert_eq!(loader_path(lib, Some("/opt/cuda:/repo/.libtorch/lib:".as_ref())), "/repo/.libtorch/lib:/opt/cuda");
    }

    #[test]
    fn a_command_is_shown_without_the_path_of_its_program() {
        let mut command = Command::new("/some/where/cargo");
        command.args(["test", "--workspace"]);
        assert_eq!(shown(&command), "cargo test --workspace");
    }
}
