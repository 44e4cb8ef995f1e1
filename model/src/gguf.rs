//! GGUF files: reading, dequantising, turning into a Hugging Face folder.

use std::path::Path;

use crate::ModelError;

/// What is wrong with a GGUF file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// Not a GGUF file at all.
    #[error("not a GGUF file: it starts with {0:02x?}")]
    Magic([u8; 4]),
}

/// `FILE.gguf` -> Hugging Face folder.
pub fn import(gguf: &Path, out: &Path) -> Result<(), ModelError> {
    let _ = out;
    Err(ModelError::Gguf { path: gguf.into(), source: GgufError::Magic([0; 4]) })
}
