#!/usr/bin/env python3
"""Peak memory of training steps over one long columnar text: a background and many branches, every token learned.

    python3 benches/columnar_memory.py [--checkpointing] [--background 2048] [--branches 16] [--tokens 256]

Needs a built `monopass` (target/debug, or --monopass) and a model folder (models/SmolLM2-135M-Instruct after `cargo xtask quickstart`, or --model).
"""

import argparse
import json
import pathlib
import random
import subprocess
import tempfile

# each a token of its own behind a space, in SmolLM2's vocabulary as in most
WORDS = "the of and to in is was for on that by this with from at which are be has had its were their been who".split()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--monopass", default="target/debug/monopass")
    arguments.add_argument("--model", default="models/SmolLM2-135M-Instruct")
    arguments.add_argument("--background", type=int, default=2048)
    arguments.add_argument("--branches", type=int, default=16)
    arguments.add_argument("--tokens", type=int, default=256)
    arguments.add_argument("--steps", type=int, default=2)
    arguments.add_argument("--checkpointing", action="store_true")
    given = arguments.parse_args()

    random.seed(0)
    words = lambda count: " ".join(random.choices(WORDS, k=count))
    # the end of a branch is a token, too
    paragraphs = [words(given.background)] + [words(given.tokens - 1) for _ in range(given.branches)]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        rows = [json.dumps({"text": "\n\n".join(paragraphs)})] * given.steps
        (folder / "texts.jsonl").write_text("\n".join(rows) + "\n")
        documents = {"path": str(folder / "texts.jsonl"), "background_paragraphs": 1, "max_words": 1_000_000}
        rope = {"positions": "branch_offset", "branch_stride": 512}
        experiment = {
            "name": "memory",
            "output_dir": str(folder / "runs"),
            "model": {"path": given.model, "context_length": 16384, "device": "cpu"},
            "data": {"branched": {"texts": {"source": {"documents": documents}}}},
            "train": {
                "precision": "bf16_master",
                "gradient_checkpointing": given.checkpointing,
                "global_batch_size": 1,
                "micro_batch_size": 1,
                "max_micro_batch_tokens": 1_000_000,
                "max_steps": given.steps,
                "stages": [{"name": "memory", "data": "texts", "objective": {"columnar": {"rope": rope}}}],
            },
        }
        (folder / "memory.yaml").write_text(json.dumps(experiment))
        subprocess.run([given.monopass, "train", str(folder / "memory.yaml"), "--quiet"], check=True)
        lines = (folder / "runs/memory/train/memory/metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    tokens = round(last["tokens_per_second"] * last["step_seconds"])
    print(f"{tokens} tokens in one row, {last['label_tokens']:.0f} learned: {last['peak_memory_mib'] / 1024:.2f} GiB at the fullest moment, {last['step_seconds']:.1f} s a step")


if __name__ == "__main__":
    main()
