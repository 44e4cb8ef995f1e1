//! `monopass prompt render`: one sample as the model sees it.

use std::path::Path;
use std::sync::Arc;

use data::prompt::PromptBuilder;
use model::{ModelConfig, Tokenizer};
use serde_json::json;

use super::print_json;
use crate::commands::data_show::samples_of;
use crate::config::check::load_with_source;
use crate::failure::{InputError, UsageError};
use crate::hub;

/// How to print.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// Every token with its id.
    pub tokens: bool,
    /// One JSON object.
    pub json: bool,
}

/// Prints prompt and answer; tokens that carry a label are marked.
///
/// # Errors
/// When the set or the tokenizer cannot be read, or there is no such sample.
pub fn run(file: &Path, set: &[String], query_set: Option<&str>, index: usize, form: Form) -> anyhow::Result<()> {
    let (config, source) = load_with_source(file, set)?;
    let name = match query_set {
        Some(name) => name.to_owned(),
        None => config
            .stages()
            .first()
            .and_then(|stage| stage.data.0.first().cloned())
            .or_else(|| config.data.sets.keys().next().cloned())
            .ok_or_else(|| UsageError::new("the file has no data set", "add one under `data.sets`"))?,
    };
    let samples = samples_of(&config, &source, &name, index + 1)?;
    let Some(sample) = samples.get(index) else {
        return Err(InputError::new(
            format!("set `{name}` has {} samples, no number {index}", samples.len()),
            "samples are counted from 0",
        )
        .into());
    };
    let folder = hub::model_folder(config.model.tokenizer.as_deref().unwrap_or(&config.model.path))?;
    let tokenizer = Arc::new(Tokenizer::load(&folder)?);
    // The model's own limit where it is on disk, else that beside the tokenizer; where neither has a config, the file's own holds.
    let of_model = [hub::on_disk(&config.model.path), Some(folder)];
    let of_model = of_model.into_iter().flatten().find_map(|folder| ModelConfig::load(&folder).ok());
    let of_model = of_model.map_or(i64::MAX, |own| own.max_position_embeddings);
    let of_model = usize::try_from(of_model).unwrap_or(usize::MAX);
    let context = config.model.context_length.map_or(of_model, |wanted| wanted.min(of_model));
    let builder = PromptBuilder::new(Arc::clone(&tokenizer), config.data.prompt.clone())?.fitting(context);
    let prompt = builder.prompt(sample)?;
    let answer = sample.target.as_deref().map(|order| builder.response(&prompt, order)).unwrap_or_default();
    let answer_text = tokenizer.decode(&answer, false)?;
    if form.json {
        return print_json(&json!({
            "query_id": sample.query_id,
            "text": prompt.text,
            "answer": answer_text,
            "input_ids": prompt.input_ids,
            "label_ids": answer,
            "prompt_tokens": prompt.input_ids.len(),
            "label_tokens": answer.len(),
            "prompt_hash": builder.hash(),
        }));
    }
    if form.tokens {
        let shown = |id: &i64| tokenizer.id_to_token(*id).unwrap_or_else(|| "?".to_owned());
        for (place, id) in prompt.input_ids.iter().enumerate() {
            println!("{place:>6} {id:>7}         {}", shown(id));
        }
        for (place, id) in answer.iter().enumerate() {
            println!("{:>6} {id:>7}  label  {}", prompt.input_ids.len() + place, shown(id));
        }
    } else {
        println!("{}{answer_text}", prompt.text);
    }
    println!(
        "\n{} prompt tokens without a label, {} label tokens; prompt hash {}",
        prompt.input_ids.len(),
        answer.len(),
        builder.hash()
    );
    Ok(())
}
