//! Tokenizer and chat template of a model folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::ModelError;
use crate::atomic_write;
use crate::chat_template::{ChatTemplate, TemplateDate};
use crate::error::{parse_json, read, read_if_present};
use crate::guard::guarded;
use crate::special_tokens::{eos_token_ids, template_tokens};

/// Files that make up a tokenizer; all but the first may be absent.
pub const FILES: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
];

/// One turn.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ChatMessage {
    /// system, user, assistant.
    pub role: String,
    /// Text.
    pub content: String,
}

/// `tokenizer.json` + `tokenizer_config.json` (+ `chat_template.jinja`). Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
    /// Ids from here on have no row in the model's embedding table.
    vocab_size: Option<i64>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    tokenizer: tokenizers::Tokenizer,
    template: Option<ChatTemplate>,
    template_tokens: Map<String, Value>,
    eos_token_ids: Vec<i64>,
    fingerprint: String,
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Tokenizer {
    /// Reads a folder; that of an adapter may leave the tokenizer to its base.
    pub fn load(folder: &Path) -> Result<Self, ModelError> {
        Self::load_with_date(folder, TemplateDate::default())
    }

    /// As [`Self::load`], with the date that templates are told.
    pub fn load_with_date(folder: &Path, date: TemplateDate) -> Result<Self, ModelError> {
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            // One that has none itself is no help: adapters may name each other.
            if let Some(base) = crate::folder::base_of(folder)?.filter(|base| base.join("tokenizer.json").is_file()) {
                return Self::load_with_date(&base, date);
            }
            return Err(ModelError::MissingFile {
                folder: folder.into(),
                wanted: "tokenizer.json; save the tokenizer with transformers' fast tokenizer".into(),
            });
        }
        let bytes = read(&path)?;
        let tokenizer = load_tokenizer(&path, &bytes)?;
        let mut files = vec![("tokenizer.json", bytes)];
        for name in &FILES[1..] {
            if let Some(bytes) = read_if_present(&folder.join(name))? {
                files.push((name, bytes));
            }
        }
        let json = |name: &str| json_file(folder, name);
        let (config, map) = (json("tokenizer_config.json")?, json("special_tokens_map.json")?);
        let template_tokens = template_tokens(&[&config, &map]);
        let template = template_source(folder, &config, &json("chat_template.json")?)?;
        let compile = |source: &String| {
            ChatTemplate::new(source, date).map_err(|problem| ModelError::ChatTemplate { path: folder.into(), problem })
        };
        let eos_token_ids = eos_token_ids(
            &[&json("generation_config.json")?, &json("config.json")?],
            template_tokens.get("eos_token").and_then(Value::as_str),
            template.as_deref().unwrap_or(""),
            |token| tokenizer.token_to_id(token).map(i64::from),
        );
        let fingerprint = fingerprint(&files[0].1, template.as_deref());
        let template = template.as_ref().map(compile).transpose()?;
        let folder = folder.to_path_buf();
        let inner = Inner { folder, tokenizer, template, template_tokens, eos_token_ids, fingerprint, files };
        Ok(Self { inner: Arc::new(inner), vocab_size: None })
    }

    /// For a model with `vocab_size` rows of embeddings: text that needs an id beyond them is an error of [`Self::encode`].
    #[must_use]
    pub fn for_vocabulary(self, vocab_size: i64) -> Self {
        Self { vocab_size: Some(vocab_size), ..self }
    }

    /// Writes its files into a folder, as they were read.
    pub fn save(&self, folder: &Path) -> Result<(), ModelError> {
        self.inner.files.iter().try_for_each(|(name, bytes)| atomic_write::write(&folder.join(name), bytes))
    }

    /// Token ids; `add_special_tokens` puts BOS and the like (never for chat-templated text).
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<i64>, ModelError> {
        let encode = || self.inner.tokenizer.encode_fast(text, add_special_tokens).map_err(|error| error.to_string());
        let encoding = guarded(encode).map_err(|problem| self.problem(problem))?;
        let ids: Vec<i64> = encoding.get_ids().iter().map(|id| i64::from(*id)).collect();
        match self.vocab_size.and_then(|size| Some((size, ids.iter().copied().find(|id| *id >= size)?))) {
            None => Ok(ids),
            Some((size, id)) => Err(self.problem(format!(
                "token {id} (`{}`) has no row in the model's embedding table of {size}; give the tokenizer the model was trained with",
                self.id_to_token(id).unwrap_or_default()
            ))),
        }
    }

    /// What the tokenizer puts in front of every text (BOS; for most nothing).
    pub fn leading_tokens(&self) -> Result<Vec<i64>, ModelError> {
        let (bare, whole) = (self.encode("a", false)?, self.encode("a", true)?);
        let place = whole.windows(bare.len().max(1)).position(|window| window == bare).unwrap_or(0);
        Ok(whole[..place].to_vec())
    }

    /// Where each token of [`Self::encode`]'s, special ones left out, ends in `text`: byte positions in the text as it was given, whatever a
    /// normaliser makes of it. One inside a character is that character's end.
    pub fn token_ends(&self, text: &str) -> Result<Vec<usize>, ModelError> {
        let encode = || self.inner.tokenizer.encode(text, false).map_err(|error| error.to_string());
        let encoding = guarded(encode).map_err(|problem| self.problem(problem))?;
        Ok(encoding.get_offsets().iter().map(|(_, end)| *end).collect())
    }

    /// Text. Ids outside the vocabulary are left out.
    pub fn decode(&self, ids: &[i64], skip_special_tokens: bool) -> Result<String, ModelError> {
        let ids: Vec<u32> = ids.iter().filter_map(|id| u32::try_from(*id).ok()).collect();
        let decode = || self.inner.tokenizer.decode(&ids, skip_special_tokens).map_err(|error| error.to_string());
        guarded(decode).map_err(|problem| self.problem(problem))
    }

    /// The chat template's text of `messages`.
    pub fn apply_chat_template(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
    ) -> Result<String, ModelError> {
        let failed = |problem: String| ModelError::ChatTemplate { path: self.inner.folder.clone(), problem };
        let Some(template) = &self.inner.template else {
            return Err(failed("absent; add chat_template.jinja or use a model made for chat".into()));
        };
        let mut context = self.inner.template_tokens.clone();
        context.insert("messages".into(), serde_json::json!(messages));
        context.insert("add_generation_prompt".into(), add_generation_prompt.into());
        // transformers passes these as None, and templates test for it
        context.insert("tools".into(), Value::Null);
        context.insert("documents".into(), Value::Null);
        template.render(&Value::Object(context)).map_err(failed)
    }

    /// True when the folder has a template.
    pub fn has_chat_template(&self) -> bool {
        self.inner.template.is_some()
    }

    /// The chat template's text.
    pub fn chat_template(&self) -> Option<&str> {
        self.inner.template.as_ref().map(ChatTemplate::source)
    }

    /// Ids that end a turn or a text (generation_config.json, config.json, tokenizer_config.json, and turn endings
    /// the template writes).
    pub fn eos_token_ids(&self) -> &[i64] {
        &self.inner.eos_token_ids
    }

    /// Id of a token's exact text.
    pub fn token_to_id(&self, token: &str) -> Option<i64> {
        self.inner.tokenizer.token_to_id(token).map(i64::from)
    }

    /// Text of one id as in the vocabulary.
    pub fn id_to_token(&self, id: i64) -> Option<String> {
        self.inner.tokenizer.id_to_token(u32::try_from(id).ok()?)
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.tokenizer.get_vocab_size(true)
    }

    /// Hash (hex) of the tokenizer file and the template.
    pub fn fingerprint(&self) -> &str {
        &self.inner.fingerprint
    }

    fn problem(&self, problem: String) -> ModelError {
        ModelError::Tokenizer { path: self.inner.folder.clone(), problem }
    }
}

fn load_tokenizer(path: &Path, bytes: &[u8]) -> Result<tokenizers::Tokenizer, ModelError> {
    let failed = |problem: String| ModelError::Tokenizer { path: path.into(), problem };
    let read = || tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| error.to_string());
    let mut tokenizer = guarded(read).map_err(failed)?;
    // some files carry the cut and padding of the run that saved them
    tokenizer.with_truncation(None).map_err(|error| failed(error.to_string()))?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// A JSON object, empty when the file is absent.
fn json_file(folder: &Path, name: &str) -> Result<Map<String, Value>, ModelError> {
    let path = folder.join(name);
    read_if_present(&path)?.map_or_else(|| Ok(Map::new()), |bytes| parse_json(&path, &bytes))
}

/// `chat_template.jinja`, else the tokenizer's config (one template or a list of named ones), else
/// `chat_template.json`.
fn template_source(
    folder: &Path,
    config: &Map<String, Value>,
    json: &Map<String, Value>,
) -> Result<Option<String>, ModelError> {
    let path = folder.join("chat_template.jinja");
    if let Some(bytes) = read_if_present(&path)? {
        let text = String::from_utf8(bytes);
        return text.map(Some).map_err(|error| ModelError::ChatTemplate { path, problem: error.to_string() });
    }
    let default = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(named) => {
            let default = named.iter().find(|entry| entry["name"] == "default").or(named.first())?;
            default["template"].as_str().map(str::to_owned)
        }
        _ => None,
    };
    Ok(config.get("chat_template").and_then(default).or_else(|| json.get("chat_template").and_then(default)))
}

fn fingerprint(tokenizer: &[u8], template: Option<&str>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(tokenizer.len() as u64).to_le_bytes());
    hasher.update(tokenizer);
    hasher.update(template.unwrap_or("").as_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_that_name_each_other_have_no_tokenizer() {
        let place = tempfile::tempdir().unwrap();
        for (own, other) in [("a", "b"), ("b", "a")] {
            std::fs::create_dir(place.path().join(own)).unwrap();
            let base = place.path().join(other);
            let config = serde_json::json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"],
                "base_model_name_or_path": base});
            std::fs::write(place.path().join(own).join("adapter_config.json"), config.to_string()).unwrap();
        }
        let error = Tokenizer::load(&place.path().join("a")).unwrap_err();
        assert!(matches!(error, ModelError::MissingFile { .. }), "{error}");
    }

    #[test]
    fn a_damaged_decoder_is_an_error() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/data/bytes/tokenizer.json");
        let whole = std::fs::read_to_string(golden).unwrap();
        let (before, after) = whole.split_at(whole.find("\"decoder\"").unwrap());
        // an open text within the decoder: the tokenizers crate gives up there
        let damaged = format!("{before}{}", after.replacen("\"use_regex\": ", "\"\n", 1));
        assert_ne!(damaged, whole);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), damaged).unwrap();
        let error = Tokenizer::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json") && error.contains("gave up"), "{error}");
    }
}
