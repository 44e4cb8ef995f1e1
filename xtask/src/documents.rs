//! Checks that the documents speak of things that exist: links, files, `cargo xtask` commands.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{arguments, house_rules, repository::Repository};

/// A path in backticks is checked when it begins with one of these.
const FOLDERS: [&str; 14] = [
    "configs/",
    "docs/",
    "benches/",
    "tests/",
    "native/",
    "model/",
    "data/",
    "trainer/",
    "evaluator/",
    "pipeline/",
    "launch/",
    "xtask/",
    ".ci/",
    ".cargo/",
];

/// Checks every Markdown file of the working tree.
///
/// # Errors
/// Lists every dead link, missing file, unknown command and unclosed mark with its file and line.
pub fn check(repository: &Repository) -> Result<()> {
    let mut problems = Vec::new();
    for path in house_rules::files(&repository.root)? {
        if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(&path).with_context(|| format!("`{}` cannot be read", path.display()))?;
            let shown = path.strip_prefix(&repository.root).unwrap_or(&path).display().to_string();
            for (line, problem) in page_problems(&repository.root, &path, &text) {
                problems.push(format!("{shown}:{line}: {problem}"));
            }
        }
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}

fn page_problems(root: &Path, page: &Path, text: &str) -> Vec<(usize, String)> {
    let mut problems = Vec::new();
    let here = page.parent().unwrap_or(root);
    for (at, line) in text.lines().enumerate() {
        let mut report = |problem: String| problems.push((at + 1, problem));
        for target in links(line) {
            if !exists(here, target) {
                report(format!("the link `{target}` leads nowhere"));
            }
        }
        for word in line.split('`').skip(1).step_by(2).filter(|word| is_path(word)) {
            if !exists(root, word) && !exists(here, word) {
                report(format!("there is no `{word}`"));
            }
        }
        for command in xtask_commands(line) {
            if let Err(message) = arguments::parse(std::slice::from_ref(&command.to_owned())) {
                report(format!("`cargo xtask {command}`: {message}"));
            }
        }
        if let Some(mark) = mark(line).filter(|mark| !mark.starts_with('/'))
            && !text.contains(&format!("<!-- /{mark} -->"))
        {
            report(format!("the mark `{mark}` is not closed"));
        }
    }
    problems.extend(stale_excerpts(root, text));
    problems
}

/// Excerpts of files: a fenced block whose first line is `# PATH` must stand in that file word for word.
fn stale_excerpts(root: &Path, text: &str) -> Vec<(usize, String)> {
    let mut problems = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if !line.starts_with("```") {
            continue;
        }
        let block: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| !line.starts_with("```")).collect();
        let Some((path, excerpt)) =
            block.split_first().and_then(|(first, rest)| Some((first.strip_prefix("# ")?, rest)))
        else {
            continue;
        };
        if is_path(path) && !fs::read_to_string(root.join(path)).unwrap_or_default().contains(&excerpt.join("\n")) {
            problems.push((at + 1, format!("the excerpt is not what stands in `{path}`")));
        }
    }
    problems
}

/// The local targets of `[text](target)` links.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    targets.filter(|target| !target.contains("://") && !target.starts_with('#') && !target.starts_with("mailto:"))
}

fn is_path(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    FOLDERS.iter().any(|folder| word.starts_with(folder)) && word.chars().all(plain)
}

fn exists(folder: &Path, target: &str) -> bool {
    let target = target.split('#').next().unwrap_or_default();
    let path: PathBuf = folder.join(target);
    path.exists()
}

/// The first word after each `cargo xtask`, when it is a plain word.
fn xtask_commands(line: &str) -> impl Iterator<Item = &str> {
    line.split("cargo xtask ").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '-')).unwrap_or(rest.len());
        Some(rest[..end].trim_end_matches('-')).filter(|word| !word.is_empty())
    })
}

/// The name in `<!-- name -->` when it stands alone on its line and is one word.
fn mark(line: &str) -> Option<&str> {
    let name = line.trim().strip_prefix("<!--")?.strip_suffix("-->")?.trim();
    (!name.is_empty() && !name.contains(char::is_whitespace)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<(usize, String)> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("docs")).unwrap();
        fs::write(folder.path().join("docs/formats.md"), "a: 1\nb: 2\nc: 3\n").unwrap();
        page_problems(folder.path(), &folder.path().join("README.md"), text)
    }

    #[test]
    fn what_exists_is_accepted() {
        let text = "see [formats](docs/formats.md#runs), `docs/formats.md` and [a site](https://example.org/x)\n\
                    `cargo xtask test` and `cargo xtask setup --cuda`; `configs/<name>.yaml`\n<!-- table -->\n1\n<!-- /table -->";
        assert_eq!(problems(text), []);
    }

    #[test]
    fn an_excerpt_has_to_be_what_the_file_says() {
        assert_eq!(problems("```yaml\n# docs/formats.md\nb: 2\nc: 3\n```\n```\n# a comment\n```\n"), []);
        assert_eq!(problems("text\n```yaml\n# docs/formats.md\nb: 3\n```\n")[0].0, 2);
        assert_eq!(problems("```yaml\n# configs/none.yaml\nb: 3\n```\n").len(), 1);
    }

    #[test]
    fn what_does_not_exist_is_reported_with_its_line() {
        let text = "[x](docs/none.md)\n`configs/none.yaml`\n`cargo xtask instal`\n<!-- table -->\n";
        let found = problems(text);
        let lines: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 2, 3, 4], "{found:?}");
    }
}
