//! What is wrong with an experiment file, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use super::key_path::KeyPath;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// 1-based line of the file.
    Line(usize),
    /// A `--set` argument.
    Override(String),
    /// Not written anywhere (a default, or a key that is missing).
    Absent,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key.
    pub path: KeyPath,
    /// Got, then wanted.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem at `path` (dotted text).
    pub fn new(path: impl AsRef<str>, message: impl Into<String>) -> Self {
        Self { path: KeyPath::parse(path.as_ref()), message: message.into(), hint: None }
    }

    /// With a next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// All problems of one file, each with its place.
#[derive(Debug)]
pub struct ConfigError {
    /// The experiment file.
    pub file: PathBuf,
    /// In the order they were found.
    pub problems: Vec<(Origin, Problem)>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (origin, problem)) in self.problems.iter().enumerate() {
            if place > 0 {
                writeln!(f)?;
            }
            match origin {
                Origin::Line(line) => write!(f, "{}:{line}: ", self.file.display())?,
                Origin::Override(text) => write!(f, "--set {text}: ")?,
                Origin::Absent => write!(f, "{}: ", self.file.display())?,
            }
            if !problem.path.0.is_empty() {
                write!(f, "`{}`: ", problem.path)?;
            }
            write!(f, "{}", problem.message)?;
            if let Some(hint) = &problem.hint {
                write!(f, "\n  hint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl ConfigError {
    /// One problem of the whole file.
    pub fn whole_file(file: &Path, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), problems: vec![(Origin::Absent, Problem::new("", message))] }
    }
}

/// The candidate nearest to `got`, when it is near enough to be a slip of the keyboard.
pub fn nearest<'a>(got: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = got.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            let close = strsim::jaro_winkler(&lower, &candidate.to_lowercase());
            let edits = strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
            (candidate, close, edits)
        })
        .filter(|(candidate, close, edits)| *edits <= 2.max(candidate.len() / 3) && *close > 0.7)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(candidate, _, _)| candidate)
}

/// `did you mean ..` or the list of what is known.
pub fn suggestion(got: &str, candidates: &[&str]) -> String {
    match nearest(got, candidates.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if candidates.is_empty() => "nothing can stand here".to_owned(),
        None => {
            format!("known here: {}", candidates.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let keys = ["learning_rate", "max_steps", "objective"];
        assert_eq!(nearest("lerning_rate", keys), Some("learning_rate"));
        assert_eq!(nearest("maxsteps", keys), Some("max_steps"));
        assert_eq!(nearest("banana", keys), None);
    }
}
