"""Golden numbers for the model crate: tiny seeded models of every family, run by Hugging Face transformers.

Run: python make.py   (torch 2.11, transformers 5, peft, safetensors)
Writes one folder per model: config.json, model.safetensors (bf16) and golden.safetensors with float32
`ids.N`, `logits.N` for three sequences and gradients of the summed cross-entropy of sequence 0;
and adapter folders `*-lora*` made by PEFT with their own golden.safetensors.
"""

import json
import pathlib
import shutil

import peft
import torch
import transformers
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
LENGTHS = (20, 13, 7)
SHAPE = dict(
    vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5, attn_implementation="eager",
    bos_token_id=1, eos_token_id=2,
)
LLAMA3 = dict(
    rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=16,
)
MODELS = {
    "llama": (transformers.LlamaConfig, dict(tie_word_embeddings=False)),
    "llama3-rope": (
        transformers.LlamaConfig,
        dict(tie_word_embeddings=True, head_dim=16, num_attention_heads=2, num_key_value_heads=1, rope_parameters=LLAMA3),
    ),
    "llama-biases": (transformers.LlamaConfig, dict(tie_word_embeddings=True, attention_bias=True, mlp_bias=True)),
    "mistral": (transformers.MistralConfig, dict(tie_word_embeddings=False, sliding_window=6)),
    "qwen2": (transformers.Qwen2Config, dict(tie_word_embeddings=True)),
    "qwen3": (transformers.Qwen3Config, dict(tie_word_embeddings=True, head_dim=16)),
}
ADAPTERS = {
    "llama-lora": ("llama", dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "gate_proj", "down_proj"])),
    "qwen2-lora-rs": ("qwen2", dict(r=3, lora_alpha=6, target_modules="all-linear", use_rslora=True)),
}


def randomise(parameters, seed):
    """Weights large enough that every part shows in the logits, and exact in bf16."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        scale, shift = (0.2, 0.0) if parameter.dim() > 1 else (0.3, 0.7)
        values = torch.randn(parameter.shape, generator=generator) * scale + shift
        parameter.data.copy_(values.bfloat16().float())


def golden(model, with_gradients):
    tensors = {}
    generator = torch.Generator().manual_seed(7)
    for n, length in enumerate(LENGTHS):
        ids = torch.randint(3, SHAPE["vocab_size"], (1, length), generator=generator)
        tensors[f"ids.{n}"] = ids[0]
        logits = model(input_ids=ids).logits
        tensors[f"logits.{n}"] = logits[0].detach().clone()
        if n == 0 and with_gradients:
            torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="sum").backward()
            for name, parameter in model.named_parameters():
                if name.endswith(("embed_tokens.weight", "layers.0.self_attn.k_proj.weight", "layers.1.mlp.up_proj.weight")):
                    tensors[f"grad.{name}"] = parameter.grad.clone()
    return tensors


def write(folder, tensors):
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    save_file(tensors, folder / "golden.safetensors", metadata=versions)


def make_model(name):
    config_class, changes = MODELS[name]
    config = config_class(**{**SHAPE, **changes})
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    randomise(model.parameters(), seed=sum(name.encode()))
    return model


def main():
    for name in MODELS:
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        model = make_model(name)
        tensors = golden(model, with_gradients=True)
        model.to(torch.bfloat16).save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        write(folder, tensors)
    for name, (base, changes) in ADAPTERS.items():
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        config = peft.LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.1, **changes)
        model = peft.get_peft_model(make_model(base), config).eval()
        randomise((p for n, p in model.named_parameters() if "lora_" in n), seed=5)
        model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
        saved = json.loads((folder / "adapter_config.json").read_text())
        saved["base_model_name_or_path"] = f"../{base}"
        saved["target_modules"] = sorted(saved["target_modules"])
        (folder / "adapter_config.json").write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n")
        write(folder, golden(model, with_gradients=False))


if __name__ == "__main__":
    main()
