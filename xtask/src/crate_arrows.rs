//! Compares what the crates depend on with the arrows that ARCHITECTURE.md draws.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context, Result, bail};

use crate::repository::{Repository, shown};

/// Crate -> the crates of the workspace it may name.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Errors are typed in libraries; `anyhow` is for the programs' edge.
const MAY_USE_ANYHOW: [&str; 2] = ["pipeline", "xtask"];

/// Fails on an arrow that is not drawn, on a drawn one that is gone, and on `anyhow` in a library.
///
/// # Errors
/// Lists every difference.
pub fn check(repository: &Repository) -> Result<()> {
    let path = repository.root.join("ARCHITECTURE.md");
    let text = fs::read_to_string(&path).with_context(|| format!("`{}` cannot be read", path.display()))?;
    let drawn = drawn(&text)?;

    let arguments = [
        "tree",
        "--workspace",
        "--locked",
        "--depth=1",
        "--no-dedupe",
        "--edges=normal,build",
        "--prefix=depth",
        "--format={p}",
    ];
    let mut command = repository.cargo(&arguments);
    let output = command.output().with_context(|| format!("`{}` cannot be started", shown(&command)))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", shown(&command), String::from_utf8_lossy(&output.stderr));
    }
    let (real, with_anyhow) = read_tree(&String::from_utf8_lossy(&output.stdout));
    let problems = differences(&drawn, &real, &with_anyhow);
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}

/// Reads the lines `crate -> crate, crate` of the block between `<!-- crate-arrows -->` and its end mark.
fn drawn(text: &str) -> Result<Arrows> {
    let block = text
        .split_once("<!-- crate-arrows -->")
        .and_then(|(_, rest)| rest.split_once("<!-- /crate-arrows -->"))
        .map(|(block, _)| block)
        .context("ARCHITECTURE.md has no block `<!-- crate-arrows -->`")?;
    let mut arrows = Arrows::new();
    for (from, to) in block.lines().filter_map(|line| line.split_once("->")) {
        let to = to.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "(none)");
        arrows.insert(from.trim().to_owned(), to.map(str::to_owned).collect());
    }
    Ok(arrows)
}

/// The folder of one of our packages: `monopass-data` is `data`, and `monopass`, named for its program, is `pipeline`.
fn folder_of(package: &str) -> Option<String> {
    match package {
        "monopass" => Some("pipeline".to_owned()),
        "xtask" => Some("xtask".to_owned()),
        other => other.strip_prefix("monopass-").map(str::to_owned),
    }
}

/// Reads `cargo tree --depth 1 --prefix depth --format {p}`: the arrows among our crates, and who uses `anyhow`.
fn read_tree(text: &str) -> (Arrows, BTreeSet<String>) {
    let mut arrows = Arrows::new();
    let mut with_anyhow = BTreeSet::new();
    let mut from = String::new();
    for (name, _) in text.lines().filter_map(|line| line.split_once(' ')) {
        if let Some(root) = name.strip_prefix('0') {
            from = folder_of(root).unwrap_or_else(|| root.to_owned());
            arrows.entry(from.clone()).or_default();
        } else if let Some(dependency) = name.strip_prefix('1') {
            if dependency == "anyhow" {
                with_anyhow.insert(from.clone());
            } else if let Some(to) = folder_of(dependency) {
                arrows.entry(from.clone()).or_default().insert(to);
            }
        }
    }
    (arrows, with_anyhow)
}

fn differences(drawn: &Arrows, real: &Arrows, with_anyhow: &BTreeSet<String>) -> Vec<String> {
    let mut problems = Vec::new();
    let empty = BTreeSet::new();
    for name in drawn.keys().chain(real.keys()).collect::<BTreeSet<_>>() {
        let (drawn, real) = (drawn.get(name).unwrap_or(&empty), real.get(name));
        let Some(real) = real else {
            problems.push(format!("ARCHITECTURE.md draws `{name}`, which is no crate of the workspace"));
            continue;
        };
        for extra in real.difference(drawn) {
            problems.push(format!("`{name}` depends on `{extra}`, an arrow that ARCHITECTURE.md does not draw"));
        }
        for gone in drawn.difference(real) {
            problems.push(format!("ARCHITECTURE.md draws `{name}` -> `{gone}`, which is not in its Cargo.toml"));
        }
    }
    for name in with_anyhow.iter().filter(|name| !MAY_USE_ANYHOW.contains(&name.as_str())) {
        problems.push(format!("`{name}` depends on `anyhow`: a library's errors are typed"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
0monopass-data v0.1.0 (/r/data)
1blake3 v1.8.2
1monopass-model v0.1.0 (/r/model)

0monopass-model v0.1.0 (/r/model)
1anyhow v1.0.1

0monopass v0.1.0 (/r/pipeline)
1monopass-data v0.1.0 (/r/data)

0xtask v0.1.0 (/r/xtask)
1anyhow v1.0.1
";

    #[test]
    fn the_tree_gives_our_arrows_and_the_users_of_anyhow() {
        let (arrows, with_anyhow) = read_tree(TREE);
        assert_eq!(arrows["data"], BTreeSet::from(["model".to_owned()]));
        assert_eq!(arrows["pipeline"], BTreeSet::from(["data".to_owned()]));
        assert!(arrows["model"].is_empty() && arrows["xtask"].is_empty());
        assert_eq!(with_anyhow, BTreeSet::from(["model".to_owned(), "xtask".to_owned()]));
    }

    #[test]
    fn every_kind_of_difference_is_reported() {
        let text = "<!-- crate-arrows -->\ndata -> (none)\nmodel -> native\npipeline -> data\nxtask -> (none)\ngone -> (none)\n\
                    <!-- /crate-arrows -->";
        let (real, with_anyhow) = read_tree(TREE);
        let problems = differences(&drawn(text).unwrap(), &real, &with_anyhow).join("\n");
        for expected in ["`data` depends on `model`", "`model` -> `native`", "`gone`", "`model` depends on `anyhow`"] {
            assert!(problems.contains(expected), "{problems}");
        }
        assert!(!problems.contains("`xtask`"), "{problems}");
    }

    #[test]
    fn a_page_without_the_block_is_an_error() {
        assert!(drawn("# Architecture").is_err());
    }
}
