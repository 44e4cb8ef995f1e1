//! `monopass inspect`.

use model::estimate;
use model::{ModelConfig, Tokenizer};
use serde_json::json;

use super::print_json;
use crate::cli::InspectArgs;
use crate::hub;
use crate::model_source::ModelNote;

/// Describes a model folder without loading its weights.
///
/// # Errors
/// When there is no such model or its files cannot be read.
pub fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let folder = hub::model_folder(&args.model)?;
    let config = ModelConfig::load(&folder)?;
    let tokenizer = Tokenizer::load(&folder)?;
    let count = estimate::parameters(&config);
    let note = ModelNote::read(&folder)?;
    if args.json {
        return print_json(&json!({
            "folder": folder,
            "architecture": config.architecture.class_name(),
            "parameters": count.total,
            "non_embedding_parameters": count.non_embedding,
            "hidden_size": config.hidden_size,
            "num_hidden_layers": config.num_hidden_layers,
            "num_attention_heads": config.num_attention_heads,
            "num_key_value_heads": config.num_key_value_heads,
            "vocab_size": config.vocab_size,
            "max_position_embeddings": config.max_position_embeddings,
            "tokenizer_fingerprint": tokenizer.fingerprint(),
            "chat_template": tokenizer.has_chat_template(),
            "stage": note.as_ref().map(|note| note.stage.clone()),
            "prompt_hash": note.as_ref().map(|note| note.prompt_hash.clone()),
        }));
    }
    println!("folder      {}", folder.display());
    println!("class       {}", config.architecture.class_name());
    println!("weights     {} ({} without embeddings)", count.total, count.non_embedding);
    println!(
        "shape       {} layers of {}, {} query / {} key-value heads, vocabulary {}",
        config.num_hidden_layers,
        config.hidden_size,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.vocab_size
    );
    println!("context     {} tokens", config.max_position_embeddings);
    let template = if tokenizer.has_chat_template() { "with a chat template" } else { "no chat template" };
    println!("tokenizer   {} tokens, {template}", tokenizer.vocab_size());
    match note {
        Some(note) => println!(
            "trained by  {} (stage `{}`, prompt {}, {} training queries)",
            note.program,
            note.stage,
            &note.prompt_hash.get(..12).unwrap_or(&note.prompt_hash),
            note.trained_queries.len()
        ),
        None => println!("trained by  somebody else (no monopass.json)"),
    }
    Ok(())
}
