//! Decoder-only language models: layers, weights in and out, adapters, tokenizers.
//!
//! One [`CausalLm`] runs Llama, Mistral, Qwen2, Qwen3 and SmolLM2 from a Hugging Face folder, driven by its
//! `config.json`. This crate opens no network connection: [`folder::resolve`] finds what is on disk.

pub mod adapter_config;
pub mod atomic_write;
pub mod attention;
pub mod attention_pattern;
pub mod blockwise;
pub mod causal_lm;
pub mod chat_template;
pub mod column_layout;
pub mod config;
pub mod draft_heads;
pub mod error;
pub mod estimate;
pub mod folder;
pub mod gguf;
pub mod gradient_checkpointing;
pub mod guard;
pub mod head_folder;
pub mod key_ranges;
pub mod kv_cache;
pub mod layer;
pub mod linear;
pub mod lora;
pub mod medusa;
pub mod mlp;
mod named_weights;
pub mod one_pass;
mod peft;
mod random_weights;
pub mod rms_norm;
pub mod rope;
pub mod safetensors_file;
mod save;
mod special_tokens;
pub mod token_tree;
pub mod tokenizer;
mod weights;

pub use attention_pattern::AttentionPattern;
pub use blockwise::BlockwiseHeads;
pub use causal_lm::{CausalLm, LoadOptions, NamedParameter, SaveOptions};
pub use column_layout::{BranchAlignment, BranchLength, ColumnLayout, ColumnTokens, ColumnarPlace, TargetAlignment};
pub use config::{Architecture, ColumnarPositions, ColumnarRope, ModelConfig};
pub use draft_heads::DraftHeads;
pub use error::ModelError;
pub use gradient_checkpointing::{CheckpointTape, TrainingPass};
pub use kv_cache::KvCache;
pub use lora::LoraConfig;
pub use medusa::MedusaHeads;
pub use token_tree::TokenTree;
pub use tokenizer::{ChatMessage, Tokenizer};
