//! Models (`org/name`) and data sets (`hf://datasets/org/name/file`) from the Hugging Face hub.
//!
//! HF_HUB_CACHE, HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are honoured; a path that exists on disk is never looked up.

#[cfg(feature = "hub")]
mod checksum;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::failure::InputError;

const DATASET_PREFIX: &str = "hf://datasets/";

/// The folder of a model given by path or hub id; downloads what is missing.
///
/// # Errors
/// When there is no such folder and the hub does not have it or cannot be reached.
pub fn model_folder(path_or_id: &str) -> anyhow::Result<PathBuf> {
    let path = Path::new(path_or_id);
    if path.exists() {
        return Ok(path.to_owned());
    }
    if !is_hub_id(path_or_id) {
        return Err(InputError::new(
            format!("no model at `{path_or_id}`: there is no such folder, and it is no hub id (`org/name`)"),
            "`cargo xtask quickstart` makes models/SmolLM2-135M-Instruct; `monopass import FILE.gguf --out DIR` makes a model folder from a GGUF",
        )
        .into());
    }
    Ok(once(path_or_id, || download::model(path_or_id))?)
}

/// Whether a model is on this machine, as a folder or in the hub's cache.
pub fn is_local(path_or_id: &str) -> bool {
    model::folder::resolve(path_or_id, None).is_ok()
}

/// True for `org/name` as the hub writes it: one slash, no path.
pub fn is_hub_id(text: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
    };
    matches!(text.split('/').collect::<Vec<_>>()[..], [org, name] if plain(org) && plain(name))
}

/// A data file: local paths are returned as they are, `hf://datasets/org/name/path/to/file` is downloaded.
///
/// # Errors
/// When the address is incomplete, or the hub does not have the file or cannot be reached.
pub fn data_path(path: &Path) -> anyhow::Result<PathBuf> {
    let Some(rest) = path.to_str().and_then(|text| text.strip_prefix(DATASET_PREFIX)) else {
        return Ok(path.to_owned());
    };
    let mut parts = rest.splitn(3, '/');
    let (Some(org), Some(name)) = (parts.next(), parts.next().filter(|name| !name.is_empty())) else {
        return Err(InputError::new(
            format!("`{}` is no data set address", path.display()),
            format!("write `{DATASET_PREFIX}org/name` or `{DATASET_PREFIX}org/name/path/to/file.jsonl`"),
        )
        .into());
    };
    let file = parts.next().filter(|file| !file.is_empty());
    Ok(once(&format!("{DATASET_PREFIX}{rest}"), || download::data(&format!("{org}/{name}"), file))?)
}

/// What the hub gave this process. Asked once, a run sees one state of a repository from its first stage to its last.
static FOUND: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());

/// The folder of a model that is here already, the cache included; later questions of this process get the same. Asks nobody.
pub fn on_disk(path_or_id: &str) -> Option<PathBuf> {
    let folder = model::folder::resolve(path_or_id, None).ok()?;
    if !Path::new(path_or_id).exists() {
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        found.entry(path_or_id.to_owned()).or_insert_with(|| folder.clone());
    }
    Some(folder)
}

fn once(address: &str, find: impl FnOnce() -> Result<PathBuf, InputError>) -> Result<PathBuf, InputError> {
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = found.get(address) {
        return Ok(path.clone());
    }
    let path = find()?;
    found.insert(address.to_owned(), path.clone());
    Ok(path)
}

fn way_round(id: &str) -> String {
    format!(
        "give a local path instead of `{id}`; where the hub cannot be reached, fetch the files elsewhere and copy them, or make a \
         model folder with `monopass import FILE.gguf --out DIR`"
    )
}

#[cfg(feature = "hub")]
mod download {
    use std::fs::File;
    use std::path::PathBuf;

    use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
    use hf_hub::{Cache, Repo, RepoType};

    use super::{checksum, way_round};
    use crate::failure::InputError;

    const UNREACHABLE: &str = "the hub cannot be reached";

    /// Extensions of data files, in the order of preference.
    const DATA_EXTENSIONS: [&str; 4] = ["parquet", "jsonl", "json", "arrow"];

    pub(super) fn model(id: &str) -> Result<PathBuf, InputError> {
        let repo = Repo::new(id.to_owned(), RepoType::Model);
        if offline() {
            let cached = cache().repo(repo).get("config.json");
            return cached.and_then(|file| Some(file.parent()?.to_owned())).ok_or_else(|| not_cached(id));
        }
        let _lock = lock();
        let cached = || model::folder::resolve_in_cache(id, None, &model::folder::hub_cache());
        let repo = api(id)?.repo(repo);
        let files = match list(&repo, id) {
            Ok(files) => files,
            Err(error) => {
                let Some(folder) = cached().filter(|_| error.to_string().contains(UNREACHABLE)) else {
                    return Err(error);
                };
                tracing::warn!("{UNREACHABLE}; `{id}` is taken from the cache: `{}`", folder.display());
                return Ok(folder);
            }
        };
        let wanted = |file: &&String| {
            let plain = !file.contains('/');
            plain && (file.ends_with(".safetensors") || file.ends_with(".json") || file.ends_with(".jinja"))
        };
        let mut folder = None;
        for file in files.iter().filter(wanted) {
            let path = fetch(&repo, Repo::new(id.to_owned(), RepoType::Model), id, file)?;
            folder = path.parent().map(ToOwned::to_owned);
        }
        folder.ok_or_else(|| {
            InputError::new(format!("`{id}` on the hub holds no safetensors or JSON files"), way_round(id))
        })
    }

    pub(super) fn data(id: &str, file: Option<&str>) -> Result<PathBuf, InputError> {
        let repo = Repo::new(id.to_owned(), RepoType::Dataset);
        if offline() {
            let cached = file.and_then(|file| cache().repo(repo).get(file));
            return cached.ok_or_else(|| not_cached(id));
        }
        let _lock = lock();
        let repo = api(id)?.repo(repo);
        let file = match file {
            Some(file) => file.to_owned(),
            None => only_data_file(id, &list(&repo, id)?)?,
        };
        fetch(&repo, Repo::new(id.to_owned(), RepoType::Dataset), id, &file)
    }

    /// The folder that [`model::folder`] looks into: hf-hub's own choice knows HF_HOME alone.
    fn cache() -> Cache {
        Cache::new(model::folder::hub_cache())
    }

    /// One process of a host fetches at a time, ranks and runs of a sweep among them: the others find the files there. hf-hub's own lock gives up after
    /// five seconds. Nothing where the cache cannot be written: fetching says why.
    fn lock() -> Option<File> {
        let cache = model::folder::hub_cache();
        std::fs::create_dir_all(&cache).ok()?;
        let path = cache.join(".monopass.lock");
        // Another user's file can be locked, though not written.
        let file = File::create(&path).or_else(|_| File::open(&path)).ok()?;
        if file.try_lock().is_err() {
            tracing::info!("hub: waiting for another process of this host that fetches");
            file.lock().ok()?;
        }
        Some(file)
    }

    /// The file in the cache; downloaded and compared with its checksum when it was not there.
    fn fetch(api: &ApiRepo, repo: Repo, id: &str, file: &str) -> Result<PathBuf, InputError> {
        tracing::info!("hub: {id}: {file}");
        let present = cache().repo(repo).get(file).is_some();
        let path = api.get(file).map_err(|error| failed(id, &error))?;
        if !present {
            checksum::verify(&path)?;
        }
        Ok(path)
    }

    /// The training file of a data set that names none.
    fn only_data_file(id: &str, files: &[String]) -> Result<String, InputError> {
        let of = |extension: &str| -> Vec<&String> {
            files.iter().filter(|file| file.trim_end_matches(".gz").ends_with(&format!(".{extension}"))).collect()
        };
        for candidates in DATA_EXTENSIONS.map(of) {
            let train: Vec<&&String> = candidates.iter().filter(|file| file.contains("train")).collect();
            match (&candidates[..], &train[..]) {
                ([one], _) => return Ok((*one).clone()),
                (_, [one]) => return Ok((**one).clone()),
                _ => {}
            }
        }
        let shown: Vec<&str> = files.iter().map(String::as_str).take(12).collect();
        Err(InputError::new(
            format!("`{id}` on the hub does not have exactly one data file"),
            format!("name one: `hf://datasets/{id}/FILE`; it holds {}", shown.join(", ")),
        ))
    }

    fn api(id: &str) -> Result<Api, InputError> {
        // What `hf auth login` wrote.
        let written = || std::fs::read_to_string(model::folder::hub_home().join("token")).ok();
        let token = std::env::var("HF_TOKEN").ok().or_else(written);
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        let mut builder = ApiBuilder::from_cache(cache()).with_retries(3).with_token(token);
        if let Ok(endpoint) = std::env::var("HF_ENDPOINT") {
            builder = builder.with_endpoint(endpoint);
        }
        builder.build().map_err(|error| failed(id, &error))
    }

    fn list(repo: &ApiRepo, id: &str) -> Result<Vec<String>, InputError> {
        let info = repo.info().map_err(|error| failed(id, &error))?;
        Ok(info.siblings.into_iter().map(|sibling| sibling.rfilename).collect())
    }

    fn failed(id: &str, error: &ApiError) -> InputError {
        let error = error.to_string();
        let why = if error.contains("401") || error.contains("403") {
            "the hub refuses access; a gated model wants HF_TOKEN and its licence accepted on its page"
        } else if error.contains("404") {
            "the hub knows no such repository or file"
        } else {
            UNREACHABLE
        };
        InputError::new(format!("`{id}` is not on disk, and {why} ({error})"), way_round(id))
    }

    fn not_cached(id: &str) -> InputError {
        InputError::new(
            format!(
                "`{id}` is not on disk, and HF_HUB_OFFLINE forbids asking the hub; the cache `{}` does not have it",
                model::folder::hub_cache().display()
            ),
            way_round(id),
        )
    }

    pub(super) fn offline() -> bool {
        std::env::var("HF_HUB_OFFLINE")
            .is_ok_and(|value| matches!(value.to_lowercase().as_str(), "1" | "true" | "yes" | "on"))
    }
}

#[cfg(not(feature = "hub"))]
mod download {
    use std::path::PathBuf;

    use super::way_round;
    use crate::failure::InputError;

    pub(super) fn model(id: &str) -> Result<PathBuf, InputError> {
        Err(left_out(id))
    }

    pub(super) fn data(id: &str, _file: Option<&str>) -> Result<PathBuf, InputError> {
        Err(left_out(id))
    }

    fn left_out(id: &str) -> InputError {
        InputError::new(
            format!("`{id}` is not on disk, and this program was built without the `hub` feature"),
            way_round(id),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_ids_are_told_from_paths() {
        assert!(is_hub_id("HuggingFaceTB/SmolLM2-135M-Instruct"));
        for path in ["./a/b", "/a/b", "models/a/b", "a", "../b", "a/"] {
            assert!(!is_hub_id(path), "{path}");
        }
    }

    #[test]
    fn the_hub_is_asked_once_and_again_after_a_failure() {
        let address = "tests/asked-once";
        assert!(once(address, || Err(InputError::new("away", "wait"))).is_err());
        assert_eq!(once(address, || Ok("first".into())).unwrap(), Path::new("first"));
        assert_eq!(once(address, || Ok("second".into())).unwrap(), Path::new("first"));
    }

    #[test]
    fn local_paths_pass_and_bad_addresses_do_not() {
        assert_eq!(data_path(Path::new("a/b.jsonl")).unwrap(), Path::new("a/b.jsonl"));
        let message = data_path(Path::new("hf://datasets/org")).unwrap_err().to_string();
        assert!(message.contains("hint: write `hf://datasets/org/name"), "{message}");
    }
}
