//! GGUF files: reading, dequantising, turning into a Hugging Face folder.
/// `FILE.gguf` -> Hugging Face folder.
pub fn import(gguf: &std::path::Path, out: &std::path::Path) -> Result<(), crate::ModelError> { let _ = (gguf, out); unimplemented!() }
