//! `monopass generate`.

use std::io::Read as _;

use anyhow::Context as _;
use evaluator::generate::{GenerateOptions, generate};
use model::{ChatMessage, Tokenizer};
use serde_json::json;

use super::print_json;
use crate::cli::GenerateArgs;
use crate::failure::UsageError;
use crate::model_source;

/// Runs the command.
///
/// # Errors
/// When the model cannot be loaded, an option is wrong, or prompt and answer do not fit the model's context.
pub fn run(args: &GenerateArgs) -> anyhow::Result<()> {
    let options = GenerateOptions {
        max_new_tokens: args.max_new_tokens,
        sampling: (&args.sampling).into(),
        ignore_eos: args.ignore_eos,
    };
    let loaded = model_source::load(&args.model)?;
    let input_ids = prompt_ids(args, &loaded.tokenizer)?;
    let generated = generate(&loaded.model, &loaded.tokenizer, &input_ids, &options)?;
    let text = loaded.tokenizer.decode(&generated.token_ids, true)?;
    if !args.json {
        println!("{text}");
        return Ok(());
    }
    print_json(&json!({
        "text": text,
        "token_ids": generated.token_ids,
        "finish_reason": generated.finish_reason,
        "prompt_tokens": input_ids.len(),
        "new_tokens": generated.token_ids.len(),
        "forward_passes": generated.forward_passes,
        "first_token_seconds": generated.first_token_seconds,
        "seconds": generated.seconds,
        "tokens_per_second": generated.token_ids.len() as f64 / generated.seconds.max(f64::EPSILON),
    }))
}

fn prompt_ids(args: &GenerateArgs, tokenizer: &Tokenizer) -> anyhow::Result<Vec<i64>> {
    let mut text = args.prompt.clone();
    if text == "-" {
        text.clear();
        std::io::stdin().read_to_string(&mut text).context("cannot read the prompt from stdin")?;
    }
    let input_ids = if args.raw || !tokenizer.has_chat_template() {
        tokenizer.encode(&text, true)?
    } else {
        let message = ChatMessage { role: "user".to_owned(), content: text };
        tokenizer.encode(&tokenizer.apply_chat_template(&[message], true)?, false)?
    };
    if input_ids.is_empty() {
        return Err(
            UsageError::new("the prompt is empty", "give `--prompt TEXT`, or `--prompt -` to read stdin").into()
        );
    }
    Ok(input_ids)
}
