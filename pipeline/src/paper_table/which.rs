//! Which of a table's experiments are run.

use super::config::PaperTable;
use crate::config::problem::suggestion;
use crate::failure::InputError;

/// Which of a table's experiments are run where they are not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Each of them.
    All,
    /// Those of these names; a table of many hours is filled in parts.
    Only(Vec<String>),
    /// None: what exists is shown.
    None,
}

impl Which {
    /// As `--no-run` and `--only` say it.
    #[must_use]
    pub fn asked(no_run: bool, only: Vec<String>) -> Self {
        match (no_run, only.is_empty()) {
            (true, _) => Self::None,
            (false, true) => Self::All,
            (false, false) => Self::Only(only),
        }
    }

    /// Whether this one is.
    #[must_use]
    pub fn has(&self, experiment: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.iter().any(|name| name == experiment),
            Self::None => false,
        }
    }

    /// Whether the table has what is asked for.
    ///
    /// # Errors
    /// A name that the table has no experiment of.
    pub fn check(&self, paper: &PaperTable) -> Result<(), InputError> {
        let Self::Only(names) = self else { return Ok(()) };
        match names.iter().find(|name| !paper.experiments.contains_key(*name)) {
            None => Ok(()),
            Some(name) => {
                let known: Vec<&str> = paper.experiments.keys().map(String::as_str).collect();
                let text = format!("`--only {name}`: the table has no experiment of this name");
                Err(InputError::new(text, suggestion(name, &known)))
            }
        }
    }
}
