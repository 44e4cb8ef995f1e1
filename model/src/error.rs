//! Errors of this crate.

use std::path::{Path, PathBuf};

use crate::gguf::GgufError;

/// What can go wrong with a model folder, a tokenizer or an adapter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file or folder could not be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written; what stood there before is untouched.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A JSON file is not what it should be.
    #[error("`{}`: {source}", path.display())]
    Json {
        /// Which file.
        path: PathBuf,
        /// Place and reason.
        source: serde_json::Error,
    },
    /// No such model, neither as a path nor in the hub's cache.
    #[error(
        "model `{name}` not found: looked for a folder of that name and in `{}`; \
         give the path of a folder with a config.json, or set HF_HUB_CACHE or HF_HOME to a cache that holds the model",
        cache.display()
    )]
    NotFound {
        /// What was asked for.
        name: String,
        /// The hub cache looked into.
        cache: PathBuf,
    },
    /// The folder lacks a file it must have.
    #[error("`{}` has no {wanted}", folder.display())]
    MissingFile {
        /// The folder.
        folder: PathBuf,
        /// The file or files looked for.
        wanted: String,
    },
    /// `config.json` describes something this program cannot run.
    #[error("`{key}` of config.json is `{got}`; supported: {supported}")]
    Unsupported {
        /// Key of the file.
        key: String,
        /// Its value.
        got: String,
        /// What can be run.
        supported: String,
    },
    /// `config.json` contradicts itself or lacks a value.
    #[error("`{key}` of config.json is {got}, wanted {wanted}")]
    InvalidConfig {
        /// Key of the file.
        key: String,
        /// Its value.
        got: String,
        /// What would be right.
        wanted: String,
    },
    /// A safetensors file is damaged.
    #[error("`{}` is not a whole safetensors file: {problem}; fetch or save it again", path.display())]
    Safetensors {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An index of weights names a file outside its folder.
    #[error("`{}` names the file `{name}`, wanted one in its own folder; fetch the model again, from whom you trust", path.display())]
    ShardOutside {
        /// As written.
        name: String,
        /// The index.
        path: PathBuf,
    },
    /// A config describes a larger model than its files hold.
    #[error("the config describes {described} weights, but the files of `{}` have {bytes} bytes; config.json is another model's or damaged, or the files are cut short: fetch them again", place.display())]
    FilesTooSmall {
        /// Weights of the config.
        described: i64,
        /// Bytes of all files with weights.
        bytes: u64,
        /// Folder or file.
        place: PathBuf,
    },
    /// A weight the model needs is in no file.
    #[error("tensor `{name}` is missing from `{}`{}", place.display(), more(*others))]
    MissingTensor {
        /// First missing name.
        name: String,
        /// How many more are missing.
        others: usize,
        /// Folder or file.
        place: PathBuf,
    },
    /// A file holds a weight the model has no place for.
    #[error("tensor `{name}` of `{}` is not part of the model{}", path.display(), more(*others))]
    UnexpectedTensor {
        /// First such name.
        name: String,
        /// How many more there are.
        others: usize,
        /// The file.
        path: PathBuf,
    },
    /// A weight has another shape than the config says.
    #[error("tensor `{name}` of `{}` has shape {got:?}, wanted {wanted:?}", path.display())]
    ShapeMismatch {
        /// The weight.
        name: String,
        /// The file.
        path: PathBuf,
        /// Shape in the file.
        got: Vec<i64>,
        /// Shape by config.json.
        wanted: Vec<i64>,
    },
    /// An adapter that cannot be applied.
    #[error("adapter: `{key}` is `{got}`; {wanted}")]
    Adapter {
        /// Key of adapter_config.json or the setting.
        key: String,
        /// Its value.
        got: String,
        /// What would be right.
        wanted: String,
    },
    /// The tokenizer's files do not work.
    #[error("tokenizer of `{}`: {problem}", path.display())]
    Tokenizer {
        /// File or folder.
        path: PathBuf,
        /// The tokenizer library's reason.
        problem: String,
    },
    /// A chat template is absent, wrong or refused the messages.
    #[error("chat template of `{}`: {problem}", path.display())]
    ChatTemplate {
        /// The tokenizer's folder.
        path: PathBuf,
        /// Reason, with the template's line where known.
        problem: String,
    },
    /// A GGUF file that cannot be imported.
    #[error("`{}`: {source}", path.display())]
    Gguf {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: GgufError,
    },
    /// A head of another model, prompt, number of candidates or grouping.
    #[error("the head in `{}` does not fit: {}; train one for these settings", folder.display(), differences.join("; "))]
    OtherHead {
        /// The head's folder.
        folder: PathBuf,
        /// One line each.
        differences: Vec<String>,
    },
    /// A division into groups that does not fit the number of candidates.
    #[error("`n_group` is {n_group} for {n} candidates; wanted {wanted}")]
    Groups {
        /// Groups asked for.
        n_group: usize,
        /// Candidates.
        n: usize,
        /// What would fit.
        wanted: String,
    },
    /// libtorch refused an operation (out of memory, say).
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

/// ` (and 3 more)`, or nothing.
fn more(others: usize) -> String {
    if others == 0 { String::new() } else { format!(" (and {others} more)") }
}

/// The bytes of a file; errors name it.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    std::fs::read(path).map_err(|source| ModelError::Io { path: path.to_path_buf(), source })
}

/// As [`read`], but an absent file is `None`.
pub(crate) fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>, ModelError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ModelError::Io { path: path.to_path_buf(), source }),
    }
}

/// Parses JSON; errors name the file.
pub(crate) fn parse_json<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, ModelError> {
    serde_json::from_slice(bytes).map_err(|source| ModelError::Json { path: path.to_path_buf(), source })
}
