//! Saves models, adapters and merged models with their logits, for `tests/golden/model/check_peft.py` to load in
//! transformers and PEFT.

use std::path::{Path, PathBuf};

use model::{Architecture, AttentionPattern, CausalLm, LoadOptions, LoraConfig, ModelConfig, ModelError, SaveOptions};
use monopass_model as model;
use tch::{Device, Kind, Tensor, no_grad};

fn main() -> Result<(), ModelError> {
    let Some(out) = std::env::args().nth(1).map(PathBuf::from) else {
        eprintln!("usage: export_check OUT");
        std::process::exit(2);
    };
    Architecture::ALL.into_iter().try_for_each(|architecture| export(architecture, &out))
}

fn export(architecture: Architecture, out: &Path) -> Result<(), ModelError> {
    let folder = out.join(architecture.model_type());
    let options = LoadOptions { device: Device::Cpu, kind: Kind::Float };
    let mut model = CausalLm::random(ModelConfig::tiny(architecture, 100), 1, &options);
    // weights of 0.02 would hide a wrong one
    for parameter in model.parameters().iter().filter(|parameter| parameter.decays) {
        let _ = no_grad(|| parameter.tensor.shallow_clone().g_mul_scalar_(10.0));
    }
    let ids = Tensor::from_slice(&[5i64, 17, 99, 0, 42, 42, 7, 63]).view([1, 8]);
    let base = logits(&model, &ids);
    model.save(&folder.join("base"), &SaveOptions::default())?;

    let config = LoraConfig { r: 4, lora_alpha: 8.0, ..LoraConfig::default() };
    model.add_lora(&config, 2)?;
    for parameter in model.trainable_parameters() {
        if parameter.name.contains("lora_B") {
            let _ = no_grad(|| parameter.tensor.shallow_clone().normal_(0.0, 0.2));
        }
    }
    let adapted = logits(&model, &ids);
    let adapter_only = Some(folder.join("base").display().to_string());
    model.save(&folder.join("adapter"), &SaveOptions { adapter_only, ..SaveOptions::default() })?;
    model.save(&folder.join("merged"), &SaveOptions { merge_lora: true, ..SaveOptions::default() })?;
    let tensors = [("ids", ids), ("base", base), ("adapted", adapted)].map(|(name, tensor)| (name.to_owned(), tensor));
    model::safetensors_file::write(&folder.join("logits.safetensors"), &tensors)
}

fn logits(model: &CausalLm, ids: &Tensor) -> Tensor {
    no_grad(|| model.logits(&model.forward(ids, &AttentionPattern::Causal, None), None))
}
