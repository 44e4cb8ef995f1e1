//! Grouped-query self-attention (Ainslie et al. 2023) with rotary positions.

use native::attention::Visible;
use tch::{Device, Kind, Tensor};

use crate::config::ModelConfig;
use crate::key_ranges::KeyRanges;
use crate::kv_cache::KvCache;
use crate::linear::{DropoutSeed, Linear};
use crate::rms_norm::RmsNorm;
use crate::rope::RopeAngles;

/// What all layers of one forward pass share.
#[derive(Debug)]
pub struct SharedInputs {
    /// Rotation of every query.
    pub angles: RopeAngles,
    /// What queries see under each window that occurs in the model.
    pub visible: Vec<(Option<i64>, Visible)>,
}

impl SharedInputs {
    /// Lowers `ranges` for the windows of `config`.
    pub fn new(config: &ModelConfig, ranges: &KeyRanges, angles: RopeAngles) -> Self {
        let mut visible: Vec<(Option<i64>, Visible)> = Vec::new();
        for window in &config.sliding_windows {
            if visible.iter().all(|(known, _)| known != window) {
                let of_ranges = Visible::ranges(ranges.starts(*window), ranges.ends());
                visible.push((*window, Visible { own: ranges.own(), extra: ranges.extra(*window), ..of_ranges }));
            }
        }
        Self { angles, visible }
    }
}

/// Inputs of one forward pass beside the residual stream.
#[derive(Debug)]
pub struct AttentionContext<'a> {
    /// Of all layers.
    pub shared: &'a SharedInputs,
    /// Continued by the new tokens.
    pub cache: Option<&'a mut KvCache>,
    /// Queries whose output is wanted, int64 `[rows]`; all when absent. Keys and values are made of all tokens either way.
    pub rows: Option<&'a Tensor>,
}

/// Attention of one layer. Heads of q come first in the fused projection, then k, then v.
#[derive(Debug)]
pub struct Attention {
    /// `[(heads + 2 * kv_heads) * head_dim, hidden]`.
    pub qkv_proj: Linear,
    /// `[hidden, heads * head_dim]`.
    pub o_proj: Linear,
    /// On the heads of q and of k, before the rotation (Qwen3).
    pub qk_norm: Option<(RmsNorm, RmsNorm)>,
    heads: i64,
    kv_heads: i64,
    head_dim: i64,
    window: Option<i64>,
    layer: usize,
}

impl Attention {
    /// Uninitialised, of layer number `layer`.
    pub fn new(config: &ModelConfig, layer: usize, kind: Kind, device: Device) -> Self {
        let inner = config.num_attention_heads * config.head_dim;
        let head_norm = || RmsNorm::new(config.head_dim, config.rms_norm_eps, kind, device);
        Self {
            qkv_proj: Linear::new(config.hidden_size, config.qkv_rows(), config.qkv_bias, kind, device),
            o_proj: Linear::new(inner, config.hidden_size, config.o_bias, kind, device),
            qk_norm: config.qk_norm.then(|| (head_norm(), head_norm())),
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            window: config.sliding_windows[layer],
            layer,
        }
    }

    /// `[batch, seq, hidden]` -> `[batch, seq, hidden]`, or `[batch, rows, hidden]` where the context names rows.
    pub fn forward(&self, x: &Tensor, context: &mut AttentionContext, dropout: Option<DropoutSeed>) -> Tensor {
        let (batch, seq, _) = x.size3().expect("the residual stream has three dimensions");
        let (heads, kv_heads, head_dim) = (self.heads, self.kv_heads, self.head_dim);

        let qkv = self.qkv_proj.forward(x, dropout.map(|seed| seed.of_module(0))); // [batch, seq, all heads * head_dim]
        let shared = context.shared;
        let (mut q, mut k, mut v) = match &self.qk_norm {
            None => native::ops::rope_qkv(&qkv, &shared.angles.cos, &shared.angles.sin, heads, kv_heads),
            Some((q_norm, k_norm)) => {
                let qkv = qkv.view([batch, seq, heads + 2 * kv_heads, head_dim]); // [batch, seq, all heads, head_dim]
                let rotate = |x: &Tensor| native::ops::rope(x, &shared.angles.cos, &shared.angles.sin);
                let q = rotate(&q_norm.forward(&qkv.narrow(2, 0, heads)));
                let k = rotate(&k_norm.forward(&qkv.narrow(2, heads, kv_heads)));
                (q, k, qkv.narrow(2, heads + kv_heads, kv_heads))
            }
        };
        if let Some(cache) = context.cache.as_deref_mut() {
            (k, v) = cache.write(self.layer, &k, &v); // [batch, held + seq, kv_heads, head_dim]
        }

        let visible = shared.visible.iter().find(|(window, _)| *window == self.window);
        let (_, visible) = visible.expect("lowered for every window of the config");
        let scale = 1.0 / (head_dim as f64).sqrt();
        let attended = match context.rows {
            Some(rows) => {
                q = q.index_select(1, &rows.to_device(q.device()));
                let visible = visible.select(&rows.to_device(Device::Cpu));
                native::attention::range_attention(&q, &k, &v, &visible, scale)
            }
            None => native::attention::range_attention(&q, &k, &v, visible, scale),
        };
        let attended = attended.view([batch, -1, heads * head_dim]); // [batch, seq or rows, heads * head_dim]
        self.o_proj.forward(&attended, dropout.map(|seed| seed.of_module(1)))
    }
}
