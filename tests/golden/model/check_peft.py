"""Loads an adapter folder saved by the model crate in PEFT, and a merged export in transformers; compares logits.

Run:  cargo run -p monopass-model --example export_check -- OUT
      python check_peft.py OUT
OUT has one folder per family: `base/` and `merged/` (full exports), `adapter/`, and `logits.safetensors` (`ids`, `base`,
`adapted`).
"""

import pathlib
import sys

import peft
import torch
import transformers
from safetensors.torch import load_file


def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=ids).logits.float()


def main(out):
    failed = False
    for folder in sorted(pathlib.Path(out).iterdir()):
        ours = load_file(folder / "logits.safetensors")

        def load(name):
            model, info = transformers.AutoModelForCausalLM.from_pretrained(
                folder / name, dtype=torch.float32, output_loading_info=True
            )
            assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
            return model.eval()

        base = load("base")
        differences = {
            "base": (logits(base, ours["ids"]) - ours["base"]).abs().max().item(),
            "merged": (logits(load("merged"), ours["ids"]) - ours["adapted"]).abs().max().item(),
        }
        adapted = peft.PeftModel.from_pretrained(base, folder / "adapter").eval()
        differences["adapter"] = (logits(adapted, ours["ids"]) - ours["adapted"]).abs().max().item()
        effect = (ours["adapted"] - ours["base"]).abs().max().item()
        print(f"{folder.name}: largest differences {differences}, effect of the adapter {effect:.3f}")
        failed |= max(differences.values()) > 1e-4 or effect < 0.1
    sys.exit(failed)


if __name__ == "__main__":
    main(sys.argv[1])
