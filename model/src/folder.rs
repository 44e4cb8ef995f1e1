//! Finds a model's folder: a path, or a hub name in the local cache. Opens no network connection.

use std::path::{Path, PathBuf};

use crate::adapter_config::AdapterConfig;
use crate::{ModelError, peft};

/// Folder of `name_or_path`: the path itself when it is a folder, else the snapshot of `org/name` in the hub cache
/// (`revision` is a branch, tag or commit; `main` when absent).
pub fn resolve(name_or_path: &str, revision: Option<&str>) -> Result<PathBuf, ModelError> {
    let path = Path::new(name_or_path);
    let cache = hub_cache();
    if path.is_dir() {
        if is_model_folder(path) {
            return Ok(path.to_path_buf());
        }
        let wanted = "config.json or adapter_config.json".to_owned();
        return Err(ModelError::MissingFile { folder: path.into(), wanted });
    }
    resolve_in_cache(name_or_path, revision, &cache)
        .ok_or_else(|| ModelError::NotFound { name: name_or_path.into(), cache })
}

/// True when `folder` holds a model or an adapter.
pub fn is_model_folder(folder: &Path) -> bool {
    folder.join("config.json").is_file() || folder.join("adapter_config.json").is_file()
}

/// Folder of the model that an adapter belongs to; none where `folder` holds a whole model.
pub fn base_of(folder: &Path) -> Result<Option<PathBuf>, ModelError> {
    if !peft::is_adapter_folder(folder) {
        return Ok(None);
    }
    peft::base_folder(folder, &AdapterConfig::load(folder)?).map(Some)
}

/// The snapshot of `org/name` in a hub cache laid out as `models--org--name/{refs,snapshots}`.
pub fn resolve_in_cache(name: &str, revision: Option<&str>, cache: &Path) -> Option<PathBuf> {
    let is_plain = |part: &&str| !part.is_empty() && !part.starts_with('.');
    if name.split('/').count() > 2 || !name.split('/').all(|part| is_plain(&part)) {
        return None;
    }
    let repository = cache.join(format!("models--{}", name.replace('/', "--")));
    let revision = revision.unwrap_or("main");
    let commit = std::fs::read_to_string(repository.join("refs").join(revision));
    // without a ref the revision is a commit itself
    let commit = commit.map_or_else(|_| revision.to_owned(), |commit| commit.trim().to_owned());
    let folder = repository.join("snapshots").join(commit);
    is_model_folder(&folder).then_some(folder)
}

/// The hub's cache folder by the hub library's variables: HF_HUB_CACHE, else `hub` in [`hub_home`].
pub fn hub_cache() -> PathBuf {
    variable("HF_HUB_CACHE").unwrap_or_else(|| hub_home().join("hub"))
}

/// Where the hub's library keeps what is not a cache, its token for one: HF_HOME, else `huggingface` in XDG_CACHE_HOME or `~/.cache`.
pub fn hub_home() -> PathBuf {
    variable("HF_HOME")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
        .unwrap_or_else(|| variable("HOME").unwrap_or_default().join(".cache/huggingface"))
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_snapshot_by_branch_and_by_commit() {
        let cache = tempfile::tempdir().unwrap();
        let repository = cache.path().join("models--org--name");
        let snapshot = repository.join("snapshots/abc");
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::create_dir_all(repository.join("refs")).unwrap();
        std::fs::write(snapshot.join("config.json"), "{}").unwrap();
        std::fs::write(repository.join("refs/main"), "abc\n").unwrap();
        assert_eq!(resolve_in_cache("org/name", None, cache.path()), Some(snapshot.clone()));
        assert_eq!(resolve_in_cache("org/name", Some("abc"), cache.path()), Some(snapshot));
        assert_eq!(resolve_in_cache("org/other", None, cache.path()), None);
        assert_eq!(resolve_in_cache("../name", None, cache.path()), None);
    }

    #[test]
    fn an_adapter_names_its_base() {
        let place = tempfile::tempdir().unwrap();
        let (base, adapter) = (place.path().join("base"), place.path().join("adapter"));
        std::fs::create_dir(&base).unwrap();
        std::fs::create_dir(&adapter).unwrap();
        std::fs::write(base.join("config.json"), "{}").unwrap();
        let config = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "base_model_name_or_path": "../base"}"#;
        std::fs::write(adapter.join("adapter_config.json"), config).unwrap();
        assert_eq!(base_of(&base).unwrap(), None);
        assert_eq!(base_of(&adapter).unwrap(), Some(adapter.join("../base")));
    }

    #[test]
    fn a_missing_model_says_what_to_do() {
        let error = resolve("no/such-model", None).unwrap_err().to_string();
        assert!(error.contains("no/such-model") && error.contains("HF_HOME"), "{error}");
    }
}
