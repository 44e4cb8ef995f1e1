//! Logits and gradients against Hugging Face transformers; numbers made by `tests/golden/model/make.py`.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its files has failed")]

use std::path::{Path, PathBuf};

use monopass_model as model;

use model::config::{ColumnarPositions, ColumnarRope};
use model::safetensors_file::SafetensorsFile;
use model::{AttentionPattern, CausalLm, LoadOptions, LoraConfig, SaveOptions};
use tch::{Device, Kind, Tensor, no_grad};

const OPTIONS: LoadOptions = LoadOptions { device: Device::Cpu, kind: Kind::Float };
/// Float32 sums in another order; logits are of size 10.
const TOLERANCE: f64 = 1e-4;
const MODELS: [&str; 6] = ["llama", "llama3-rope", "llama-biases", "mistral", "qwen2", "qwen3"];
const ADAPTERS: [&str; 2] = ["llama-lora", "qwen2-lora-rs"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/model").join(name)
}

struct Golden {
    model: CausalLm,
    file: SafetensorsFile,
    ids: Vec<Tensor>,
    logits: Vec<Tensor>,
}

impl Golden {
    fn load(name: &str) -> Self {
        let file = SafetensorsFile::open(&folder(name).join("golden.safetensors")).unwrap();
        let get = |kind: &str| (0..3).map(|n| file.tensor(&format!("{kind}.{n}")).unwrap()).collect::<Vec<_>>();
        let (ids, logits) = (get("ids"), get("logits"));
        Self { model: CausalLm::load(&folder(name), &OPTIONS).unwrap(), file, ids, logits }
    }

    fn lengths(&self) -> Vec<i64> {
        self.ids.iter().map(|ids| ids.size()[0]).collect()
    }

    /// `[3, 20]`, padded on the right.
    fn padded(&self) -> Tensor {
        let rows = Tensor::zeros([3, 20], (Kind::Int64, Device::Cpu));
        for (row, ids) in self.ids.iter().enumerate() {
            rows.get(row as i64).narrow(0, 0, ids.size()[0]).copy_(ids);
        }
        rows
    }

    /// Compares rows of `hidden` `[rows, hidden]` with rows of golden sequence `n` from `start` on.
    fn check(&self, what: &str, hidden: &Tensor, n: usize, start: i64) {
        let rows = hidden.size()[0];
        let wanted = self.logits[n].narrow(0, start, rows);
        let difference = (self.model.logits(hidden, None) - wanted).abs().max().double_value(&[]);
        assert!(difference < TOLERANCE, "{what}, sequence {n}: {difference}");
    }
}

#[test]
fn single_padded_and_packed_logits_equal_transformers() {
    for name in MODELS.into_iter().chain(ADAPTERS) {
        let golden = Golden::load(name);
        no_grad(|| {
            for (n, ids) in golden.ids.iter().enumerate() {
                let hidden = golden.model.forward(&ids.unsqueeze(0), &AttentionPattern::Causal, None);
                golden.check(name, &hidden.squeeze_dim(0), n, 0);
            }
            let pattern = AttentionPattern::Padded { lengths: golden.lengths() };
            let padded = golden.model.forward(&golden.padded(), &pattern, None);
            let packed_ids = Tensor::cat(&golden.ids, 0).unsqueeze(0);
            let pattern = AttentionPattern::Packed { cu_seqlens: vec![0, 20, 33, 40] };
            let packed = golden.model.forward(&packed_ids, &pattern, None).squeeze_dim(0);
            for (n, (start, length)) in [(0, 20), (20, 13), (33, 7)].into_iter().enumerate() {
                golden.check(&format!("{name} padded"), &padded.get(n as i64).narrow(0, 0, length), n, 0);
                golden.check(&format!("{name} packed"), &packed.narrow(0, start, length), n, 0);
            }
        });
    }
}

#[test]
fn cached_logits_equal_transformers() {
    for name in MODELS {
        let golden = Golden::load(name);
        // capacity 3: the cache must grow
        let mut cache = golden.model.new_cache(1, 3);
        let ids = golden.ids[0].unsqueeze(0);
        let mut pass = |start: i64, length: i64| {
            cache.truncate(start);
            let hidden =
                golden.model.forward(&ids.narrow(1, start, length), &AttentionPattern::Causal, Some(&mut cache));
            assert_eq!(cache.len(), start + length);
            golden.check(&format!("{name} cached {start}+{length}"), &hidden.squeeze_dim(0), 0, start);
        };
        // prompt, one token, four at a time, then back to an earlier place
        for (start, length) in [(0, 9), (9, 1), (10, 4), (14, 4), (12, 8)] {
            pass(start, length);
        }
    }
}

#[test]
fn padded_batches_continue_their_own_rows() {
    for name in MODELS {
        let golden = Golden::load(name);
        let mut cache = golden.model.new_cache(3, 40);
        let prompt = [9, 5, 2];
        let pattern = AttentionPattern::Padded { lengths: prompt.to_vec() };
        let _ = golden.model.forward(&golden.padded().narrow(1, 0, 9), &pattern, Some(&mut cache));
        assert_eq!(cache.row_lengths(), prompt);
        // rows take 4, 1 and 3 tokens, then 1 each
        for lengths in [[4, 1, 3], [1, 1, 1]] {
            let held = cache.row_lengths().to_vec();
            let width = lengths.iter().copied().max().unwrap();
            let ids = Tensor::zeros([3, width], (Kind::Int64, Device::Cpu));
            for row in 0..3 {
                let next = golden.ids[row].narrow(0, held[row], lengths[row]);
                ids.get(row as i64).narrow(0, 0, lengths[row]).copy_(&next);
            }
            let pattern = AttentionPattern::Padded { lengths: lengths.to_vec() };
            let hidden = golden.model.forward(&ids, &pattern, Some(&mut cache));
            for row in 0..3 {
                let real = hidden.get(row as i64).narrow(0, 0, lengths[row]);
                golden.check(&format!("{name} ragged cache"), &real, row, held[row]);
            }
        }
    }
}

#[test]
fn asked_columns_are_columns_of_all() {
    let golden = Golden::load("qwen2");
    let hidden = golden.model.forward(&golden.ids[2].unsqueeze(0), &AttentionPattern::Causal, None).squeeze_dim(0);
    let ids = Tensor::from_slice(&[5i64, 90, 7]);
    let all = golden.model.logits(&hidden, None).index_select(1, &ids);
    assert!((golden.model.logits(&hidden, Some(&ids)) - all).abs().max().double_value(&[]) < 1e-5);
}

/// Loss of sequence 0 as in the script, through `forward_training`.
fn backward(golden: &Golden) -> f64 {
    let ids = golden.ids[0].unsqueeze(0);
    let pass = golden.model.forward_training(&golden.model.embed(&ids), &AttentionPattern::Causal, None);
    let logits = golden.model.logits(&pass.hidden.squeeze_dim(0).narrow(0, 0, 19), None);
    let loss = native::ops::cross_entropy_sum(&logits, &golden.ids[0].narrow(0, 1, 19));
    pass.backward(&loss);
    loss.double_value(&[])
}

fn gradients(model: &CausalLm) -> Vec<(String, Tensor)> {
    model.trainable_parameters().into_iter().map(|p| (p.name, p.tensor.grad())).collect()
}

#[test]
fn gradients_equal_transformers() {
    for name in MODELS {
        let mut golden = Golden::load(name);
        golden.model.train_all();
        backward(&golden);
        let gradients: std::collections::HashMap<_, _> = gradients(&golden.model).into_iter().collect();
        let (heads, kv_heads) = (golden.model.config.num_attention_heads, golden.model.config.num_key_value_heads);
        let head_dim = golden.model.config.head_dim;
        let qkv = &gradients["model.layers.0.self_attn.qkv_proj.weight"];
        let ours = [
            ("model.embed_tokens.weight", gradients["model.embed_tokens.weight"].shallow_clone()),
            ("model.layers.0.self_attn.k_proj.weight", qkv.narrow(0, heads * head_dim, kv_heads * head_dim)),
            (
                "model.layers.1.mlp.up_proj.weight",
                gradients["model.layers.1.mlp.gate_up_proj.weight"].narrow(0, 48, 48),
            ),
        ];
        for (tensor, ours) in ours {
            let wanted = golden.file.tensor(&format!("grad.{tensor}")).unwrap();
            let scale = wanted.abs().max().double_value(&[]);
            let difference = (ours - wanted).abs().max().double_value(&[]) / scale;
            assert!(difference < 1e-4, "{name} {tensor}: {difference}");
        }
    }
}

#[test]
fn checkpointed_gradients_are_the_same_bits() {
    for (name, lora) in [("llama", false), ("qwen3", false), ("mistral", true)] {
        let run = |checkpointing: bool| {
            let mut golden = Golden::load(name);
            if lora {
                let config = LoraConfig { r: 2, lora_dropout: 0.3, ..LoraConfig::default() };
                golden.model.add_lora(&config, 3).unwrap();
                for parameter in golden.model.trainable_parameters() {
                    let _ = no_grad(|| parameter.tensor.shallow_clone().fill_(0.1));
                }
                golden.model.set_dropout_seed(Some(11));
            } else {
                golden.model.train_all();
            }
            golden.model.set_gradient_checkpointing(checkpointing);
            let loss = backward(&golden);
            (loss, gradients(&golden.model))
        };
        let ((plain_loss, plain), (loss, checkpointed)) = (run(false), run(true));
        assert_eq!(plain_loss, loss);
        assert!(!plain.is_empty());
        for ((name, plain), (_, checkpointed)) in plain.iter().zip(&checkpointed) {
            let difference = (plain - checkpointed).abs().max().double_value(&[]);
            // the tied table adds its two uses in another order: the sum of two floats is the same either way
            assert_eq!(difference, 0.0, "{name}");
        }
    }
}

#[test]
fn dropout_changes_with_its_seed_only() {
    let run = |seed: Option<u64>| {
        let mut golden = Golden::load("llama-lora");
        golden.model.set_dropout_seed(seed);
        let hidden = golden.model.forward(&golden.ids[0].unsqueeze(0), &AttentionPattern::Causal, None);
        Vec::<f32>::try_from(hidden.view(-1)).unwrap()
    };
    assert_eq!(run(Some(1)), run(Some(1)));
    assert_ne!(run(Some(1)), run(Some(2)));
    assert_ne!(run(Some(1)), run(None));
}

#[test]
fn adapters_survive_saving_merging_and_loading() {
    for name in ADAPTERS {
        let golden = Golden::load(name);
        let out = tempfile::tempdir().unwrap();
        let (adapter, merged) = (out.path().join("adapter"), out.path().join("merged"));
        let base = folder(name).join(format!("../{}", name.split("-lora").next().unwrap()));
        let adapter_only = Some(base.canonicalize().unwrap().display().to_string());
        golden.model.save(&adapter, &SaveOptions { adapter_only, ..SaveOptions::default() }).unwrap();
        golden.model.save(&merged, &SaveOptions { merge_lora: true, ..SaveOptions::default() }).unwrap();
        let refused = golden.model.save(out.path(), &SaveOptions::default()).unwrap_err().to_string();
        assert!(refused.contains("merge_lora"), "{refused}");
        let mut in_memory = CausalLm::load(&adapter, &OPTIONS).unwrap();
        in_memory.merge_lora();
        assert!(in_memory.lora_config().is_none());
        for model in
            [CausalLm::load(&adapter, &OPTIONS).unwrap(), CausalLm::load(&merged, &OPTIONS).unwrap(), in_memory]
        {
            let reloaded = Golden { model, ..Golden::load(name) };
            let hidden = reloaded.model.forward(&golden.ids[0].unsqueeze(0), &AttentionPattern::Causal, None);
            reloaded.check(name, &hidden.squeeze_dim(0), 0, 0);
        }
    }
}

#[test]
fn an_adapter_brings_the_positions_it_was_trained_with() {
    let out = tempfile::tempdir().unwrap();
    let base = folder("llama");
    let mut trained = CausalLm::load(&base, &OPTIONS).unwrap();
    let rope = ColumnarRope { pairs: vec![1, 3], branch_stride: 8.0, positions: ColumnarPositions::Linear };
    trained.set_columnar_rope(rope.clone()).unwrap();
    trained.add_lora(&LoraConfig::default(), 1).unwrap();
    let adapter_only = Some(base.canonicalize().unwrap().display().to_string());
    trained.save(out.path(), &SaveOptions { adapter_only, ..SaveOptions::default() }).unwrap();
    assert_eq!(CausalLm::load(out.path(), &OPTIONS).unwrap().config.columnar_rope, Some(rope));
}

#[test]
fn adapters_that_cannot_be_applied_are_refused() {
    let out = tempfile::tempdir().unwrap();
    let source = folder("llama-lora");
    std::fs::copy(source.join("adapter_model.safetensors"), out.path().join("adapter_model.safetensors")).unwrap();
    let config = std::fs::read_to_string(source.join("adapter_config.json")).unwrap();
    let base = folder("llama");
    let load_with = |from: &str, to: &str| {
        assert!(config.contains(from), "{from}");
        std::fs::write(out.path().join("adapter_config.json"), config.replace(from, to)).unwrap();
        CausalLm::load_adapter(out.path(), &base, &OPTIONS).unwrap_err().to_string()
    };
    let cases = [
        ("\"use_dora\": false", "\"use_dora\": true", "use_dora"),
        ("\"modules_to_save\": null", "\"modules_to_save\": [\"lm_head\"]", "modules_to_save"),
        ("\"down_proj\"", "\"lm_head\"", "lm_head"),
        ("\"r\": 4", "\"r\": 5", "holds adapters of rank 4"),
        ("\"r\": 4", "\"r\": 1000000000000", "holds adapters of rank 4"),
        (
            "\"init_lora_weights\": true",
            "\"init_lora_weights\": \"pissa_niter_4\"",
            "path_initial_model_for_weight_conversion",
        ),
        ("\"kasa_config\": null", "\"kasa_config\": {\"beta\": 0.1}", "kasa_config"),
        ("\"r\": 4", "\"r\": 0", "holds adapters of rank 4"),
        ("\"v_proj\"", "\"k_proj\"", "v_proj"),
        ("\"LORA\"", "\"IA3\"", "IA3"),
    ];
    for (from, to, wanted) in cases {
        let error = load_with(from, to);
        assert!(error.contains(wanted), "{to}: {error}");
    }
}

#[test]
fn leaving_tokens_out_of_the_last_layer_changes_no_gradient() {
    let rows = [3i64, 4, 11];
    for name in MODELS {
        let run = |rows_only: Option<&[i64]>, checkpointing: bool| {
            let mut golden = Golden::load(name);
            golden.model.train_all();
            golden.model.set_gradient_checkpointing(checkpointing);
            let embeddings = golden.model.embed(&golden.ids[0].unsqueeze(0));
            let pass = golden.model.forward_training(&embeddings, &AttentionPattern::Causal, rows_only);
            let hidden = pass.hidden.squeeze_dim(0).index_select(0, &Tensor::from_slice(&rows));
            let logits = golden.model.logits(&hidden, None);
            let labels = golden.ids[0].index_select(0, &Tensor::from_slice(&rows.map(|row| row + 1)));
            let loss = native::ops::cross_entropy_sum(&logits, &labels);
            pass.backward(&loss);
            (loss.double_value(&[]), gradients(&golden.model))
        };
        let (wanted_loss, wanted) = run(None, false);
        for checkpointing in [false, true] {
            let (loss, got) = run(Some(&rows), checkpointing);
            assert!((loss - wanted_loss).abs() < 1e-5 * wanted_loss);
            for ((parameter, wanted), (_, got)) in wanted.iter().zip(&got) {
                let scale = wanted.abs().max().double_value(&[]).max(1e-6);
                let difference = (got - wanted).abs().max().double_value(&[]) / scale;
                assert!(difference < 1e-4, "{name} {parameter}: {difference}");
            }
        }
    }
}
