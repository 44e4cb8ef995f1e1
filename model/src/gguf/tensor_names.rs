//! Hugging Face's names for GGUF's tensors, and the order of rows.

use tch::Tensor;

/// Parts of a layer: GGUF's name behind `blk.N.`, Hugging Face's behind `model.layers.N.`.
const LAYER: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Hugging Face's name of a tensor, `None` for one that has none.
pub fn hugging_face_name(name: &str) -> Option<String> {
    match name {
        "token_embd.weight" => return Some("model.embed_tokens.weight".into()),
        "output_norm.weight" => return Some("model.norm.weight".into()),
        "output.weight" => return Some("lm_head.weight".into()),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, parameter) = rest.rsplit_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (_, ours) = LAYER.iter().find(|(theirs, _)| *theirs == part)?;
    matches!(parameter, "weight" | "bias").then(|| format!("model.layers.{layer}.{ours}.{parameter}"))
}

/// True for tensors that carry nothing a folder needs: the rotary divisors, which end in config.json.
pub fn is_redundant(name: &str) -> bool {
    name == "rope_freqs.weight"
}

/// Llama files interleave the two halves of each rotated head of q and k (their kernels rotate neighbours);
/// Hugging Face keeps the halves apart. `tensor` `[heads * head_dim, ..]`.
pub fn unpermute(tensor: &Tensor, heads: i64) -> Tensor {
    let size = tensor.size();
    // [heads * head_dim, ..] -> [heads, head_dim / 2, 2, ..] -> [heads, 2, head_dim / 2, ..] -> [heads * head_dim, ..]
    tensor.view([heads, size[0] / heads / 2, 2, -1]).transpose(1, 2).reshape(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name = hugging_face_name("blk.12.attn_q.bias");
        assert_eq!(name.as_deref(), Some("model.layers.12.self_attn.q_proj.bias"));
        assert_eq!(hugging_face_name("blk.0.ffn_gate_inp.weight"), None);
        assert_eq!(hugging_face_name("blk.x.attn_q.weight"), None);
    }

    #[test]
    fn halves_come_apart() {
        let rows = Tensor::from_slice(&[0i64, 4, 1, 5, 2, 6, 3, 7]);
        assert_eq!(Vec::<i64>::try_from(unpermute(&rows, 1)).unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
        let two_heads = Tensor::from_slice(&[0i64, 2, 1, 3, 10, 12, 11, 13]);
        assert_eq!(Vec::<i64>::try_from(unpermute(&two_heads, 2)).unwrap(), [0, 1, 2, 3, 10, 11, 12, 13]);
    }
}
