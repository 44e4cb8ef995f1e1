//! Errors of this crate.
/// What can go wrong with a model folder, a tokenizer or an adapter.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// to be extended by variants that hold values
    #[error("cannot read {path}: {source}")]
    Io { /// which
        path: std::path::PathBuf, /// why
        source: std::io::Error },
}
