//! `monopass bench ..`: speed and memory of this machine, with the protocol that was measured.

use anyhow::Context as _;
use evaluator::bench::DecodeBench;
use evaluator::decode::{DecoderKind, NeededHead};
use trainer::heads::HeadBench;

use super::print_json;
use crate::cli::{BenchCommand, BenchDecodeArgs, BenchHeadArgs, BenchTrainStepArgs};
use crate::config::decode::decode;
use crate::config::problem::Problem;
use crate::failure::UsageError;
use crate::model_source;

/// Runs the command.
///
/// # Errors
/// When the model cannot be loaded or an argument is out of range.
pub fn run(command: BenchCommand) -> anyhow::Result<()> {
    match command {
        BenchCommand::TrainStep(args) => train_step(&args),
        BenchCommand::Decode(args) => bench_decode(&args),
        BenchCommand::Head(args) => head(&args),
        BenchCommand::Answer(args) => super::bench_answer::run(&args),
    }
}

fn train_step(args: &BenchTrainStepArgs) -> anyhow::Result<()> {
    if args.prompt_tokens == 0 || args.label_tokens == 0 || args.steps == 0 {
        let (prompt, label, steps) = (args.prompt_tokens, args.label_tokens, args.steps);
        return Err(UsageError::new(
            format!("got {prompt} prompt tokens, {label} label tokens and {steps} steps, wanted at least 1 of each"),
            "the defaults are 1500, 80 and 5",
        )
        .into());
    }
    let mut loaded = model_source::load(&args.model)?;
    let as_tokens = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let figures = trainer::bench::train_step(
        &mut loaded.model,
        as_tokens(args.prompt_tokens),
        as_tokens(args.label_tokens),
        args.steps,
        args.model.precision.training(),
        args.gradient_checkpointing,
    )?;
    if args.json {
        return print_json(&serde_json::to_value(&figures).context("cannot encode the figures")?);
    }
    println!("tokens per second   {:.1}", figures.tokens_per_second);
    println!(
        "seconds per step    {:.3} (forward {:.3}, backward {:.3}, optimiser {:.3})",
        figures.seconds, figures.forward_seconds, figures.backward_seconds, figures.optimizer_seconds
    );
    println!("peak memory         {:.0} MiB", figures.peak_rss_mib);
    println!("protocol            {}", figures.protocol);
    Ok(())
}

fn bench_decode(args: &BenchDecodeArgs) -> anyhow::Result<()> {
    let bench = DecodeBench {
        prompt_tokens: args.prompt_tokens,
        num_candidates: args.candidates,
        decoders: decoders(&args.decoders)?,
        repeats: args.repeats,
        warmup: args.warmup,
        batch: args.batch,
        ..DecodeBench::default()
    };
    let loaded = model_source::load(&args.model)?;
    let report = evaluator::bench::decode(&loaded.model, &bench, &mut |round| {
        tracing::debug!("round {} of {}", round + 1, args.warmup + args.repeats);
    })?;
    if args.json {
        return print_json(&serde_json::to_value(&report).context("cannot encode the figures")?);
    }
    println!(
        "{:<22} {:>8} {:>8} {:>7} {:>14} {:>12}",
        "decoder", "seconds", "p95", "passes", "prompt passes", "after model"
    );
    for timing in &report.timings {
        println!(
            "{:<22} {:>8.3} {:>8.3} {:>7} {:>14.2} {:>12}",
            timing.name,
            timing.seconds,
            timing.seconds_p95,
            timing.forward_passes,
            timing.prompt_passes,
            timing.share_after_model.map_or(String::new(), |share| format!("{:.1} %", 100.0 * share))
        );
    }
    println!("peak memory {:.0} MiB, {} threads", report.peak_rss_mib, report.threads);
    println!("protocol: {}", report.protocol);
    Ok(())
}

fn head(args: &BenchHeadArgs) -> anyhow::Result<()> {
    let Some(NeededHead::OnePass(settings)) = decoder(&args.decoder)?.head() else {
        let hint = "variants with a head are `one_pass`, `wo_mobius_1` and `wo_mobius_2`";
        return Err(UsageError::new(format!("decoder `{}` has no head of ONE-PASS", args.decoder), hint).into());
    };
    let bench = HeadBench { settings, num_candidates: args.candidates, num_lists: args.lists, epochs: args.epochs };
    let figures = bench.run()?;
    if args.json {
        return print_json(&serde_json::to_value(&figures).context("cannot encode the figures")?);
    }
    println!("seconds             {:.1}", figures.seconds);
    println!("seconds per epoch   {:.2}", figures.seconds_per_epoch);
    println!("protocol            {}", figures.protocol);
    Ok(())
}

/// The named decoders, or all.
///
/// # Errors
/// For a name that is none.
pub fn decoders(names: &[String]) -> Result<Vec<DecoderKind>, UsageError> {
    if names.is_empty() {
        return Ok(DecoderKind::PLAIN.to_vec());
    }
    names.iter().map(|name| decoder(name)).collect()
}

/// Problems of a value in one line.
fn words(problems: &[Problem]) -> String {
    let one = |problem: &Problem| {
        format!("`{}`: {} {}", problem.path, problem.message, problem.hint.as_deref().unwrap_or_default())
    };
    problems.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The named decoder, or `{name: {settings}}`.
///
/// # Errors
/// For a name that is none.
pub fn decoder(name: &str) -> Result<DecoderKind, UsageError> {
    if name.trim_start().starts_with('{') {
        let hint = "write it as in an experiment file: `{one_pass: {n_group: 4}}`";
        let kind: DecoderKind = serde_yaml::from_str::<serde_yaml::Value>(name)
            .map_err(|error| error.to_string())
            .and_then(|value| decode(value).map_err(|problems| words(&problems)))
            .map_err(|problem| UsageError::new(format!("decoder `{name}`: {problem}"), hint))?;
        return match kind.validate().first() {
            Some(problem) => Err(UsageError::new(format!("decoder `{name}`: {problem}"), hint)),
            None => Ok(kind),
        };
    }
    DecoderKind::from_name(name).ok_or_else(|| {
        let known = DecoderKind::all();
        let known: Vec<&str> = known.iter().map(DecoderKind::method).collect();
        UsageError::new(format!("there is no decoder `{name}`"), crate::config::problem::suggestion(name, &known))
    })
}
