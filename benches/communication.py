#!/usr/bin/env python3
"""Share of a training step that data-parallel ranks spend in communication and in waiting for each other.

    python3 benches/communication.py [--ranks 2] [--full] [--steps 10]

Trains SmolLM2 on generated lists (LoRA; all weights with --full) in one process and in several on the same machine, and prints the share and the
ratio of tokens per second. Needs a built `monopass` (target/debug, or --monopass) and models/SmolLM2-135M-Instruct (`cargo xtask quickstart`), or --model.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--monopass", default="target/debug/monopass")
    arguments.add_argument("--model", default="models/SmolLM2-135M-Instruct")
    arguments.add_argument("--ranks", type=int, default=2)
    arguments.add_argument("--steps", type=int, default=10)
    arguments.add_argument("--full", action="store_true")
    given = arguments.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        alone = train(given, folder, "alone", [given.monopass])
        together = train(given, folder, "together", [given.monopass, "launch", "--nproc-per-node", str(given.ranks), "--"])
    shares = [line["communication_seconds"] / line["step_seconds"] for line in together]
    speed = lambda lines: statistics.median(line["tokens_per_second"] for line in lines)
    print(
        f"{given.ranks} ranks: communication and waiting {100 * statistics.median(shares):.1f} % of a step (median; {100 * min(shares):.1f} to "
        f"{100 * max(shares):.1f} %), step {statistics.median(line['step_seconds'] for line in together):.2f} s, "
        f"{speed(together):.0f} tokens/s against {speed(alone):.0f} of one process: {speed(together) / speed(alone):.2f}"
    )


def train(given, folder, name, command):
    """Lines of the steps after the first two."""
    experiment = {
        "name": name,
        "seed": 1,
        "output_dir": str(folder / "runs"),
        "model": {"path": given.model, "device": "cpu"},
        "data": {
            "prompt": {"identifiers": "alphabetic", "identifier_position": "after"},
            "sets": {"lists": {"source": {"generated": {"num_queries": 200, "num_candidates": 8, "seed": 1}}}},
        },
        "train": {
            "precision": "bf16_master",
            "global_batch_size": 8,
            "micro_batch_size": 16,
            "max_micro_batch_tokens": 4096,
            "max_steps": given.steps,
            "lora": None if given.full else {"r": 16},
            "stages": [{"name": "first", "data": "lists", "objective": {"first": {}}}],
        },
    }
    (folder / f"{name}.yaml").write_text(json.dumps(experiment))
    subprocess.run([*command, "train", str(folder / f"{name}.yaml"), "--quiet"], check=True, stdout=subprocess.DEVNULL)
    lines = (folder / "runs" / name / "train/first/metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == "train"][2:]


if __name__ == "__main__":
    main()
