//! Reads an experiment file: text, variables, overrides, types; every fault gets its place.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_yaml::Value;

use super::decode::decode;
use super::environment::interpolate;
use super::key_path::KeyPath;
use super::locate::locate;
use super::problem::{ConfigError, Origin, Problem};
use super::set_override::SetOverride;
use super::stage_settings;

/// Where the values of a file came from; turns problems into places.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    /// The file.
    pub file: PathBuf,
    text: String,
    /// Value after variables and overrides, before stage settings are spread.
    written: Value,
    overrides: Vec<(SetOverride, KeyPath)>,
}

impl ConfigSource {
    /// Reads the file and applies `overrides` (`key.path=value`).
    ///
    /// # Errors
    /// When the file cannot be read, is no YAML, uses a variable that is not set, or an override leads nowhere.
    pub fn read(file: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            let mut fault = ConfigError::whole_file(file, format!("cannot read the file: {error}"));
            fault.problems[0].1.hint = Some("`monopass config ls` lists the experiment files at hand".to_owned());
            fault
        })?;
        Self::from_text(file, text, overrides)
    }

    /// As [`Self::read`], from text; `file` is only printed.
    pub fn from_text(file: &Path, text: String, overrides: &[String]) -> Result<Self, ConfigError> {
        let written = parse(file, &text)?;
        let mut source = Self { file: file.to_owned(), text, written, overrides: Vec::new() };
        let mut value = source.written.clone();
        let problems = interpolate(&mut value, &|name| std::env::var(name).ok());
        if !problems.is_empty() {
            return Err(source.error(problems));
        }
        let mut problems = Vec::new();
        for text in overrides {
            match SetOverride::parse(text) {
                Ok(parsed) => match parsed.apply(&mut value) {
                    Ok(reached) => source.overrides.push((parsed, reached)),
                    Err(problem) => problems.push((Origin::Override(text.clone()), problem)),
                },
                Err(problem) => problems.push((Origin::Override(text.clone()), problem)),
            }
        }
        if !problems.is_empty() {
            return Err(ConfigError { file: file.to_owned(), problems });
        }
        source.written = value;
        Ok(source)
    }

    /// The file without what was set from the command line.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn as_written(&self) -> Result<Self, ConfigError> {
        Self::from_text(&self.file, self.text.clone(), &[])
    }

    /// Keys of the file's outermost level.
    #[must_use]
    pub fn keys(&self) -> Vec<&str> {
        self.written.as_mapping().into_iter().flatten().filter_map(|(key, _)| key.as_str()).collect()
    }

    /// The typed value.
    ///
    /// # Errors
    /// Every unknown key and wrong type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let mut value = self.written.clone();
        let mut problems = stage_settings::spread(&mut value);
        match decode(value) {
            Ok(decoded) if problems.is_empty() => Ok(decoded),
            Ok(_) => Err(self.error(problems)),
            Err(found) => {
                problems.extend(found);
                Err(self.error(problems))
            }
        }
    }

    /// `problems` with their places, each once.
    pub fn error(&self, problems: Vec<Problem>) -> ConfigError {
        let mut placed: Vec<(Origin, Problem)> = Vec::new();
        for mut problem in problems {
            problem.path = stage_settings::as_written(&problem.path, &self.written);
            let entry = (self.origin(&problem.path), problem);
            if !placed.contains(&entry) {
                placed.push(entry);
            }
        }
        ConfigError { file: self.file.clone(), problems: placed }
    }

    /// Where the value at `path` was written.
    pub fn origin(&self, path: &KeyPath) -> Origin {
        let by_override = self.overrides.iter().rev().find(|(_, reached)| {
            path.0.starts_with(&reached.0) || reached.0.starts_with(&path.0) && path.get(&self.written).is_none()
        });
        if let Some((parsed, _)) = by_override {
            return Origin::Override(parsed.text.clone());
        }
        locate(&self.text, path).map_or(Origin::Absent, |(line, _)| Origin::Line(line))
    }
}

fn parse(file: &Path, text: &str) -> Result<Value, ConfigError> {
    let value: Value = serde_yaml::from_str(text).map_err(|error| {
        let mut line = error.location().map_or(Origin::Absent, |at| Origin::Line(at.line()));
        let message = error.to_string();
        if let Some(second) = second_of_duplicates(text, &message) {
            line = Origin::Line(second);
        }
        let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
        let mut problem = Problem::new("", message.clone());
        if message.contains("duplicate entry") {
            problem = problem.hint("a key may stand only once in a map; remove one of the two");
        } else if message.contains("tab") || message.contains("cannot start any token") {
            problem = problem.hint("YAML is indented with spaces, and text that holds `: `, `#` or `@` needs quotes");
        }
        ConfigError { file: file.to_owned(), problems: vec![(line, problem)] }
    })?;
    match value {
        Value::Mapping(_) => Ok(value),
        Value::Null => Err(ConfigError::whole_file(file, "the file is empty")),
        _ => Err(ConfigError::whole_file(
            file,
            "got a single value, wanted a map of keys (`name:`, `model:`, `data:`, ...)",
        )),
    }
}

/// Line of a key's second occurrence in one map; the parser only tells where the map begins.
fn second_of_duplicates(text: &str, message: &str) -> Option<usize> {
    let key = message.split_once("duplicate entry with key \"")?.1.split('"').next()?;
    let indent_of = |line: &str| line.len() - line.trim_start().len();
    let is_key = |line: &str| {
        let rest = line.trim_start().trim_start_matches("- ").strip_prefix(key);
        rest.is_some_and(|rest| rest.trim_start().starts_with(':'))
    };
    let found: Vec<(usize, usize)> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| is_key(line))
        .map(|(number, line)| (number + 1, indent_of(line)))
        .collect();
    found.windows(2).find(|pair| pair[0].1 == pair[1].1).map(|pair| pair[1].0)
}
