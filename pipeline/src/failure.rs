//! How the program ends: whose fault it was decides the exit code.

use std::process::ExitCode;

use data::DataError;
use evaluator::EvaluatorError;
use launch::LaunchError;
use model::ModelError;
use trainer::TrainError;

use crate::config::problem::ConfigError;

/// Exit codes; `monopass help` prints them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All done.
    Done = 0,
    /// The command line or the experiment file is wrong.
    Usage = 2,
    /// A data set, model folder or checkpoint is missing, malformed or damaged.
    Data = 3,
    /// Something failed on the way: memory, disk, another process, numbers that are not finite.
    Runtime = 4,
    /// Ended by Ctrl-C or SIGTERM; training is checkpointed.
    Interrupted = 130,
}

impl Ending {
    /// From an exit code; one of another kind is a failure on the way.
    #[must_use]
    pub fn of_code(code: u8) -> Self {
        let all = [Self::Done, Self::Usage, Self::Data, Self::Interrupted];
        all.into_iter().find(|ending| *ending as u8 == code).unwrap_or(Self::Runtime)
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        ExitCode::from(ending as u8)
    }
}

/// The command asks for something that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{message}{}", hint.as_ref().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default())]
pub struct UsageError {
    /// Got, then wanted.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl UsageError {
    /// With a next step.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()) }
    }
}

/// Input that is missing or cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{message}{}", hint.as_ref().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default())]
pub struct InputError {
    /// Got, then wanted.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl InputError {
    /// With a next step.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()) }
    }
}

/// Stopped by a signal after everything was saved.
#[derive(Debug, thiserror::Error)]
#[error("interrupted: {saved}")]
pub struct Interrupted {
    /// What is kept and how to go on.
    pub saved: String,
}

/// Another rank failed; this one ends as that one does, so that a launcher reads the same from whichever it hears first.
#[derive(Debug, thiserror::Error)]
#[error("rank {rank} failed; its message says why")]
pub struct OtherRankFailed {
    /// Which.
    pub rank: usize,
    /// How it ends.
    pub ending: Ending,
}

/// The exit code of an error.
pub fn ending(error: &anyhow::Error) -> Ending {
    for cause in error.chain() {
        if cause.is::<Interrupted>() {
            return Ending::Interrupted;
        }
        if cause.is::<ConfigError>() || cause.is::<UsageError>() {
            return Ending::Usage;
        }
        if cause.is::<InputError>() {
            return Ending::Data;
        }
        if let Some(other) = cause.downcast_ref::<OtherRankFailed>() {
            return other.ending;
        }
        if let Some(launch) = cause.downcast_ref::<LaunchError>() {
            return of_launch(launch);
        }
        if let Some(train) = cause.downcast_ref::<TrainError>() {
            return of_train(train);
        }
        if let Some(evaluator) = cause.downcast_ref::<EvaluatorError>() {
            return of_evaluator(evaluator);
        }
        if let Some(data) = cause.downcast_ref::<DataError>() {
            return of_data(data);
        }
        if let Some(model) = cause.downcast_ref::<ModelError>() {
            return of_model(model);
        }
    }
    Ending::Runtime
}

/// The whole chain in one text: what was being done, then why it failed. A cause that the text before already holds is not
/// said twice.
pub fn in_full(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

/// Whoever read our stdout went away: no error of ours.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

fn of_data(error: &DataError) -> Ending {
    match error {
        DataError::Write { .. } | DataError::Tensor(_) | DataError::WorkerStopped { .. } => Ending::Runtime,
        DataError::Config { .. } => Ending::Usage,
        DataError::Tokenizer(model) => of_model(model),
        _ => Ending::Data,
    }
}

/// A rank's exit code is the launcher's.
fn of_launch(error: &LaunchError) -> Ending {
    match error {
        LaunchError::Plan { .. } => Ending::Usage,
        LaunchError::Signalled { .. } => Ending::Interrupted,
        LaunchError::RankFailed { code: Some(code), .. } => [Ending::Usage, Ending::Data, Ending::Interrupted]
            .into_iter()
            .find(|ending| *ending as i32 == *code)
            .unwrap_or(Ending::Runtime),
        _ => Ending::Runtime,
    }
}

fn of_train(error: &TrainError) -> Ending {
    match error {
        TrainError::Config { .. } | TrainError::Environment { .. } => Ending::Usage,
        TrainError::Data { source, .. } => of_data(source),
        TrainError::Model(model) => of_model(model),
        TrainError::EmptySteps { .. }
        | TrainError::DamagedCheckpoint { .. }
        | TrainError::NoUsableCheckpoint { .. }
        | TrainError::OtherRun { .. } => Ending::Data,
        _ => Ending::Runtime,
    }
}

fn of_evaluator(error: &EvaluatorError) -> Ending {
    use EvaluatorError as E;
    match error {
        E::Config { .. } | E::UnknownMeasure { .. } | E::DecoderNotRun { .. } | E::NoHead { .. } => Ending::Usage,
        E::Data(data) => of_data(data),
        E::Model(model) => of_model(model),
        E::Interrupted => Ending::Interrupted,
        E::Write { .. } | E::Tensor(_) | E::NonFiniteLogits { .. } | E::Report { .. } => Ending::Runtime,
        _ => Ending::Data,
    }
}

fn of_model(error: &ModelError) -> Ending {
    match error {
        ModelError::Write { .. } | ModelError::Torch(_) => Ending::Runtime,
        ModelError::Groups { .. } => Ending::Usage,
        _ => Ending::Data,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_cause_decides_whatever_was_said_around_it() {
        let malformed = DataError::Malformed { path: "a.jsonl".into(), line: 3, message: "no `query`".into() };
        let error: anyhow::Error = Err::<(), _>(malformed).context("preparing `train`").unwrap_err();
        assert_eq!(ending(&error), Ending::Data);
        assert_eq!(ending(&UsageError::new("x", "y").into()), Ending::Usage);
        assert_eq!(ending(&anyhow::anyhow!("out of memory")), Ending::Runtime);
        assert_eq!(ending(&Interrupted { saved: "step 3".into() }.into()), Ending::Interrupted);
    }
}
