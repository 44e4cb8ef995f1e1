//! Byte-level BPE (GPT-2's kind): merges are in the file, the splitting rule is named by `tokenizer.ggml.pre`.

use serde_json::{Value, json};

use super::GgufError;
use super::metadata::Metadata;
use super::vocabulary::{Parts, Vocabulary};

/// Llama 3's splitting rule: words, up to three digits, punctuation, line ends.
const LLAMA3_PATTERN: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
/// Qwen 2's: the same with single digits.
const QWEN2_PATTERN: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/// Where a file names its splitting rule.
pub(super) const PRE: &str = "tokenizer.ggml.pre";

/// True for the names of Llama 3's splitting rule.
pub(super) fn is_llama3(pre: &str) -> bool {
    matches!(pre, "llama-bpe" | "llama3" | "llama-v3")
}

pub(super) fn parts(metadata: Metadata, vocabulary: &Vocabulary) -> Result<Parts, GgufError> {
    let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let split = |pattern: &str| {
        let split = json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        json!({"type": "Sequence", "pretokenizers": [split, byte_level(false)]})
    };
    let digits = || {
        let digits = json!({"type": "Digits", "individual_digits": true});
        json!({"type": "Sequence", "pretokenizers": [digits, byte_level(true)]})
    };
    let name = metadata.text(PRE)?.unwrap_or("default");
    let (pre_tokenizer, normalizer, ignore_merges) = match name {
        "smollm" | "starcoder" | "refact" | "command-r" => (digits(), Value::Null, false),
        name if is_llama3(name) => (split(LLAMA3_PATTERN), Value::Null, true),
        "qwen2" => (split(QWEN2_PATTERN), json!({"type": "NFC"}), false),
        "gpt-2" | "gpt2" | "default" => (byte_level(true), Value::Null, false),
        other => {
            let wanted = "one of smollm, starcoder, refact, command-r, llama-bpe, qwen2, gpt-2";
            return Err(GgufError::Value { key: PRE.into(), got: other.into(), wanted });
        }
    };
    Ok(Parts {
        normalizer,
        pre_tokenizer,
        decoder: json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        model: json!({
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": ignore_merges,
            "vocab": vocabulary.ids(), "merges": merges(metadata)?,
        }),
    })
}

/// Merges as pairs. A token may hold no space (space is written `Ġ`), so the one space is the border.
fn merges(metadata: Metadata) -> Result<Vec<Value>, GgufError> {
    const MERGES: &str = "tokenizer.ggml.merges";
    let merges = metadata.texts(MERGES)?.ok_or_else(|| GgufError::Missing { key: MERGES.into() })?;
    merges
        .into_iter()
        .map(|merge| match merge.split_once(' ') {
            Some((left, right)) => Ok(json!([left, right])),
            None => {
                Err(GgufError::Value { key: MERGES.into(), got: merge.into(), wanted: "pairs with a space between" })
            }
        })
        .collect()
}
