//! Tokenizer and chat template of a model folder.
use std::path::Path;
use crate::ModelError;
/// One turn.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ChatMessage { /// system, user, assistant
 pub role: String, /// text
 pub content: String }
/// `tokenizer.json` + `tokenizer_config.json` (+ `chat_template.jinja`).
#[derive(Debug, Clone)]
pub struct Tokenizer { }
impl Tokenizer {
    /// Reads a folder.
    pub fn load(folder: &Path) -> Result<Self, ModelError> { let _ = folder; unimplemented!() }
    /// Copies its files.
    pub fn save(&self, folder: &Path) -> Result<(), ModelError> { let _ = folder; unimplemented!() }
    /// Token ids; `add_special_tokens` puts BOS and the like (never for chat-templated text).
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<i64>, ModelError> { let _ = (text, add_special_tokens); unimplemented!() }
    /// Text.
    pub fn decode(&self, ids: &[i64], skip_special_tokens: bool) -> Result<String, ModelError> { let _ = (ids, skip_special_tokens); unimplemented!() }
    /// The chat template's text of `messages`.
    pub fn apply_chat_template(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<String, ModelError> { let _ = (messages, add_generation_prompt); unimplemented!() }
    /// True when the folder has a template.
    pub fn has_chat_template(&self) -> bool { unimplemented!() }
    /// Ids that end a turn or a text (generation_config.json and tokenizer_config.json).
    pub fn eos_token_ids(&self) -> &[i64] { unimplemented!() }
    /// Id of a token's exact text.
    pub fn token_to_id(&self, token: &str) -> Option<i64> { let _ = token; unimplemented!() }
    /// Text of one id as in the vocabulary.
    pub fn id_to_token(&self, id: i64) -> Option<String> { let _ = id; unimplemented!() }
    /// Hash (hex) of the tokenizer file and the template.
    pub fn fingerprint(&self) -> &str { unimplemented!() }
}
