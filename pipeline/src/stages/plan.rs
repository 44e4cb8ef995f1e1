//! `--dry-run`: what would be done, and what it would take.

use std::path::PathBuf;

use data::branched::BranchedSetConfig;
use data::prepared::{Card, Counts};
use data::sources::{RankingSetConfig, SourceConfig};
use evaluator::decode::DecoderKind;
use model::ModelConfig;
use model::estimate::{self, TrainingMemorySettings};
use serde_json::{Value, json};
use tch::Device;
use trainer::TrainConfig;
use trainer::config::Distribution;
use trainer::objectives::TrainsOn;

use crate::commands::print_json;
use crate::config::experiment::{ExperimentConfig, StageSection};
use crate::config::load::ConfigSource;
use crate::config::problem::Problem;
use crate::hub;
use crate::run_folder::RunFolder;

/// Label tokens of a micro-batch, as a share of its tokens, where nothing is known yet.
const LABEL_SHARE: i64 = 20;

/// Prints the plan; downloads and writes nothing.
///
/// # Errors
/// When stdout cannot be written.
pub fn print(
    config: &ExperimentConfig,
    source: &ConfigSource,
    folder: &RunFolder,
    as_json: bool,
) -> anyhow::Result<()> {
    let model = local_model(&config.model.path);
    let device = config.model.device.resolve().ok();
    let mut sets: Vec<Value> = config.data.sets.iter().map(|(name, set)| plan_set(folder, name, set)).collect();
    sets.extend(config.data.branched.iter().map(|(name, set)| plan_branched(folder, name, set)));
    let stages: Vec<Value> =
        config.stages().iter().map(|stage| plan_stage(config, stage, folder, model.as_ref())).collect();
    let evaluations = config.evaluate.as_ref().map(|evaluate| {
        let decoders: Vec<String> = evaluate.decoders.iter().map(DecoderKind::name).collect();
        json!({"sets": evaluate.sets, "models": evaluate.models, "decoders": decoders})
    });
    let heads = config.heads.as_ref().map(|heads| json!({"train": heads.train, "validation": heads.validation}));
    let plan = json!({
        "file": source.file,
        "run": folder.root(),
        "model": {
            "path": config.model.path,
            "parameters": model.as_ref().map(|model| estimate::parameters(model).total),
            "available": hub::is_local(&config.model.path),
        },
        "device": device.map_or_else(|| config.model.device.to_string(), device_name),
        "available_memory_mib": device.and_then(available_mib).map(|mib| mib.round() as i64),
        "sets": sets,
        "stages": stages,
        "heads": heads,
        "evaluate": evaluations,
        "answer": config.answer.as_ref().map(|answer| json!({"sets": answer.sets, "systems": answer.systems})),
    });
    if as_json {
        return print_json(&plan);
    }
    print_text(&plan);
    Ok(())
}

fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    }
}

/// What the device could still give to this process.
fn available_mib(device: Device) -> Option<f64> {
    match device {
        Device::Cuda(index) => native::memory::cuda_device(index).map(|memory| memory.free_mib),
        _ => Some(native::memory::available_mib()),
    }
}

fn local_model(path: &str) -> Option<ModelConfig> {
    let folder = model::folder::resolve(path, None).ok()?;
    ModelConfig::load(&folder).ok()
}

fn plan_set(folder: &RunFolder, name: &str, set: &RankingSetConfig) -> Value {
    json!({
        "name": name,
        "source": set.source.kind(),
        "lists": num_lists(folder, name, set),
        "prepared": folder.set(name).exists(),
        "missing_files": missing(set.files()),
    })
}

fn plan_branched(folder: &RunFolder, name: &str, set: &BranchedSetConfig) -> Value {
    let texts =
        Card::read(&folder.set(name)).map(|card| card.report.kept).ok().or(set.max_texts.map(|most| most as u64));
    json!({
        "name": name,
        "source": set.source.kind(),
        "texts": texts,
        "prepared": folder.set(name).exists(),
        "missing_files": missing(set.files()),
    })
}

/// Files that are neither here nor on the hub.
fn missing(files: Vec<PathBuf>) -> Vec<PathBuf> {
    files.into_iter().filter(|file| !file.exists() && !file.to_string_lossy().starts_with("hf://")).collect()
}

/// Samples of a branched set: its texts, or the questions about them.
fn num_branched(folder: &RunFolder, name: &str, set: &BranchedSetConfig, questions: bool) -> Option<u64> {
    match Card::read(&folder.set(name)) {
        Ok(Card { counts: Counts::Texts(counts), .. }) if questions => Some(counts.answered),
        Ok(card) => Some(card.report.kept),
        Err(_) if questions => None,
        Err(_) => set.max_texts.map(|most| most as u64),
    }
}

/// Lists of a set: counted when it is prepared, else what the settings bound it to.
fn num_lists(folder: &RunFolder, name: &str, set: &RankingSetConfig) -> Option<u64> {
    if let Ok(card) = Card::read(&folder.set(name)) {
        return Some(card.report.kept);
    }
    let of_source = match &set.source {
        SourceConfig::Generated(generated) => Some(generated.num_queries),
        SourceConfig::Squad(squad) => squad.max_questions,
        _ => None,
    };
    let bounds = [of_source, set.max_queries];
    bounds.into_iter().flatten().min().map(|count| count as u64)
}

fn plan_stage(
    config: &ExperimentConfig,
    stage: &StageSection,
    folder: &RunFolder,
    model: Option<&ModelConfig>,
) -> Value {
    let settings = &stage.settings;
    let questions = settings.objective.trains_on() == TrainsOn::Questions;
    let count = |name: &String| match config.data.branched.get(name) {
        Some(set) => num_branched(folder, name, set, questions),
        None => num_lists(folder, name, config.data.sets.get(name)?),
    };
    let counts: Option<Vec<u64>> = stage.data.0.iter().map(count).collect();
    let lists: Option<u64> = counts.map(|counts| counts.iter().sum());
    let steps = lists.map(|lists| settings.num_steps(lists)).or(settings.max_steps);
    let tokens = settings.max_micro_batch_tokens as i64;
    // A micro-batch is also full when the next sample does not fit, so only the samples bound a step.
    let context = config.model.context_length.map_or(tokens, |context| tokens.min(context as i64));
    let step_tokens = settings.global_batch_size as u64 * context as u64;
    let memory = model.map(|model| training_mib(model, settings, context).round() as i64);
    let branched = stage.data.0.iter().any(|name| config.data.branched.contains_key(name));
    let rows = if questions {
        "questions"
    } else if branched {
        "texts"
    } else {
        "lists"
    };
    json!({
        "name": stage.name,
        "rows": rows,
        "from": config.start_of(stage),
        "data": stage.data,
        "objective": settings.objective.build().name(),
        "lists": lists,
        "steps": steps,
        // what is dropped, and what a split leaves, is known once it is prepared
        "steps_are_a_bound": !stage.data.0.iter().all(|name| folder.set(name).exists()),
        "lists_per_step": settings.global_batch_size,
        "tokens_per_micro_batch_at_most": tokens,
        "tokens_at_most": steps.map(|steps| steps * step_tokens),
        "precision": settings.precision,
        "memory_mib": memory,
        "trained": folder.model(&stage.name).exists(),
    })
}

/// Memory of one rank; `context` tokens are a sample's at most.
fn training_mib(model: &ModelConfig, settings: &TrainConfig, context: i64) -> f64 {
    let (tokens, share) = (settings.max_micro_batch_tokens as i64, settings.global_batch_size as i64 / ranks());
    // Short samples may all fit one micro-batch; how long they are is known once they are tokenised.
    let several = share > settings.micro_batch_size as i64 || share * context > tokens;
    let memory = TrainingMemorySettings {
        weight_bytes: if settings.precision == trainer::Precision::Fp32 { 4 } else { 2 },
        master_weights: settings.precision.keeps_masters(),
        optimizer_bytes: if settings.precision == trainer::Precision::Bf16 { 4 } else { 8 },
        optimizer_shards: shards(settings),
        tokens,
        label_tokens: tokens / LABEL_SHARE,
        gradient_checkpointing: settings.gradient_checkpointing,
        float32_sums: settings.precision.keeps_masters() && several,
        reducer_buckets: ranks() > 1 && !settings.gradient_checkpointing,
    };
    estimate::training(model, settings.lora.as_ref(), &memory).total_mib()
}

/// Ranks that the environment speaks of.
fn ranks() -> i64 {
    let ranks = std::env::var("WORLD_SIZE").ok().and_then(|ranks| ranks.trim().parse().ok());
    ranks.unwrap_or(1).max(1)
}

/// Ranks that share the optimiser's state.
fn shards(settings: &TrainConfig) -> i64 {
    if settings.distribution == Distribution::Zero1 { ranks() } else { 1 }
}

/// Stages that are not trained yet and whose steps cannot be dealt out evenly over the ranks of the environment: told before the ranks meet.
pub fn uneven_steps(config: &ExperimentConfig, folder: &RunFolder) -> Vec<Problem> {
    let ranks = ranks() as usize;
    let open = config.stages().iter().enumerate().filter(|(_, stage)| !folder.model(&stage.name).exists());
    let uneven = open.filter(|(_, stage)| !stage.settings.global_batch_size.is_multiple_of(ranks));
    let problem = |(index, stage): (usize, &StageSection)| {
        let text = format!("got {}, wanted a multiple of the {ranks} ranks", stage.settings.global_batch_size);
        Problem::new(format!("train.stages[{index}].global_batch_size"), text)
    };
    let mut problems: Vec<Problem> = uneven.map(problem).collect();
    // Stages that share the section's setting would say the same.
    problems.dedup_by(|next, before| next.message == before.message);
    problems
}

fn print_text(plan: &Value) {
    let text = |value: &Value| match value {
        Value::Null => "unknown".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(|item| item.as_str().unwrap_or("?")).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    println!("experiment  {} -> {}", text(&plan["file"]), text(&plan["run"]));
    let available = if plan["model"]["available"] == true { "" } else { "; not on this machine yet" };
    println!(
        "model       {} ({} weights{available})",
        text(&plan["model"]["path"]),
        text(&plan["model"]["parameters"])
    );
    match &plan["available_memory_mib"] {
        Value::Null => println!("memory      unknown: this machine has no device `{}`", text(&plan["device"])),
        mib => println!("memory      {mib} MiB to be had on {}", text(&plan["device"])),
    }
    for set in plan["sets"].as_array().into_iter().flatten() {
        let done = if set["prepared"] == true { ", prepared" } else { "" };
        let rows = if set.get("texts").is_some() { "texts" } else { "lists" };
        // what is dropped, and what a split leaves, is known once it is prepared
        let bound = if done.is_empty() && set[rows].is_u64() { "at most " } else { "" };
        println!(
            "set         {}: {bound}{} {rows} from {}{done}",
            text(&set["name"]),
            text(&set[rows]),
            text(&set["source"])
        );
        for file in set["missing_files"].as_array().into_iter().flatten() {
            println!("            -> there is no file `{}`", text(file));
        }
    }
    for stage in plan["stages"].as_array().into_iter().flatten() {
        let done = if stage["trained"] == true { ", trained" } else { "" };
        let bound = if stage["steps_are_a_bound"] == true && stage["steps"].is_u64() { "at most " } else { "" };
        println!(
            "train       {}: {} from {} on {}, {bound}{} steps of {} {}, at most {} tokens, {} weights, about {} MiB{done}",
            text(&stage["name"]),
            text(&stage["objective"]),
            text(&stage["from"]),
            text(&stage["data"]),
            text(&stage["steps"]),
            text(&stage["lists_per_step"]),
            text(&stage["rows"]),
            text(&stage["tokens_at_most"]),
            text(&stage["precision"]),
            text(&stage["memory_mib"])
        );
    }
    if plan["heads"].is_object() {
        let heads = &plan["heads"];
        println!("heads       on {}, the best epoch by {}", text(&heads["train"]), text(&heads["validation"]));
    }
    for system in plan["answer"]["systems"].as_array().into_iter().flatten() {
        let (model, sets, decoders) = (&system["model"], &plan["answer"]["sets"], &system["decoders"]);
        println!("answer      {} on {} by {}", text(model), text(sets), text(decoders));
    }
    if plan["evaluate"].is_object() {
        let evaluate = &plan["evaluate"];
        println!(
            "evaluate    {} on {} by {}",
            text(&evaluate["models"]),
            text(&evaluate["sets"]),
            text(&evaluate["decoders"])
        );
    }
}
