"""GGUF golden files, by the `gguf` package: dequantised blocks of every type, and two whole tiny files.

Run after make.py: python make_gguf.py   (gguf, torch, safetensors, tokenizers)
- dequantized.safetensors: `TYPE.bytes` (random blocks) and `TYPE.values` (gguf's own float32)
- llama.gguf, qwen3.gguf: the models of make.py with a tokenizer of 96 tokens; importing them must give the same logits
- tokens.json: texts and ids by the tokenizers those files describe
"""

import json
import pathlib

import gguf
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
TYPES = "F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K".split()
# bytes of a block at which a float16 stands
SCALES = {"F16": [0], "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q2_K": [80, 82],
          "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
TEXTS = ["the cat sat on the mat", "a  cat, 12 mats!", "tatata", "hot tea\nat ten", " leading", ""]
CORPUS = ["the cat sat on the mat", "ten hot teas at the inn", "a mat, a cat; 12 teas!", "tatata the the"] * 5
NAMES = gguf.get_tensor_name_map


def blocks(generator, name):
    quant_type = getattr(gguf.GGMLQuantizationType, name)
    values, size = gguf.GGML_QUANT_SIZES[quant_type]
    count = 64 if values == 1 else 4 if values == 32 else 2
    if name in ("F32", "BF16"):
        floats = generator.standard_normal(count).astype(np.float32)
        return gguf.quants.quantize(floats, quant_type).view(np.uint8), quant_type
    data = generator.integers(0, 256, (count, size), dtype=np.uint8)
    for at in SCALES[name]:
        scale = generator.standard_normal((count, 1)).astype(np.float16)
        data[:, at:at + 2] = scale.view(np.uint8)
    return data.reshape(-1), quant_type


def make_blocks():
    generator = np.random.default_rng(3)
    tensors = {}
    for name in TYPES:
        data, quant_type = blocks(generator, name)
        tensors[f"{name}.bytes"] = torch.from_numpy(data.copy())
        stored = data if name not in ("F32", "F16") else data.view(np.float32 if name == "F32" else np.float16)
        tensors[f"{name}.values"] = torch.from_numpy(gguf.quants.dequantize(stored, quant_type).astype(np.float32).reshape(-1))
    save_file(tensors, HERE / "dequantized.safetensors")


def permute(weights, heads):
    """What the converter of llama.cpp does to q and k of a Llama."""
    return weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=96, special_tokens=["<pad>", "<s>", "</s>"], min_frequency=1)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def sentencepiece():
    """Pieces as SentencePiece numbers them: specials, then merges in order (score = -rank), then characters."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    trainer = trainers.BpeTrainer(vocab_size=90, special_tokens=["<unk>", "<s>", "</s>"], min_frequency=1)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def pad(tokens, size):
    return tokens + [f"[unused{i}]" for i in range(size - len(tokens))]


def write_file(name, arch, tokenizer, kind, changes):
    config = json.loads((HERE / name / "config.json").read_text())
    vocab = json.loads(tokenizer.to_str())["model"]
    tokens = [token for token, _ in sorted(vocab["vocab"].items(), key=lambda item: item[1])]
    used, tokens = len(tokens), pad(tokens, config["vocab_size"])
    writer = gguf.GGUFWriter(HERE / f"{name}.gguf", arch)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_tokenizer_model(kind)
    writer.add_token_list(tokens)
    special = [2 if token == "<unk>" else 3 for token in tokens[:3]]
    writer.add_token_types(special + [1] * (used - 3) + [5] * (len(tokens) - used))
    if kind == "gpt2":
        writer.add_tokenizer_pre("smollm")
        writer.add_token_merges([" ".join(pair) for pair in vocab["merges"]])
    else:
        rank = {left + right: -float(i) for i, (left, right) in enumerate(vocab["merges"])}
        writer.add_token_scores([rank.get(token, -1e6) for token in tokens])
        writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}")
    for key, value in changes.items():
        getattr(writer, key)(value)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA if arch == "llama" else gguf.MODEL_ARCH.QWEN3, 2)
    for tensor, values in load_file(HERE / name / "model.safetensors").items():
        values = values.float().numpy()
        if arch == "llama" and ".q_proj." in tensor:
            values = permute(values, config["num_attention_heads"])
        if arch == "llama" and ".k_proj." in tensor:
            values = permute(values, config["num_key_value_heads"])
        stored = values if values.ndim == 1 else gguf.quants.quantize(values, gguf.GGMLQuantizationType.BF16)
        dtype = None if values.ndim == 1 else gguf.GGMLQuantizationType.BF16
        writer.add_tensor(names.get_name(tensor, try_suffixes=(".weight", ".bias")), stored, raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return [{"text": text, "ids": tokenizer.encode(text).ids} for text in TEXTS]


def main():
    make_blocks()
    tokens = {
        "llama": write_file("llama", "llama", sentencepiece(), "llama", {"add_add_bos_token": False}),
        "qwen3": write_file("qwen3", "qwen3", byte_level(), "gpt2", {"add_add_bos_token": True}),
    }
    (HERE / "tokens.json").write_text(json.dumps(tokens, indent=1) + "\n")


if __name__ == "__main__":
    main()
