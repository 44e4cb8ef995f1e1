//! Errors of this crate.
/// What can go wrong with data.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// to be extended by variants that hold values
    #[error("cannot read {path}: {source}")]
    Io { /// which
        path: std::path::PathBuf, /// why
        source: std::io::Error },
}
