//! `adapter_config.json` of a PEFT adapter folder.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::ModelError;
use crate::config::ColumnarRope;
use crate::error::{parse_json, read};
use crate::lora::{AppliedLora, LoraConfig, PROJECTIONS};

/// Values of `init_lora_weights` that draw A and B only.
const LEAVE_THE_BASE: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// The fields of PEFT's `LoraConfig` that change what is computed.
#[derive(Debug, Deserialize)]
struct RawAdapterConfig {
    peft_type: String,
    r: i64,
    lora_alpha: f64,
    lora_dropout: Option<f64>,
    target_modules: Value,
    base_model_name_or_path: Option<String>,
    use_rslora: Option<bool>,
    use_dora: Option<bool>,
    fan_in_fan_out: Option<bool>,
    bias: Option<String>,
    modules_to_save: Option<Value>,
    rank_pattern: Option<Value>,
    alpha_pattern: Option<Value>,
    layers_to_transform: Option<Value>,
    trainable_token_indices: Option<Value>,
    lora_bias: Option<bool>,
    use_qalora: Option<bool>,
    use_bdlora: Option<Value>,
    alora_invocation_tokens: Option<Value>,
    layer_replication: Option<Value>,
    target_parameters: Option<Value>,
    kasa_config: Option<Value>,
    monteclora_config: Option<Value>,
    velora_config: Option<Value>,
    arrow_config: Option<Value>,
    init_lora_weights: Option<Value>,
    columnar_rope: Option<ColumnarRope>,
}

/// A resolved `adapter_config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// Hub name or path of the model it was trained on.
    pub base_model_name_or_path: Option<String>,
    pub(crate) lora: AppliedLora,
    /// Positions that the model was trained with beside the adapter; not PEFT's, which warns of the key and leaves it.
    pub columnar_rope: Option<ColumnarRope>,
}

impl AdapterConfig {
    /// Reads and checks `adapter_config.json` of a folder.
    pub fn load(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("adapter_config.json");
        let raw: RawAdapterConfig = parse_json(&path, &read(&path)?)?;
        raw.resolve()
    }

    /// Settings of the adapters.
    pub fn lora(&self) -> &LoraConfig {
        &self.lora.config
    }

    /// The file's content for adapters trained on `base`.
    pub(crate) fn to_json(lora: &AppliedLora, base: &str, columnar_rope: Option<&ColumnarRope>) -> Value {
        let mut config = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "r": lora.config.r,
            "lora_alpha": number(lora.config.lora_alpha),
            "lora_dropout": lora.config.lora_dropout,
            "target_modules": lora.config.target_modules,
            "use_rslora": lora.use_rslora,
            "use_dora": false,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "modules_to_save": null,
            "rank_pattern": {},
            "alpha_pattern": {},
        });
        if let Some(rope) = columnar_rope {
            config["columnar_rope"] = json!(rope);
        }
        config
    }
}

/// PEFT writes whole alphas as integers.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

impl RawAdapterConfig {
    fn resolve(self) -> Result<AdapterConfig, ModelError> {
        let refuse = |key: &str, got: String, wanted: &str| {
            Err(ModelError::Adapter { key: key.into(), got, wanted: wanted.into() })
        };
        if self.peft_type != "LORA" {
            return refuse("peft_type", self.peft_type, "only LORA is supported");
        }
        let bias = self.bias.unwrap_or_else(|| "none".into());
        if bias != "none" {
            return refuse("bias", bias, "only `none` is supported");
        }
        let flags = [
            ("use_dora", self.use_dora),
            ("use_qalora", self.use_qalora),
            ("fan_in_fan_out", self.fan_in_fan_out),
            ("lora_bias", self.lora_bias),
        ];
        for (key, value) in flags {
            if value == Some(true) {
                return refuse(key, "true".into(), "only false is supported");
            }
        }
        for (key, value) in [
            ("modules_to_save", self.modules_to_save),
            ("rank_pattern", self.rank_pattern),
            ("alpha_pattern", self.alpha_pattern),
            ("layers_to_transform", self.layers_to_transform),
            ("trainable_token_indices", self.trainable_token_indices),
            ("use_bdlora", self.use_bdlora),
            ("alora_invocation_tokens", self.alora_invocation_tokens),
            ("layer_replication", self.layer_replication),
            ("target_parameters", self.target_parameters),
            ("arrow_config", self.arrow_config),
            ("velora_config", self.velora_config),
            ("monteclora_config", self.monteclora_config),
            ("kasa_config", self.kasa_config),
        ] {
            if let Some(value) = value.filter(|value| !is_empty(value)) {
                return refuse(key, value.to_string(), "not supported; merge the adapter with PEFT first");
            }
        }
        // PiSSA, OLoRA, CorDA and LoftQ take something out of the base's weights when PEFT makes the adapter.
        let leaves_the_base = |init: &Value| match init {
            Value::Null | Value::Bool(_) => true,
            init => init.as_str().is_some_and(|name| LEAVE_THE_BASE.contains(&name)),
        };
        if let Some(init) = self.init_lora_weights.filter(|init| !leaves_the_base(init)) {
            let wanted = "such a start changes the base's weights too; save the adapter with PEFT's \
                          `path_initial_model_for_weight_conversion`, or merge it with PEFT first";
            return refuse("init_lora_weights", init.to_string(), wanted);
        }
        let config = LoraConfig {
            r: self.r,
            lora_alpha: self.lora_alpha,
            lora_dropout: self.lora_dropout.unwrap_or(0.0),
            target_modules: target_modules(&self.target_modules)?,
        };
        let lora = AppliedLora { config, use_rslora: self.use_rslora.unwrap_or(false) };
        let columnar_rope = self.columnar_rope;
        Ok(AdapterConfig { base_model_name_or_path: self.base_model_name_or_path, lora, columnar_rope })
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        _ => false,
    }
}

/// Projections in the model's order. PEFT stores a list of name endings, or `all-linear`.
fn target_modules(value: &Value) -> Result<Vec<String>, ModelError> {
    let unsupported = |got: String| ModelError::Adapter {
        key: "target_modules".into(),
        got,
        wanted: format!("supported: {}", PROJECTIONS.join(", ")),
    };
    let names: Vec<&str> = match value {
        Value::String(all) if all == "all-linear" => PROJECTIONS.to_vec(),
        Value::Array(values) => values
            .iter()
            .map(|value| value.as_str().ok_or_else(|| unsupported(value.to_string())))
            .map(|name| name.map(|name| name.rsplit('.').next().unwrap_or(name)))
            .collect::<Result<_, _>>()?,
        other => return Err(unsupported(other.to_string())),
    };
    if let Some(name) = names.iter().find(|name| !PROJECTIONS.contains(name)) {
        return Err(unsupported((*name).to_owned()));
    }
    Ok(PROJECTIONS.into_iter().filter(|name| names.contains(name)).map(str::to_owned).collect())
}
