//! `monopass run|prepare|train|evaluate|report`: the stages of an experiment file.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tch::Device;
use trainer::Ranks;

use super::{print_json, print_table};
use crate::cli::{ExperimentArgs, PrecisionArg};
use crate::config::check::{check, load_with_source};
use crate::config::experiment::{EvaluationPrecision, ExperimentConfig};
use crate::config::resolved::to_yaml;
use crate::failure::UsageError;
use crate::interrupt::StopFlag;
use crate::logging;
use crate::origin::{PROGRAM, command};
use crate::run_folder::{FolderLock, RunFolder};
use crate::stages::{Experiment, answer, decoder_needs, evaluate, heads, plan, prepare, report, train};
use crate::write_whole::write_whole;

/// Which stages a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Data sets only.
    Prepare,
    /// Data sets and training.
    Train,
    /// Evaluation, of what is trained.
    Evaluate,
    /// The report, of what is evaluated.
    Report,
    /// All.
    All,
}

/// Runs the stages.
///
/// # Errors
/// Whatever stopped a stage.
pub fn run(args: &ExperimentArgs, until: Until) -> anyhow::Result<()> {
    let (mut config, source) = load_with_source(&args.file, &args.set)?;
    apply_arguments(&mut config, args)?;
    let folder = RunFolder::new(&config.output_dir, &config.name);
    let mut problems = check(&config);
    if matches!(until, Until::Train | Until::All) {
        problems.extend(plan::uneven_steps(&config, &folder));
    }
    if !problems.is_empty() {
        return Err(source.error(problems).into());
    }
    if args.dry_run {
        return plan::print(&config, &source, &folder, args.json);
    }
    let stop = StopFlag::listen()?;
    let ranks = join(&config, until)?;
    let experiment = Experiment { config, source, folder, force: args.force, stop: &stop, ranks };
    // The other ranks begin when rank 0 holds the folder.
    let begun = if experiment.ranks.is_main() { begin(&experiment).map(Some) } else { Ok(None) };
    let (_lock, begun) = match begun {
        Ok(lock) => (lock, Ok(())),
        Err(error) => (None, Err(error)),
    };
    experiment.agree(begun)?;
    tracing::debug!("{PROGRAM}: {}", command());
    if matches!(until, Until::Evaluate | Until::Report) && experiment.ranks.is_main() {
        train::warn_of_other_settings(&experiment);
    }
    let does = |stage: Until| until == Until::All || until == stage;
    if does(Until::Prepare) || does(Until::Train) {
        prepare::run(&experiment)?;
    }
    if does(Until::Train) {
        experiment.agree(decoder_needs::check(&experiment))?;
        train::run(&experiment)?;
        heads::run(&experiment)?;
    }
    let mut tables = Vec::new();
    if does(Until::Evaluate) {
        if until == Until::Evaluate {
            // Data the training did not need.
            prepare::run(&experiment)?;
            experiment.agree(decoder_needs::check(&experiment))?;
        }
        tables = evaluate::run(&experiment)?;
        tables.extend(answer::run(&experiment)?);
        if experiment.ranks.is_main() && !tables.is_empty() {
            write_whole(&experiment.folder.tables_config(), to_yaml(&experiment.config)?.as_bytes())?;
        }
    }
    if does(Until::Report) {
        // All ranks end as rank 0 does.
        let reported =
            if experiment.ranks.is_main() { report::run(&experiment, until == Until::Report) } else { Ok(()) };
        experiment.agree(reported)?;
    }
    if experiment.ranks.is_main() { finish(&experiment, &tables, args.json) } else { Ok(()) }
}

/// Takes the run's folder and writes what is done in it.
fn begin(experiment: &Experiment<'_>) -> anyhow::Result<FolderLock> {
    let folder = &experiment.folder;
    let lock = folder.lock()?;
    logging::write_to(&folder.log()).with_context(|| format!("cannot open `{}`", folder.log().display()))?;
    write_whole(&folder.config(), to_yaml(&experiment.config)?.as_bytes())?;
    Ok(lock)
}

/// Tables on stdout, or where everything is.
fn finish(experiment: &Experiment<'_>, tables: &[evaluator::table::Table], as_json: bool) -> anyhow::Result<()> {
    let folder = &experiment.folder;
    if as_json {
        let report: Option<PathBuf> = Some(folder.report()).filter(|path| path.exists());
        return print_json(&json!({"run": folder.root(), "report": report, "tables": tables}));
    }
    if let Some(first) = tables.first() {
        print_table(first)?;
        let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        tracing::info!("tables: {} ({})", folder.tables().display(), names.join(", "));
    }
    let stages = experiment.stages().iter().map(|stage| folder.model(&stage.name));
    let models = stages.map(|model| ("model", model));
    let kept = models.chain([
        ("predictions", folder.predictions()),
        ("report", folder.report()),
        ("run", folder.root().to_owned()),
    ]);
    for (name, path) in kept.filter(|(_, path)| path.exists()) {
        tracing::info!("{name}: {}", path.display());
    }
    Ok(())
}

/// `--precision` and `--device` stand above the file.
fn apply_arguments(config: &mut ExperimentConfig, args: &ExperimentArgs) -> anyhow::Result<()> {
    if let Some(device) = &args.device {
        config.model.device = device.parse()?;
    }
    let Some(precision) = args.precision else { return Ok(()) };
    config.model.precision = match precision {
        PrecisionArg::Fp32 => EvaluationPrecision::Fp32,
        PrecisionArg::Bf16 | PrecisionArg::Bf16Master => EvaluationPrecision::Bf16,
    };
    for stage in config.train.iter_mut().flat_map(|train| &mut train.stages) {
        stage.settings.precision = precision.training();
    }
    Ok(())
}

/// Joins the other processes, where there are any.
fn join(config: &ExperimentConfig, until: Until) -> anyhow::Result<Ranks> {
    let several = std::env::var("WORLD_SIZE").is_ok_and(|size| size.trim() != "1");
    if !several {
        return Ok(Ranks::single());
    }
    if until == Until::Report {
        return Err(UsageError::new(
            "WORLD_SIZE is set, but this command works in one process",
            "only `prepare`, `train`, `evaluate` and `run` use several; unset WORLD_SIZE",
        )
        .into());
    }
    let seconds = config.stages().iter().map(|stage| stage.settings.collective_timeout_seconds).max().unwrap_or(600);
    let cuda = matches!(config.model.device.resolve()?, Device::Cuda(_));
    Ok(Ranks::from_env(Duration::from_secs(seconds), cuda)?)
}
