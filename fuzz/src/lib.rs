//! What the targets share: bytes as files, since the readers take paths.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A folder of this process, gone with the machine's temporary files.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder for temporary files").keep())
}

/// libfuzzer ends at every panic; those that a reader catches and tells as errors are what it should do.
pub fn let_caught_panics_pass() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !model::guard::panics_are_told_as_errors() {
            report(panic);
        }
    }));
}

/// The file `name` in [`folder`], holding `bytes`.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, bytes).expect("temporary files can be written");
    path
}
