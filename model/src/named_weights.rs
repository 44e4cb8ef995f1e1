//! The model's tensors by name: fused, as they are trained, and single, as Hugging Face's files have them.

use tch::Tensor;

use crate::causal_lm::{CausalLm, NamedParameter};
use crate::linear::{Linear, LowRank};

/// One tensor of a Hugging Face file and its place in the model.
pub(crate) struct FileTensor<'a> {
    /// Name in the file.
    pub name: String,
    /// View of the model's storage.
    pub view: Tensor,
    /// Adapter on exactly this weight.
    pub adapter: Option<&'a LowRank>,
}

impl CausalLm {
    /// All parameters in a fixed order, adapters last in their layer.
    pub fn parameters(&self) -> Vec<NamedParameter> {
        let mut list = ParameterList(Vec::new());
        list.push("model.embed_tokens.weight", &self.embed_tokens);
        for (index, layer) in self.layers.iter().enumerate() {
            let prefix = format!("model.layers.{index}");
            let attention = &layer.self_attn;
            list.push(&format!("{prefix}.input_layernorm.weight"), &layer.input_layernorm.weight);
            list.linear(&format!("{prefix}.self_attn.qkv_proj"), &attention.qkv_proj);
            if let Some((q_norm, k_norm)) = &attention.qk_norm {
                list.push(&format!("{prefix}.self_attn.q_norm.weight"), &q_norm.weight);
                list.push(&format!("{prefix}.self_attn.k_norm.weight"), &k_norm.weight);
            }
            list.linear(&format!("{prefix}.self_attn.o_proj"), &attention.o_proj);
            list.push(&format!("{prefix}.post_attention_layernorm.weight"), &layer.post_attention_layernorm.weight);
            list.linear(&format!("{prefix}.mlp.gate_up_proj"), &layer.mlp.gate_up_proj);
            list.linear(&format!("{prefix}.mlp.down_proj"), &layer.mlp.down_proj);
        }
        list.push("model.norm.weight", &self.norm.weight);
        if let Some(lm_head) = &self.lm_head {
            list.push("lm_head.weight", lm_head);
        }
        for (name, adapter) in self.adapters() {
            list.push(&format!("{name}.lora_A.weight"), &adapter.a);
            list.push(&format!("{name}.lora_B.weight"), &adapter.b);
        }
        list.0
    }

    /// Adapters with the path of the weight they adapt: `model.layers.0.self_attn.q_proj`.
    pub(crate) fn adapters(&self) -> impl Iterator<Item = (String, &LowRank)> {
        self.layers.iter().enumerate().flat_map(|(index, layer)| {
            let attention = [&layer.self_attn.qkv_proj, &layer.self_attn.o_proj].map(|linear| ("self_attn", linear));
            let mlp = [&layer.mlp.gate_up_proj, &layer.mlp.down_proj].map(|linear| ("mlp", linear));
            attention.into_iter().chain(mlp).flat_map(move |(block, linear)| {
                let name = move |a: &LowRank| format!("model.layers.{index}.{block}.{}", a.projection);
                linear.adapters.iter().map(move |adapter| (name(adapter), adapter))
            })
        })
    }

    /// Every tensor of a Hugging Face file, as a view. Call under `no_grad`.
    pub(crate) fn file_tensors(&self) -> Vec<FileTensor<'_>> {
        let (head_dim, intermediate) = (self.config.head_dim, self.config.intermediate_size);
        let q_rows = self.config.num_attention_heads * head_dim;
        let kv_rows = self.config.num_key_value_heads * head_dim;
        let mut list = FileTensorList(Vec::new());
        list.push("model.embed_tokens.weight".into(), &self.embed_tokens);
        for (index, layer) in self.layers.iter().enumerate() {
            let prefix = format!("model.layers.{index}");
            let attention = format!("{prefix}.self_attn");
            let mlp = format!("{prefix}.mlp");
            list.push(format!("{prefix}.input_layernorm.weight"), &layer.input_layernorm.weight);
            let qkv = [("q_proj", q_rows), ("k_proj", kv_rows), ("v_proj", kv_rows)];
            list.slices(&attention, &layer.self_attn.qkv_proj, &qkv);
            if let Some((q_norm, k_norm)) = &layer.self_attn.qk_norm {
                list.push(format!("{attention}.q_norm.weight"), &q_norm.weight);
                list.push(format!("{attention}.k_norm.weight"), &k_norm.weight);
            }
            list.slices(&attention, &layer.self_attn.o_proj, &[("o_proj", self.config.hidden_size)]);
            list.push(format!("{prefix}.post_attention_layernorm.weight"), &layer.post_attention_layernorm.weight);
            let gate_up = [("gate_proj", intermediate), ("up_proj", intermediate)];
            list.slices(&mlp, &layer.mlp.gate_up_proj, &gate_up);
            list.slices(&mlp, &layer.mlp.down_proj, &[("down_proj", self.config.hidden_size)]);
        }
        list.push("model.norm.weight".into(), &self.norm.weight);
        if let Some(lm_head) = &self.lm_head {
            list.push("lm_head.weight".into(), lm_head);
        }
        list.0
    }
}

struct ParameterList(Vec<NamedParameter>);

impl ParameterList {
    fn push(&mut self, name: &str, tensor: &Tensor) {
        // matrices decay; norms and biases do not
        let decays = tensor.dim() > 1;
        self.0.push(NamedParameter { name: name.into(), tensor: tensor.shallow_clone(), decays });
    }

    fn linear(&mut self, name: &str, linear: &Linear) {
        self.push(&format!("{name}.weight"), &linear.weight);
        if let Some(bias) = &linear.bias {
            self.push(&format!("{name}.bias"), bias);
        }
    }
}

struct FileTensorList<'a>(Vec<FileTensor<'a>>);

impl<'a> FileTensorList<'a> {
    fn push(&mut self, name: String, tensor: &Tensor) {
        self.0.push(FileTensor { name, view: tensor.shallow_clone(), adapter: None });
    }

    /// Rows of a fused layer under their own names.
    fn slices(&mut self, prefix: &str, linear: &'a Linear, rows: &[(&str, i64)]) {
        let mut start = 0;
        for (projection, rows) in rows {
            let adapter = linear.adapters.iter().find(|adapter| adapter.start == start);
            let view = linear.weight.narrow(0, start, *rows);
            self.0.push(FileTensor { name: format!("{prefix}.{projection}.weight"), view, adapter });
            if let Some(bias) = &linear.bias {
                self.push(format!("{prefix}.{projection}.bias"), &bias.narrow(0, start, *rows));
            }
            start += rows;
        }
    }
}
