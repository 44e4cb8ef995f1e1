//! Rules of the house that no compiler checks. Each is a line in CONTRIBUTING.md.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::repository::Repository;

/// A file named so says nothing about what is in it.
const EMPTY_NAMES: [&str; 7] = ["util", "utils", "common", "helper", "helpers", "misc", "types"];
/// Left-overs of work in progress.
const UNFINISHED: [&str; 3] = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("dbg", "!(")];
/// Where only somebody's own machine has files.
const MACHINE_FOLDERS: [&str; 5] =
    [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/"), concat!("/wo", "rk/"), concat!("/mn", "t/")];

/// Checks every file of the working tree that could be committed.
///
/// # Errors
/// Lists every breach with its file and line.
pub fn check(repository: &Repository) -> Result<()> {
    let mut problems = Vec::new();
    for path in files(&repository.root)? {
        let shown = path.strip_prefix(&repository.root).unwrap_or(&path).to_path_buf();
        problems.extend(name_problem(&shown));
        if is_text(&shown) {
            let text = fs::read_to_string(&path).with_context(|| format!("`{}` cannot be read", path.display()))?;
            problems.extend(text_problems(&shown, &text));
        }
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}

/// All files below `root`, without what git ignores at the top and without hidden folders other than our own.
pub fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("`{}` cannot be read", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("`{}` cannot be read", folder.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().with_context(|| format!("`{}`", entry.path().display()))?;
            let at_top = folder == root;
            let built = at_top && (name.starts_with("target") || name == "runs" || name == "models");
            let hidden = name.starts_with('.') && !(at_top && (name == ".ci" || name == ".cargo"));
            if kind.is_dir() && !built && !hidden && name != "__pycache__" {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a rule about text applies; data and goldens are not ours to word.
fn is_text(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let written = ["rs", "cpp", "h", "cu", "toml", "yaml", "yml", "md", "py", "sh"].contains(&extension.as_ref());
    (written && !path.starts_with("data/samples")) || path.starts_with(".ci")
}

fn name_problem(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_string_lossy();
    let code = path.extension().is_some_and(|extension| ["rs", "py", "cpp", "h"].iter().any(|ours| extension == *ours));
    let folder = path.parent()?.file_name().unwrap_or_default().to_string_lossy();
    let empty = |name: &str| EMPTY_NAMES.contains(&name);
    // `tests/common/mod.rs` is Rust's own way to share code between test programs.
    let shared_test_code = path.parent().is_some_and(|parent| parent.ends_with("tests/common"));
    // `native/cpp/gloo` stands for another project's headers and keeps their paths.
    let foreign = path.starts_with("native/cpp/gloo");
    if code && !foreign && (empty(&stem) || (empty(&folder) && !shared_test_code)) {
        return Some(format!("{}: name the file for what is in it", path.display()));
    }
    let native = path.starts_with("native");
    let cpp = path.extension().is_some_and(|extension| ["cpp", "cc", "cu", "h", "hpp"].iter().any(|c| extension == *c));
    (cpp && !native).then(|| format!("{}: C++ belongs to `native`", path.display()))
}

fn text_problems(path: &Path, text: &str) -> Vec<String> {
    let rust = path.extension().is_some_and(|extension| extension == "rs");
    let mut problems = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let mut report = |what: &str| problems.push(format!("{}:{}: {what}", path.display(), at + 1));
        if rust && !path.starts_with("native") && has_unsafe(line) {
            report("`unsafe` belongs to `native`");
        }
        if rust && UNFINISHED.iter().any(|word| code(line).contains(word)) {
            report("finish it or return an error");
        }
        if MACHINE_FOLDERS.iter().any(|folder| names_folder(line, folder)) {
            report("a path of one machine");
        }
    }
    problems
}

/// A line of Rust without its comment (an address in a string cuts it short, which hides nothing).
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Whether a line of code opens something unsafe; the word in a comment or a lint's name is no breach.
fn has_unsafe(line: &str) -> bool {
    let opens = |rest: &str| ["{", "fn", "impl", "extern", "trait"].iter().any(|form| rest.starts_with(form));
    code(line).split("unsafe ").skip(1).any(opens)
}

/// Whether `folder` begins a path in `line`: not when it stands inside one, as in `docs/home/`.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "./_-}$~*>".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> String {
        text_problems(Path::new(path), text).join("\n")
    }

    #[test]
    fn unsafe_is_refused_outside_native_only() {
        let text = "//! says unsafe {\nfn f() { unsafe { g() } }";
        assert!(problems("model/src/a.rs", text).starts_with("model/src/a.rs:2:"));
        assert_eq!(problems("native/src/a.rs", text), "");
        assert_eq!(problems("model/src/lib.rs", "#![deny(unsafe_code)]"), "");
    }

    #[test]
    fn unfinished_code_and_machine_paths_are_refused() {
        assert!(problems("a.rs", concat!("todo", "!()")).contains("finish"));
        assert_eq!(problems("a.rs", concat!("//! # let model = todo", "!();")), "");
        assert!(problems("docs/a.md", concat!("see `/ho", "me/me/x`")).contains("one machine"));
        assert_eq!(problems("docs/a.md", concat!("see `docs/ho", "me/x`")), "");
    }

    #[test]
    fn empty_names_and_stray_cpp_are_refused() {
        for wrong in ["data/src/utils.rs", "model/src/common/rope.rs", "data/src/a.cpp"] {
            assert!(name_problem(Path::new(wrong)).is_some(), "{wrong}");
        }
        for fine in ["native/cpp/c10d.cpp", "model/src/rope.rs", "pipeline/tests/common/mod.rs", "docs/types.md"] {
            assert_eq!(name_problem(Path::new(fine)), None, "{fine}");
        }
    }
}
