//! `config.json` of a Hugging Face folder, resolved.
/// Shape of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig { /// vocabulary
 pub vocab_size: i64, /// hidden
 pub hidden_size: i64, /// layers
 pub num_hidden_layers: i64, /// longest
 pub max_position_embeddings: i64 }
