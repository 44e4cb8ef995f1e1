//! Low-rank adapters in PEFT's format.
/// What to adapt (PEFT's names).
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LoraConfig { /// rank
 pub r: i64, /// scale = alpha / r
 pub lora_alpha: f64, /// on the adapter's input, training only
 pub lora_dropout: f64, /// q_proj, k_proj, ..
 pub target_modules: Vec<String> }
