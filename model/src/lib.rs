//! Decoder-only language models: layers, weights in and out, adapters, tokenizers.
pub mod attention_pattern;
pub mod causal_lm;
pub mod config;
pub mod error;
pub mod kv_cache;
pub mod lora;
pub mod tokenizer;
pub mod gguf;
pub use attention_pattern::AttentionPattern;
pub use causal_lm::{CausalLm, LoadOptions};
pub use config::ModelConfig;
pub use error::ModelError;
pub use kv_cache::KvCache;
pub use tokenizer::{ChatMessage, Tokenizer};
