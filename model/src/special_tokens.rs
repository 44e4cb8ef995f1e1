//! Special tokens named by the files beside a tokenizer.

use serde_json::{Map, Value};

/// Turn endings that chat templates write themselves without naming them anywhere else.
const TURN_ENDINGS: [&str; 5] = ["<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|end_of_turn|>"];

/// Tokens handed to chat templates.
const TEMPLATE_TOKENS: [&str; 4] = ["bos_token", "eos_token", "unk_token", "pad_token"];

/// `bos_token` and the like as text, the first file that names one winning.
pub(crate) fn template_tokens(files: &[&Map<String, Value>]) -> Map<String, Value> {
    let text = |key: &str| files.iter().find_map(|file| token_text(file.get(key)?));
    TEMPLATE_TOKENS.into_iter().filter_map(|key| Some((key.to_owned(), text(key)?.into()))).collect()
}

/// A token is a string, or an object with its `content`.
fn token_text(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}

/// Ids that end a text or a turn: those of generation_config.json and config.json (`id_files`), the tokenizer's
/// eos_token, and turn endings the template uses. In this order, each once.
pub(crate) fn eos_token_ids(
    id_files: &[&Map<String, Value>],
    eos_token: Option<&str>,
    template: &str,
    token_to_id: impl Fn(&str) -> Option<i64>,
) -> Vec<i64> {
    let mut ids = Vec::new();
    let mut push = |id: i64| {
        if !ids.contains(&id) {
            ids.push(id);
        }
    };
    for value in id_files.iter().filter_map(|file| file.get("eos_token_id")) {
        match value {
            Value::Array(values) => values.iter().filter_map(Value::as_i64).for_each(&mut push),
            value => value.as_i64().into_iter().for_each(&mut push),
        }
    }
    eos_token.and_then(&token_to_id).into_iter().for_each(&mut push);
    let used = TURN_ENDINGS.iter().filter(|ending| template.contains(**ending));
    used.filter_map(|ending| token_to_id(ending)).for_each(push);
    ids
}
