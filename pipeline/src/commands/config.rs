//! `monopass config ls|check|show|schema`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;

use super::{print_json, sweep, table};
use crate::config::check::load_checked;
use crate::config::file_kind::FileKind;
use crate::config::load::ConfigSource;
use crate::config::reference::reference_page;
use crate::config::resolved::to_yaml;
use crate::config::schema::editor_schema;
use crate::failure::{UsageError, in_full};

/// Lists files of experiments, tables and sweeps with their kind and first comment line.
///
/// # Errors
/// When the folder cannot be read.
pub fn ls(folder: &Path, as_json: bool) -> anyhow::Result<()> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    files.sort();
    let rows: Vec<(PathBuf, String, String)> = files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let title = text.lines().find_map(|line| line.strip_prefix('#')).unwrap_or("").trim().to_owned();
            let kind = ConfigSource::read(&file, &[]);
            let kind = kind.map_or_else(|_| "unreadable".to_owned(), |source| FileKind::of(&source).to_string());
            (file, kind, title)
        })
        .collect();
    if as_json {
        let row = |(file, kind, title): &(PathBuf, String, String)| json!({"file": file, "kind": kind, "title": title});
        return print_json(&json!({ "files": rows.iter().map(row).collect::<Vec<_>>() }));
    }
    let width = rows.iter().map(|(file, ..)| file.display().to_string().len()).max().unwrap_or(0);
    for (file, kind, title) in rows {
        println!("{:<width$}  {kind:<10}  {title}", file.display().to_string());
    }
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = fs::read_dir(folder).map_err(|error| {
        UsageError::new(
            format!("cannot list `{}`: {error}", folder.display()),
            "name the folder: `monopass config ls FOLDER`",
        )
    })?;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list `{}`", folder.display()))?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push(path);
        }
    }
    Ok(())
}

/// Checks files, of experiments, tables and sweeps, and names every fault.
///
/// # Errors
/// When any file has a fault.
pub fn check(files: &[PathBuf], set: &[String]) -> anyhow::Result<()> {
    let mut faults = Vec::new();
    for file in files {
        match check_one(file, set) {
            Ok(kind) => println!("{}: fine{kind}", file.display()),
            Err(error) => faults.push(error),
        }
    }
    let Some(last) = faults.pop() else { return Ok(()) };
    for fault in faults {
        tracing::error!("{}", in_full(&fault));
    }
    Err(last)
}

/// Checks one file. Returns what to say of its kind, where it is no experiment.
fn check_one(file: &Path, set: &[String]) -> anyhow::Result<&'static str> {
    let kind = FileKind::of(&ConfigSource::read(file, &[])?);
    if !set.is_empty() && kind != FileKind::Experiment {
        let hint = "write it into the file: `set` of an experiment in a table, of the sweep in a sweep";
        return Err(UsageError::new(
            format!("`--set` changes experiment files, and `{}` is none", file.display()),
            hint,
        )
        .into());
    }
    match kind {
        FileKind::Table => table::load(file).map(|_| ", a table"),
        FileKind::Sweep => sweep::load(file, None).map(|_| ", a sweep"),
        FileKind::Experiment => Ok(load_checked(file, set).map(|_| "")?),
    }
}

/// Prints a file as it is understood.
///
/// # Errors
/// When the file has a fault.
pub fn show(file: &Path, set: &[String]) -> anyhow::Result<()> {
    print!("{}", to_yaml(&load_checked(file, set)?)?);
    Ok(())
}

/// Prints the schema, or the reference page.
///
/// # Errors
/// When stdout cannot be written.
pub fn schema(markdown: bool) -> anyhow::Result<()> {
    if markdown {
        print!("{}", reference_page());
        return Ok(());
    }
    print_json(&editor_schema())
}
