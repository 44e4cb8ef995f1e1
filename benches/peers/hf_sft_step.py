"""One listwise fine-tuning step with Hugging Face transformers, by the protocol of `monopass bench train-step`.

    python hf_sft_step.py --model DIR [--dtype bf16|fp32] [--steps 5] [--prompt-tokens 1500] [--label-tokens 80] [--json]

One sequence of random ids, labels on its last --label-tokens; AdamW (torch's default implementation, lr 2e-5) in the
model's own kind; one warm-up step, then --steps measured ones; tokens per second from the median step; peak memory is
the process's largest resident set. Needs torch and transformers; nothing else of the project uses Python.
"""

import argparse
import json
import resource
import statistics
import time

import torch
import transformers


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="Hugging Face folder")
    parser.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--prompt-tokens", type=int, default=1500)
    parser.add_argument("--label-tokens", type=int, default=80)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser.parse_args()


def measure(model, optimizer, input_ids, labels):
    """Seconds of forward, backward and update, and the loss."""
    marks = [time.perf_counter()]
    loss = model(input_ids=input_ids, labels=labels, use_cache=False).loss
    marks.append(time.perf_counter())
    loss.backward()
    marks.append(time.perf_counter())
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    marks.append(time.perf_counter())
    return [after - before for before, after in zip(marks, marks[1:])], loss.item()


def main():
    options = arguments()
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[options.dtype]
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype, attn_implementation="sdpa")
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.0)
    tokens = options.prompt_tokens + options.label_tokens
    input_ids = torch.randint(0, model.config.vocab_size, (1, tokens))
    labels = input_ids.clone()
    labels[:, : options.prompt_tokens] = -100

    steps = [measure(model, optimizer, input_ids, labels) for _ in range(options.steps + 1)][1:]
    seconds = statistics.median(sum(parts) for parts, _ in steps)
    forward, backward, update = (statistics.median(parts[i] for parts, _ in steps) for i in range(3))
    figures = {
        "tokens_per_second": tokens / seconds,
        "seconds": seconds,
        "forward_seconds": forward,
        "backward_seconds": backward,
        "optimizer_seconds": update,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "loss": steps[-1][1],
        "protocol": f"transformers {transformers.__version__}, torch {torch.__version__}, sdpa, {options.dtype}, "
        f"{options.prompt_tokens} prompt and {options.label_tokens} label tokens, AdamW, 1 warm-up and {options.steps} "
        f"measured steps, median; {torch.get_num_threads()} threads",
    }
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name}: {value}")


if __name__ == "__main__":
    main()
