//! The card of a trained model (`README.md` of its folder, as the Hugging Face hub shows it): what it came from, what it learned, how to use it.

use std::path::Path;

use serde::Serialize;
use trainer::objectives::TrainsOn;

use crate::config::experiment::{BASE, ExperimentConfig, StageSection};
use crate::hub;

/// File of a model folder with the card.
pub const CARD_FILE: &str = "README.md";

/// Facts of the stage that only training knows.
#[derive(Debug, Clone, Copy)]
pub struct Learned<'a> {
    /// How many samples.
    pub samples: usize,
    /// What they are called.
    pub kind: &'a str,
    /// Hash of the prompt's wording, settings and tokenizer.
    pub prompt_hash: &'a str,
    /// Whether its positions are those of columns.
    pub in_columns: bool,
}

/// What the hub reads.
#[derive(Serialize)]
struct Header<'a> {
    library_name: &'a str,
    pipeline_tag: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_model: Option<&'a str>,
    tags: Vec<&'a str>,
}

/// The card as Markdown with a YAML header.
///
/// # Errors
/// When settings have no YAML form.
pub fn text(config: &ExperimentConfig, stage: &StageSection, learned: Learned<'_>) -> anyhow::Result<String> {
    let objective = objective_name(stage);
    let ranks = stage.settings.objective.trains_on() == TrainsOn::Lists;
    let header = serde_yaml::to_string(&Header {
        library_name: "transformers",
        pipeline_tag: if ranks { "text-ranking" } else { "question-answering" },
        base_model: base_on_the_hub(&config.model.path),
        tags: vec!["monopass", &objective],
    })?;
    let settings = serde_yaml::to_string(&serde_json::to_value(&stage.settings)?)?;
    let version = env!("MONOPASS_VERSION");
    let Learned { samples, kind, prompt_hash, in_columns } = learned;
    let use_it = if ranks {
        "monopass rank --model . --candidates lists.jsonl --out run.txt"
    } else if objective.starts_with("columnar") {
        "monopass answer --model . --background @text.txt --question 'Who?' --question 'Where?'"
    } else {
        "monopass answer --model . --decoder shared_prefix --background @text.txt --question 'Who?' --question 'Where?'"
    };
    let columns = if in_columns {
        " It was trained in columns: `columnar_rope` in `config.json`, which other programs pass over and read the model as one of ordinary texts."
    } else {
        ""
    };
    let rows: String = lineage(config, stage).iter().map(|stage| row(config, stage)).collect();
    Ok(format!(
        "---\n{header}---\n\n# {name} · {stage_name}\n\nTrained by monopass {version} from `{base}`. The weights load in transformers \
         (`AutoModelForCausalLM.from_pretrained`); adapters, where there were any, are merged, and beside them in `adapter/`.{columns}\n\n\
         | stage | objective | data | from |\n| --- | --- | --- | --- |\n{rows}\n\
         The last stage learned from {samples} {kind}. Prompts have the hash `{prompt_hash}`; `monopass.json` holds their settings, and \
         monopass refuses to evaluate the model with others.\n\n```console\n{use_it}\n```\n\n## Settings of the last stage\n\n```yaml\n{settings}```\n",
        name = config.name,
        stage_name = stage.name,
        base = config.model.path,
    ))
}

/// The card of a model that was not trained here and has none, or that of its adapter: where it came from.
///
/// # Errors
/// When the header has no YAML form.
pub fn of_export(source: &str, merged: bool) -> anyhow::Result<String> {
    let header = serde_yaml::to_string(&Header {
        library_name: "transformers",
        pipeline_tag: "text-generation",
        base_model: base_on_the_hub(source),
        tags: vec!["monopass"],
    })?;
    let (version, how) = (env!("MONOPASS_VERSION"), if merged { ", its adapter merged" } else { "" });
    let name = Path::new(source).file_name().map_or_else(|| source.into(), |name| name.to_string_lossy());
    Ok(format!(
        "---\n{header}---\n\n# {name}\n\nWritten by monopass {version} from `{source}`{how}. The weights load in transformers \
         (`AutoModelForCausalLM.from_pretrained`). Its licence is that of what it came from.\n"
    ))
}

/// A stage and those it came from, first one first.
fn lineage<'a>(config: &'a ExperimentConfig, stage: &'a StageSection) -> Vec<&'a StageSection> {
    let mut stages = vec![stage];
    while let Some(before) = stages.last().map(|last| config.start_of(last)).filter(|from| *from != BASE) {
        match config.stages().iter().find(|own| own.name == before) {
            Some(own) => stages.push(own),
            None => break,
        }
    }
    stages.reverse();
    stages
}

fn row(config: &ExperimentConfig, stage: &StageSection) -> String {
    let (objective, data, from) = (objective_name(stage), stage.data.0.join(", "), config.start_of(stage));
    format!("| {} | `{objective}` | {data} | {from} |\n", stage.name)
}

/// Name as in the experiment file.
fn objective_name(stage: &StageSection) -> String {
    let value = serde_json::to_value(&stage.settings.objective).unwrap_or_default();
    value.as_object().and_then(|map| map.keys().next().cloned()).unwrap_or_default()
}

/// The base's id, when it is one of the hub and not a folder here.
fn base_on_the_hub(path: &str) -> Option<&str> {
    (hub::is_hub_id(path) && !Path::new(path).exists()).then_some(path)
}
