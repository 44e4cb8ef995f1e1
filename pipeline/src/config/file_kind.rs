//! What kind of file it is: an experiment, a table or a sweep.

use std::fmt;

use super::load::ConfigSource;
use super::problem::ConfigError;

/// The kinds of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// What `monopass run` reads.
    Experiment,
    /// What `monopass table` reads.
    Table,
    /// What `monopass sweep` reads.
    Sweep,
}

impl FileKind {
    const ALL: [Self; 3] = [Self::Experiment, Self::Table, Self::Sweep];

    /// The kind that has most of the file's outermost keys to itself; an experiment where none has more than that.
    #[must_use]
    pub fn of(source: &ConfigSource) -> Self {
        let mut most = (0, Self::Experiment);
        for kind in Self::ALL {
            let own = kind.own_keys(source);
            if own > most.0 {
                most = (own, kind);
            }
        }
        most.1
    }

    /// How many of the file's keys only this kind has.
    fn own_keys(self, source: &ConfigSource) -> usize {
        let own: &[&str] = match self {
            Self::Experiment => &["model", "data", "train", "heads", "evaluate", "answer", "report"],
            Self::Table => &["columns", "rows", "experiments"],
            Self::Sweep => &["experiment", "over"],
        };
        source.keys().iter().filter(|key| own.contains(key)).count()
    }

    /// Refuses a file of another kind, where decoding would call all its keys unknown.
    ///
    /// # Errors
    /// The file's kind, and the command for it.
    pub fn expect(self, source: &ConfigSource) -> Result<(), ConfigError> {
        let found = Self::of(source);
        if found == self || found.own_keys(source) == 0 {
            return Ok(());
        }
        let named = |kind: Self| match kind {
            Self::Experiment => "the file of an experiment",
            Self::Table => "the file of a table",
            Self::Sweep => "the file of a sweep",
        };
        let command = match found {
            Self::Experiment => "run",
            Self::Table => "table",
            Self::Sweep => "sweep",
        };
        let mut fault =
            ConfigError::whole_file(&source.file, format!("this is {}, wanted {}", named(found), named(self)));
        fault.problems[0].1.hint = Some(format!("`monopass {command} {}`", source.file.display()));
        Err(fault)
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Experiment => "experiment",
            Self::Table => "table",
            Self::Sweep => "sweep",
        })
    }
}
