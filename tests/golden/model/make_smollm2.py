"""What transformers computes from SmolLM2-135M-Instruct's GGUF, to compare our import with.

Run: python make_smollm2.py PATH/SmolLM2-135M-Instruct.Q4_1.gguf
smollm2.safetensors: `ids` [296], `argmax.KIND` [296], `margin.KIND` between the two best logits [296], `logits` float32
[296, 8] of `columns`.
smollm2_tokens.json: texts and their ids.
"""

import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
TEXTS = [
    "What is the capital of France?",
    "I will provide you with 20 passages, each indicated by a numerical identifier []. Rank them: [1] > [20] > [3]",
    "  two  spaces\tand a tab\n\nand lines\r\n  indented",
    "Prices: $1,234.56 (12% off) 2024-07-26T10:00:00Z 3.14159 1e-5",
    "it's we'll they've I'm you'd CAN'T",
    "na\u00efve caf\u00e9 \u2014 \u201cquoted\u201d \u2026 \u00a9 \u20ac",
    "\u4e2d\u6587\u5b57\u7b26 \u65e5\u672c\u8a9e\u30c6\u30ad\u30b9\u30c8 \ud55c\uad6d\uc5b4 \u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "emoji \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 and \U0001d54c\U0001d55f\U0001d55a",
    "fn main() { println!(\"{:?}\", vec![1, 2, 3]); } // code",
    "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|> not <|im_end|>at the start<|endoftext|>",
    "",
    " ",
    "A" * 50 + "b" * 3 + "0123456789" * 4,
]
PROMPT = (
    "<|im_start|>user\nRank these passages by how well they answer the query: what do bees make?\n"
    "[1] Honey is a sweet substance made by bees from the nectar of flowers, stored in wax combs.\n"
    "[2] The city of Paris has many museums, among them the Louvre, opened in 1793.\n"
    "[3] Wax is secreted by worker bees and used to build the comb; candles have been made of it for ages.\n"
    "[4] In 1969 two astronauts walked on the Moon while a third stayed in orbit around it.\n"
    "[5] Pollination by insects is needed by many crops, from apples and almonds to coffee and cocoa.<|im_end|>\n"
    "<|im_start|>assistant\n[1] > [3] > [5] > [2] > [4]. The first passage answers the query directly, since honey is "
    "what bees are best known for making. The third one names wax, which they make as well.<|im_end|>\n"
    "<|im_start|>user\nThank you. Now write one sentence about each of the four seasons.<|im_end|>\n"
    "<|im_start|>assistant\nIn spring, the trees turn green and the birds come back from the south. In summer, the days "
    "are long and hot, and children play outside until late in the evening. In autumn, the leaves turn red and yellow "
    "and fall to the ground. In winter, it is cold and dark, and in many places snow covers the fields.<|im_end|>\n"
)
LENGTH = 296


def main(path):
    path = pathlib.Path(path)
    load = dict(gguf_file=path.name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, **load)
    texts = [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False)} for text in TEXTS]
    (HERE / "smollm2_tokens.json").write_text(json.dumps({"texts": texts}, indent=1) + "\n")
    ids = tokenizer.encode(PROMPT, add_special_tokens=False)[:LENGTH]
    assert len(ids) == LENGTH, len(ids)
    tensors = {"ids": torch.tensor(ids), "columns": torch.tensor([0, 2, 28, 33, 216, 1000, 20000, 49151])}
    for dtype in (torch.float32, torch.bfloat16):
        config = transformers.GgufConfig(dequantize=True)
        model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, dtype=dtype, quantization_config=config, **load)
        with torch.no_grad():
            logits = model(input_ids=tensors["ids"][None]).logits[0]
        name = str(dtype).removeprefix("torch.")
        tensors[f"argmax.{name}"] = logits.argmax(-1)
        top = logits.float().topk(2).values
        tensors[f"margin.{name}"] = top[:, 0] - top[:, 1]
        print(name, "margins above 0.25:", (tensors[f"margin.{name}"] > 0.25).sum().item())
        if dtype == torch.float32:
            tensors["logits"] = logits[:, tensors["columns"]].contiguous()
    save_file(tensors, HERE / "smollm2.safetensors", metadata={"transformers": transformers.__version__, "torch": torch.__version__})


if __name__ == "__main__":
    main(sys.argv[1])
