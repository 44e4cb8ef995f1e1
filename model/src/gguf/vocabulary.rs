//! A tokenizer in Hugging Face's format from a GGUF's own metadata.

use serde_json::{Map, Value, json};

use super::metadata::Metadata;
use super::{GgufError, byte_level, sentencepiece};

/// Tokens of a file and what they are.
#[derive(Debug)]
pub(super) struct Vocabulary<'a> {
    pub tokens: Vec<&'a str>,
    /// ggml's types: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub types: Vec<i64>,
    pub bos: Option<i64>,
    pub eos: Option<i64>,
    pub unknown: Option<i64>,
    pub padding: Option<i64>,
    pub add_bos: bool,
    pub add_eos: bool,
}

/// `tokenizer.json` and `tokenizer_config.json`.
#[derive(Debug)]
pub struct TokenizerFiles {
    /// Content of `tokenizer.json`.
    pub tokenizer: Value,
    /// Content of `tokenizer_config.json`, the chat template in it.
    pub config: Value,
}

/// Rebuilds the tokenizer.
pub fn tokenizer_files(metadata: Metadata) -> Result<TokenizerFiles, GgufError> {
    const MODEL: &str = "tokenizer.ggml.model";
    let model = metadata.text(MODEL)?.ok_or_else(|| GgufError::Missing { key: MODEL.into() })?;
    let vocabulary = Vocabulary::read(metadata, model == "llama")?;
    let parts = match model {
        "gpt2" => byte_level::parts(metadata, &vocabulary)?,
        "llama" => sentencepiece::parts(metadata, &vocabulary)?,
        other => return Err(GgufError::Value { key: MODEL.into(), got: other.into(), wanted: "gpt2 or llama" }),
    };
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added_tokens(),
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": vocabulary.post_processor(),
        "decoder": parts.decoder,
        "model": parts.model,
    });
    Ok(TokenizerFiles { tokenizer, config: vocabulary.config(metadata)? })
}

/// What differs between the kinds of tokenizers.
#[derive(Debug)]
pub(super) struct Parts {
    pub normalizer: Value,
    pub pre_tokenizer: Value,
    pub decoder: Value,
    pub model: Value,
}

impl<'a> Vocabulary<'a> {
    fn read(metadata: Metadata<'a>, sentencepiece: bool) -> Result<Self, GgufError> {
        const TOKENS: &str = "tokenizer.ggml.tokens";
        let tokens = metadata.texts(TOKENS)?.ok_or_else(|| GgufError::Missing { key: TOKENS.into() })?;
        let types = match metadata.floats("tokenizer.ggml.token_type")? {
            Some(types) if types.len() == tokens.len() => types.into_iter().map(|t| t as i64).collect(),
            Some(types) => {
                return Err(GgufError::Lengths {
                    key: "tokenizer.ggml.token_type",
                    got: types.len(),
                    wanted: tokens.len(),
                });
            }
            None => vec![1; tokens.len()],
        };
        let id = |name: &str| -> Result<Option<i64>, GgufError> {
            let key = format!("tokenizer.ggml.{name}_token_id");
            let id = metadata.integer(&key)?;
            match id {
                Some(id) if id >= tokens.len() as i64 => {
                    Err(GgufError::Value { key, got: id.to_string(), wanted: "an id of the vocabulary" })
                }
                id => Ok(id),
            }
        };
        // Files of Llama 3 often leave the key out; llama.cpp takes it as set for their splitting rule.
        let llama3 = metadata.text(byte_level::PRE)?.is_some_and(byte_level::is_llama3);
        Ok(Self {
            bos: id("bos")?,
            eos: id("eos")?,
            unknown: id("unknown")?,
            padding: id("padding")?,
            add_bos: metadata.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(sentencepiece || llama3),
            add_eos: metadata.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
            tokens,
            types,
        })
    }

    pub fn text(&self, id: Option<i64>) -> Option<&'a str> {
        self.tokens.get(usize::try_from(id?).ok()?).copied()
    }

    /// Ids by token, in order; the first of equal tokens wins.
    pub fn ids(&self) -> Map<String, Value> {
        let mut ids = Map::new();
        for (id, token) in self.tokens.iter().enumerate() {
            ids.entry((*token).to_owned()).or_insert_with(|| id.into());
        }
        ids
    }

    /// Control tokens are special; user-defined ones are whole but ordinary text.
    fn added_tokens(&self) -> Vec<Value> {
        let mut added = Vec::new();
        for (id, (token, token_type)) in self.tokens.iter().zip(&self.types).enumerate() {
            let named = [self.bos, self.eos, self.unknown].contains(&Some(id as i64));
            if matches!(token_type, 2..=4) || named {
                let special = *token_type != 4 || named;
                added.push(json!({"id": id, "content": token, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": special}));
            }
        }
        added
    }

    /// Puts BOS and EOS where the file asks for it.
    fn post_processor(&self) -> Value {
        let bos = self.bos.filter(|_| self.add_bos);
        let eos = self.eos.filter(|_| self.add_eos);
        let special = |id: Option<i64>, type_id: i64| {
            let token = self.text(id)?;
            Some(json!({"SpecialToken": {"id": token, "type_id": type_id}}))
        };
        let sequence = |name: &str, type_id: i64| {
            let text = json!({"Sequence": {"id": name, "type_id": type_id}});
            special(bos, type_id).into_iter().chain([text]).chain(special(eos, type_id)).collect::<Vec<_>>()
        };
        let mut tokens = Map::new();
        for id in [bos, eos].into_iter().flatten() {
            if let Some(token) = self.text(Some(id)) {
                tokens.insert(token.to_owned(), json!({"id": token, "ids": [id], "tokens": [token]}));
            }
        }
        let pair = [sequence("A", 0), sequence("B", 1)].concat();
        json!({"type": "TemplateProcessing", "single": sequence("A", 0), "pair": pair, "special_tokens": tokens})
    }

    fn config(&self, metadata: Metadata) -> Result<Value, GgufError> {
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_bos_token": self.add_bos,
            "add_eos_token": self.add_eos,
            "clean_up_tokenization_spaces": false,
        });
        let named = [("bos", self.bos), ("eos", self.eos), ("unk", self.unknown), ("pad", self.padding)];
        for (name, id) in named {
            if let Some(token) = self.text(id) {
                config[format!("{name}_token")] = token.into();
            }
        }
        let architecture = metadata.text("general.architecture")?.unwrap_or_default();
        if let Some(context) = metadata.integer(&format!("{architecture}.context_length"))? {
            config["model_max_length"] = context.into();
        }
        if let Some(template) = metadata.text("tokenizer.chat_template")? {
            config["chat_template"] = template.into();
        }
        Ok(config)
    }
}
