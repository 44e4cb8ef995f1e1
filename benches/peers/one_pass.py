"""ONE-PASS beside the published procedure on transformers: one pass over prompt and subset tree, then the ranking.

    python one_pass.py --model DIR [--monopass target/debug/monopass] [--candidates 20] [--groups 5]

The peer follows the published procedure, written anew: the tree mask is copied row by row into a dense matrix over prompt and
tree, the model reads both under it, and every step of the ranking rebuilds the Moebius coefficients of every group from a copy of all
subset probabilities. `peer, mask kept` is the strongest form of the same peer: the mask is built once and kept, and the
ranking is taken to cost nothing. Both sides run on the same random prompt lengths, ours in bfloat16, in processes of their own
that take turns: `--pairs` times ours, then the peer, `--repeats` rounds of all its ways in each. Figures are medians of all rounds.
"""

import argparse
import collections
import copy
import itertools
import json
import math
import pathlib
import statistics
import subprocess
import sys
import time

import torch
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).resolve().parent


def divide(n, k):
    halves = [[item for item in range(n) if item % (2 * k) == half] for half in range(2 * k)]
    targets = [sorted(halves[2 * i] + halves[2 * i + 1]) for i in range(k)]
    duals = [sorted(halves[2 * i - 1] + halves[2 * i]) for i in range(k)]
    return targets, duals


def build_tree(groups, separator):
    """Token ids, parents and depths of the trie, and the token after which each subset's next item is read."""
    ids, parents, depths, state = [], [], [], {(): -1}
    subsets = [c for group in groups for size in range(1, len(group) + 1) for c in itertools.combinations(group, size)]
    for subset in subsets:
        if subset in state:
            continue
        parent = state[subset[:-1]]
        for token in [subset[-1], *separator]:
            depths.append(0 if parent < 0 else depths[parent] + 1)
            ids.append(token)
            parents.append(parent)
            parent = len(ids) - 1
        state[subset] = parent
    return ids, parents, depths, state


DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def dense_mask(prompt, parents, dtype):
    size = prompt + len(parents)
    mask = torch.full((1, 1, size, size), float("-inf"))
    mask[0, 0, 0, 0] = 0
    for row in range(1, size):
        parent = row - 1 if row < prompt else (prompt - 1 if parents[row - prompt] < 0 else prompt + parents[row - prompt])
        mask[0, 0, row] = mask[0, 0, parent]
        mask[0, 0, row, row] = 0
    return mask.to(dtype)


def coefficients(items, probabilities):
    table = copy.deepcopy(probabilities)  # the published step copies all of them for each group
    found = {}
    for size in range(1, len(items) + 1):
        for subset in itertools.combinations(sorted(items), size):
            value = table[subset].copy()
            for below in range(1, size):
                for part in itertools.combinations(subset, below):
                    value -= found[part]
            found[subset] = value
    return list(found.values())


def rank(targets, duals, probabilities, head, n):
    def pool(rows):
        x = torch.tensor(rows)
        q, k = x @ head[0].T + head[1], x @ head[2].T + head[3]
        return (torch.softmax(q @ k.T / math.sqrt(n), -1) @ x + x).sum(0).tolist()

    import numpy as np

    placed = [int(probabilities[()].argmax())]
    while len(placed) < n:
        parts = lambda groups: [[item for item in placed if item in group] for group in groups]
        own = sum((np.sum(coefficients(items, probabilities), 0) for items in parts(targets) if items), np.zeros(n))
        inner = [pool(np.stack(coefficients(items, probabilities)).astype("float32").tolist()) if items else [0.0] * n for items in parts(duals)]
        scores = own + np.array(pool(inner))
        placed.append(max((item for item in range(n) if item not in placed), key=lambda item: scores[item]))
    return placed


def peer(options):
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=DTYPES[options.peer_dtype]).eval()
    n, k, length = options.candidates, options.groups, options.prompt_tokens
    targets, duals = divide(n, k)
    ids, parents, depths, state = build_tree(targets + duals, [n, n + 1, n + 2])
    letters = model.lm_head.weight[:n]
    head = [torch.randn(n, n), torch.randn(n), torch.randn(n, n), torch.randn(n)]
    positions = torch.tensor([list(range(length)) + [length + depth for depth in depths]])
    kept = dense_mask(length, parents, model.dtype)
    times = {"prompt_pass": [], "published": [], "mask_kept": [], "generate": []}
    for round_number in range(options.repeats + 1):
        prompt = torch.randint(0, model.config.vocab_size, (1, length))
        both = torch.cat([prompt, torch.tensor([ids])], 1)

        def timed(name, work):
            started = time.perf_counter()
            with torch.no_grad():
                work()
            if round_number:
                times[name].append(time.perf_counter() - started)

        def tree_pass(mask):
            hidden = model.model(input_ids=both, attention_mask=mask, position_ids=positions, use_cache=False).last_hidden_state[0]
            rows = {subset: hidden[length + token] if token >= 0 else hidden[length - 1] for subset, token in state.items()}
            stacked = torch.softmax((torch.stack(list(rows.values())) @ letters.T).float(), -1).numpy()
            return dict(zip(rows, stacked))

        timed("prompt_pass", lambda: model(input_ids=prompt, use_cache=False, logits_to_keep=1))
        timed("published", lambda: rank(targets, duals, tree_pass(dense_mask(length, parents, model.dtype)), head, n))
        timed("mask_kept", lambda: tree_pass(kept))
        settings = dict(do_sample=False, min_new_tokens=4 * n - 1, max_new_tokens=4 * n - 1, pad_token_id=0)
        timed("generate", lambda: model.generate(prompt, attention_mask=torch.ones_like(prompt), **settings))
    print(json.dumps({"times": times, "tree_tokens": len(ids)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="Hugging Face folder")
    parser.add_argument("--monopass", default="target/debug/monopass")
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--groups", type=int, default=5)
    parser.add_argument("--prompt-tokens", type=int, default=1500)
    parser.add_argument("--pairs", type=int, default=3, help="processes of each side, in turn")
    parser.add_argument("--repeats", type=int, default=2, help="rounds in each process, after one that is not counted")
    parser.add_argument("--peer-dtype", choices=DTYPES, default="bf16", help="fp32 is faster where the processor has no vectors for bf16")
    parser.add_argument("--peer", action="store_true", help="only the peer's figures, as JSON")
    options = parser.parse_args()
    if options.peer:
        return peer(options)

    figures = lambda command: json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    numbers = ["--candidates", str(options.candidates), "--prompt-tokens", str(options.prompt_tokens), "--repeats", str(options.repeats)]
    decoders = ["autoregressive", "autoregressive_forced", f"{{one_pass: {{n_group: {options.groups}}}}}", "single_token"]
    named = [part for decoder in decoders for part in ("--decoder", decoder)]
    times, ratios, shares = collections.defaultdict(list), [], []
    for _ in range(options.pairs):
        ours = figures([options.monopass, "bench", "decode", "--model", options.model, *numbers, *named, "--json"])
        theirs = figures([sys.executable, __file__, "--peer", "--model", options.model, *numbers, "--groups", str(options.groups), "--peer-dtype", options.peer_dtype])
        for timing in ours["timings"]:
            times[f"monopass {timing['name']}"] += timing["all_seconds"]
            if timing["name"].startswith("one_pass"):
                name, shares = f"monopass {timing['name']}", [*shares, timing["share_after_model"]]
        for way, values in theirs["times"].items():
            times[f"transformers {way}"] += values
        ratios.append(statistics.median(theirs["times"]["published"]) / statistics.median(times[name][-options.repeats:]))
    medians = {way: statistics.median(values) for way, values in times.items()}
    print("| | seconds | over our one_pass |\n| --- | ---: | ---: |")
    for way, value in medians.items():
        print(f"| {way} | {value:.3f} | {value / medians[name]:.2f} |")
    over_prompt = medians[name] / medians["monopass prompt_pass"]
    print(f"\npeer in {options.peer_dtype}; one_pass over a bare prompt pass: {over_prompt:.2f}; after the model: {100 * statistics.median(shares):.1f} %")
    print(f"published procedure over one_pass, pair by pair: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    print(f"tree tokens: {theirs['tree_tokens']}; {options.pairs} pairs of {options.repeats} rounds; {ours['protocol']}")


if __name__ == "__main__":
    main()
