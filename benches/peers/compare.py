"""Monopass beside Hugging Face transformers in one sitting: training step and decoding, and their ratios.

    python compare.py --model DIR [--monopass target/debug/monopass] [--dtype bf16] [--peer-dtype fp32] [--steps 5] [--pairs 1]

Starts `monopass bench train-step`, `monopass bench decode` and the two scripts beside this one in turn, each alone and
each as its own process, on the same folder and in the same precision, unless the peer is given another (float32 is its faster one where
the processor has no vectors for bf16). The peer runs twice: as its users start it, and
with glibc told to keep freed blocks, which is what `monopass` does for itself. Prints a Markdown table. With `--pairs` the training step is measured so many times,
ours and the peer's in turn, and the table's line is the pair with the middle ratio; a shared machine is rarely quiet for long.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
# glibc refuses a higher threshold for mapped blocks than 32 MiB.
KEEP_BLOCKS = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(256 << 20)}


def figures(command, extra_environment=None):
    """The JSON object that `command` prints."""
    print("running", " ".join(map(str, command)), file=sys.stderr)
    environment = {**os.environ, **(extra_environment or {})}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="Hugging Face folder")
    parser.add_argument("--monopass", default="target/debug/monopass")
    parser.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--peer-dtype", choices=["bf16", "fp32"], help="default: that of --dtype")
    parser.add_argument("--steps", default="5")
    parser.add_argument("--pairs", type=int, default=1, help="measurements of the training step; an odd number")
    options = parser.parse_args()

    shared = ["--model", options.model]
    ours = [options.monopass, "bench"]
    peer = lambda script: [sys.executable, HERE / script, *shared, "--dtype", options.peer_dtype or options.dtype, "--json"]
    pairs = []
    for _ in range(options.pairs):
        step = figures([*ours, "train-step", *shared, "--precision", options.dtype, "--steps", options.steps, "--json"])
        pairs.append((step, [figures([*peer("hf_sft_step.py"), "--steps", options.steps], extra) for extra in (None, KEEP_BLOCKS)]))
    ratios = [step["tokens_per_second"] / peers[0]["tokens_per_second"] for step, peers in pairs]
    step, peer_steps = pairs[ratios.index(statistics.median_low(ratios))]
    decode = figures([*ours, "decode", *shared, "--precision", options.dtype, "--json"])
    peer_decodes = [figures(peer("hf_rank_decode.py"), extra) for extra in (None, KEEP_BLOCKS)]

    rows = [("training, tokens per second", step["tokens_per_second"], [p["tokens_per_second"] for p in peer_steps])]
    rows.append(("training, peak memory, MiB", step["peak_rss_mib"], [p["peak_rss_mib"] for p in peer_steps]))
    seconds = {timing["name"]: timing["seconds"] for timing in decode["timings"]}
    generate = [p["seconds"] for p in peer_decodes]
    rows.append(("prompt pass, seconds", seconds["prompt_pass"], [p["prompt_seconds"] for p in peer_decodes]))
    for name in ("autoregressive", "autoregressive_forced", "single_token"):
        rows.append((f"{name} beside generate, seconds", seconds[name], generate))

    print("| | monopass | transformers | ratio | transformers, blocks kept | ratio |\n| --- | --- | --- | --- | --- | --- |")
    for name, mine, (plain, tuned) in rows:
        print(f"| {name} | {mine:.2f} | {plain:.2f} | {mine / plain:.2f} | {tuned:.2f} | {mine / tuned:.2f} |")
    print("\ntraining ratios of all pairs: " + " ".join(f"{ratio:.2f}" for ratio in ratios))
    print(f"single_token over one prompt pass: {seconds['single_token'] / seconds['prompt_pass']:.2f}")
    print(f"ours: {step['protocol']}\npeer: {peer_steps[0]['protocol']}")


if __name__ == "__main__":
    main()
