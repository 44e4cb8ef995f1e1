"""Autoregressive listwise decoding with Hugging Face transformers, by the protocol of `monopass bench decode`.

    python hf_rank_decode.py --model DIR [--dtype bf16|fp32] [--steps 3] [--prompt-tokens 1500] [--new-tokens 79] [--json]

Random prompt; greedy `generate` with its cache, exactly --new-tokens tokens; one pass over the prompt alone beside it. One
warm-up, then --steps measured rounds of both; medians.
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
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--prompt-tokens", type=int, default=1500)
    parser.add_argument("--new-tokens", type=int, default=79)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser.parse_args()


def seconds_of(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main():
    options = arguments()
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[options.dtype]
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype).eval()
    input_ids = torch.randint(0, model.config.vocab_size, (1, options.prompt_tokens))
    generation = {
        "attention_mask": torch.ones_like(input_ids),
        "min_new_tokens": options.new_tokens,
        "max_new_tokens": options.new_tokens,
        "do_sample": False,
        "pad_token_id": 0,
    }
    prompt, generate = [], []
    with torch.no_grad():
        for _ in range(options.steps + 1):
            prompt.append(seconds_of(lambda: model(input_ids=input_ids, logits_to_keep=1)))
            generate.append(seconds_of(lambda: model.generate(input_ids, **generation)))
    prompt_seconds, seconds = statistics.median(prompt[1:]), statistics.median(generate[1:])
    figures = {
        "prompt_seconds": prompt_seconds,
        "seconds": seconds,
        "tokens_per_second": options.new_tokens / seconds,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "protocol": f"transformers {transformers.__version__}, torch {torch.__version__}, {options.dtype}, "
        f"{options.prompt_tokens} prompt tokens, {options.new_tokens} generated greedily, 1 warm-up and {options.steps} "
        f"measured rounds, median; {torch.get_num_threads()} threads",
    }
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name}: {value}")


if __name__ == "__main__":
    main()
