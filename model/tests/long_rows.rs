//! Rows enough for every kernel of products in bf16, and what training makes of them.

use model::{Architecture, AttentionPattern, CausalLm, LoadOptions, LoraConfig, ModelConfig};
use monopass_model as model;
use tch::{Device, Kind, Tensor};

/// Gradients of what is trained, all weights or adapters, by name.
fn gradients(kind: Kind, lora: Option<&LoraConfig>) -> Vec<(String, Tensor)> {
    let mut config = ModelConfig::tiny(Architecture::Llama, 40);
    (config.hidden_size, config.intermediate_size, config.head_dim) = (64, 128, 16);
    let mut model = CausalLm::random(config, 3, &LoadOptions { device: Device::Cpu, kind });
    match lora {
        Some(lora) => model.add_lora(lora, 1).expect("the model has all modules named"),
        None => model.train_all(),
    }
    let ids = Tensor::from_slice(&(0..300).map(|i| i * i % 37).collect::<Vec<i64>>()).view([2, 150]);
    let hidden = model.forward(&ids, &AttentionPattern::Causal, None);
    let logits = model.logits(&hidden, None).to_kind(Kind::Float).view([300, 40]);
    logits.cross_entropy_for_logits(&ids.roll([-1i64], [1i64]).view([300])).backward();
    let parameters = model.trainable_parameters().into_iter();
    parameters.map(|parameter| (parameter.name, parameter.tensor.grad().to_kind(Kind::Double))).collect()
}

#[test]
fn gradients_in_bf16_are_those_of_float32() {
    let lora = LoraConfig { r: 4, lora_dropout: 0.0, ..LoraConfig::default() };
    for lora in [None, Some(&lora)] {
        let mut compared = 0;
        for ((name, want), (_, got)) in gradients(Kind::Float, lora).into_iter().zip(gradients(Kind::BFloat16, lora)) {
            let size = want.norm().double_value(&[]);
            // as B begins with zeros, A has no gradient
            if size == 0.0 {
                assert!(name.contains("lora_A"), "{name}");
                continue;
            }
            let error = (got - want).norm().double_value(&[]) / size;
            assert!(error < 0.1, "{name}: {error}");
            compared += 1;
        }
        assert!(compared >= 14, "{compared}");
    }
}
