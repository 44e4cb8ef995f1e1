//! GGUF import against the `gguf` package and transformers; files made by `tests/golden/model/make_gguf.py` and
//! `make_smollm2.py`.

use std::path::{Path, PathBuf};

use monopass_model as model;

use model::gguf::dequantize::dequantize;
use model::gguf::reader::GgufFile;
use model::gguf::tensor_type::TensorType;
use model::gguf::{import, import_as};
use model::safetensors_file::SafetensorsFile;
use model::{AttentionPattern, CausalLm, ChatMessage, LoadOptions, Tokenizer};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor, no_grad};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/model").join(name)
}

fn on_cpu(kind: Kind) -> LoadOptions {
    LoadOptions { device: Device::Cpu, kind }
}

#[test]
fn every_type_dequantises_to_the_same_bits() {
    let file = SafetensorsFile::open(&golden("dequantized.safetensors")).unwrap();
    for id in [0, 1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 30] {
        let tensor_type = TensorType::from_id(id).unwrap();
        let name = tensor_type.name();
        let bytes = Vec::<u8>::try_from(file.tensor(&format!("{name}.bytes")).unwrap()).unwrap();
        let wanted = Vec::<f32>::try_from(file.tensor(&format!("{name}.values")).unwrap()).unwrap();
        assert_eq!(dequantize(tensor_type, &bytes), wanted, "{name}");
    }
}

#[test]
fn imported_models_give_the_logits_of_their_source() {
    for name in ["llama", "qwen3"] {
        let out = tempfile::tempdir().unwrap();
        import(&golden(&format!("{name}.gguf")), out.path()).unwrap();
        let model = CausalLm::load(out.path(), &on_cpu(Kind::Float)).unwrap();
        let file = SafetensorsFile::open(&golden(name).join("golden.safetensors")).unwrap();
        let ids = file.tensor("ids.0").unwrap().unsqueeze(0);
        let hidden = no_grad(|| model.forward(&ids, &AttentionPattern::Causal, None)).squeeze_dim(0);
        let difference = model.logits(&hidden, None) - file.tensor("logits.0").unwrap();
        let difference = difference.abs().max().double_value(&[]);
        assert!(difference < 1e-4, "{name}: {difference}");
    }
}

#[test]
fn rebuilt_tokenizers_give_the_same_ids() {
    let text = std::fs::read_to_string(golden("tokens.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    for name in ["llama", "qwen3"] {
        let out = tempfile::tempdir().unwrap();
        import(&golden(&format!("{name}.gguf")), out.path()).unwrap();
        let tokenizer = Tokenizer::load(out.path()).unwrap();
        for case in cases[name].as_array().unwrap() {
            let wanted: Vec<i64> = serde_json::from_value(case["ids"].clone()).unwrap();
            assert_eq!(tokenizer.encode(case["text"].as_str().unwrap(), false).unwrap(), wanted, "{name}: {case}");
        }
        // qwen3.gguf asks for BOS, llama.gguf does not want it
        let with_special = tokenizer.encode("the cat", true).unwrap();
        assert_eq!(with_special[0] == 1, name == "qwen3");
        assert_eq!(tokenizer.decode(&with_special, true).unwrap(), "the cat");
        assert_eq!(tokenizer.eos_token_ids(), [2]);
        let message = ChatMessage { role: "user".into(), content: "the cat".into() };
        assert_eq!(tokenizer.apply_chat_template(&[message], true).unwrap(), "the cat</s>");
    }
}

#[test]
fn what_cannot_be_imported_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let whole = std::fs::read(golden("llama.gguf")).unwrap();
    let import_changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let error = import(&path, &folder.path().join("out")).unwrap_err().to_string();
        assert!(!folder.path().join("out/config.json").exists());
        error
    };
    let replace = |from: &'static [u8], to: &'static [u8]| {
        move |bytes: &mut Vec<u8>| {
            let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
            bytes.splice(at..at + from.len(), to.iter().copied());
        }
    };
    let error = import_changed(&|bytes| bytes[..4].copy_from_slice(b"PK\x03\x04"));
    assert!(error.contains("not a GGUF file"), "{error}");
    let error = import_changed(&|bytes| bytes[4] = 1);
    assert!(error.contains("version 1") && error.contains("2 and 3"), "{error}");
    let error = import_changed(&|bytes| bytes.truncate(whole.len() - 1000));
    assert!(error.contains("cut short"), "{error}");
    let error = import_changed(&replace(
        b"architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama",
        b"architecture\x08\0\0\0\x05\0\0\0\0\0\0\0gemma",
    ));
    assert!(error.contains("`gemma`") && error.contains("qwen3"), "{error}");
    let error = import_changed(&replace(b"blk.0.ffn_up.weight", b"blk.0.ffn_xp.weight"));
    assert!(error.contains("ffn_xp"), "{error}");
    let error = import_changed(&|bytes| {
        let key = b"llama.block_count";
        let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
        assert_eq!(bytes[at..at + 4], [4, 0, 0, 0], "an unsigned number of four bytes");
        bytes[at + 4..at + 8].copy_from_slice(&16_777_216u32.to_le_bytes());
    });
    assert!(error.contains("llama.block_count` is `16777216`"), "{error}");
    let error = import_changed(&|bytes| {
        let key = b"llama.feed_forward_length";
        let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
        bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    });
    assert!(error.contains("describes") && error.contains("x.gguf") && error.contains("cut short"), "{error}");
    // name, two dimensions, their sizes, then the type: bf16 (30) becomes IQ4_XS (23)
    let error = import_changed(&|bytes| {
        let name = b"blk.0.ffn_up.weight";
        let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 4 + 16;
        assert_eq!(bytes[at], 30);
        bytes[at] = 23;
    });
    assert!(error.contains("IQ4_XS") && error.contains("Q4_K"), "{error}");
    let error = import(&folder.path().join("none.gguf"), folder.path()).unwrap_err().to_string();
    assert!(error.contains("none.gguf"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Cut anywhere, flipped anywhere in the header: an error or a readable file, never a panic or a huge allocation.
    #[test]
    fn damaged_headers_never_panic(length in 0usize..48_000, position in 0usize..6_000, bit in 0u8..8) {
        let mut bytes = std::fs::read(golden("llama.gguf")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        std::fs::write(&path, &bytes[..length]).unwrap();
        prop_assert!(GgufFile::open(&path).is_err());
        bytes[position] ^= 1 << bit;
        std::fs::write(&path, &bytes).unwrap();
        let _ = GgufFile::open(&path);
    }
}

/// Needs the real file: MONOPASS_SMOLLM2_GGUF=SmolLM2-135M-Instruct.Q4_1.gguf.
#[test]
fn smollm2_equals_transformers_load_of_the_same_file() {
    let Some(gguf) = std::env::var_os("MONOPASS_SMOLLM2_GGUF").map(PathBuf::from).filter(|path| path.is_file()) else {
        println!("skipped: MONOPASS_SMOLLM2_GGUF names no file");
        return;
    };
    let file = SafetensorsFile::open(&golden("smollm2.safetensors")).unwrap();
    let text = std::fs::read_to_string(golden("smollm2_tokens.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    let out = tempfile::tempdir().unwrap();
    import_as(&gguf, out.path(), Kind::Float).unwrap();
    let tokenizer = Tokenizer::load(out.path()).unwrap();
    for case in cases["texts"].as_array().unwrap() {
        let wanted: Vec<i64> = serde_json::from_value(case["ids"].clone()).unwrap();
        assert_eq!(tokenizer.encode(case["text"].as_str().unwrap(), false).unwrap(), wanted, "{case}");
    }
    let ids = file.tensor("ids").unwrap().unsqueeze(0);
    let columns = file.tensor("columns").unwrap();
    let run = |kind: Kind| {
        let model = CausalLm::load(out.path(), &on_cpu(kind)).unwrap();
        no_grad(|| {
            let hidden = model.forward(&ids, &AttentionPattern::Causal, None).squeeze_dim(0);
            model.logits(&hidden, None)
        })
    };
    let float = run(Kind::Float);
    let difference = float.index_select(1, &columns) - file.tensor("logits").unwrap();
    let difference = difference.abs().max().double_value(&[]);
    println!("float32: max abs difference {difference}");
    assert!(difference < 1e-3, "{difference}");
    let bf16 = run(Kind::BFloat16);
    let num_equal = |name: &str, logits: &Tensor, at: &Tensor| {
        let same = logits.argmax(-1, false).eq_tensor(&file.tensor(name).unwrap());
        same.logical_and(at).to_kind(Kind::Int64).sum(Kind::Int64).int64_value(&[])
    };
    // Logits near 20 are multiples of 0.125 in bf16, so the best two are often equal or neighbours: transformers'
    // two attention implementations differ in 5 of 200 such places. Clear places must agree.
    let clear = file.tensor("margin.bfloat16").unwrap().gt(0.25);
    let num_clear = clear.to_kind(Kind::Int64).sum(Kind::Int64).int64_value(&[]);
    let everywhere = Tensor::ones_like(&clear);
    let in_float = num_equal("argmax.float32", &float, &everywhere);
    let in_bf16 = num_equal("argmax.bfloat16", &bf16, &everywhere);
    let in_clear_bf16 = num_equal("argmax.bfloat16", &bf16, &clear);
    println!("argmax equal: float32 {in_float}, bfloat16 {in_bf16} of {}", ids.size()[1]);
    println!("bfloat16, margin above 0.25: {in_clear_bf16} of {num_clear}");
    assert_eq!(in_float, ids.size()[1]);
    assert!(num_clear >= 200, "{num_clear}");
    assert_eq!(in_clear_bf16, num_clear);
}
