"""Makes the data crate's golden files; the outputs lie beside this script.

    python make.py [SMOLLM2_FOLDER]

Needs transformers 5, tokenizers and pyarrow. With a folder of SmolLM2-135M-Instruct, its token ids are made too.

- bytes/, pieces/: two small tokenizers, byte-level BPE with ChatML and metaspace BPE with Zephyr's template
- prompts.json: prompts and answers, as text and as token ids, rendered here by the published format strings
- smollm2_prompts.json: token ids of the same prompts under SmolLM2's tokenizer (hash of the text instead of the text)
- conversations.{parquet,arrow,arrows}: the same three conversations in a parquet file, an Arrow file and an Arrow stream
"""

import hashlib
import json
import pathlib
import sys

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
CHATML = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
SYSTEM = {
    "rank_zephyr": "You are RankLLM, an intelligent assistant that can rank passages based on their relevancy to the query.",
    "first": "You are RankLLM, an intelligent assistant that can rank passages based on their relevancy to the query",
    "rank_vicuna": "You are RankVicuna, an intelligent assistant that can rank passages based on their relevancy to the query.",
}
KIND = {"rank_zephyr": "a numerical", "first": "a alphabetical", "rank_vicuna": "a numerical"}
EXAMPLE = {"rank_zephyr": "[2] > [1]", "first": "[B] > [A]", "rank_vicuna": "[4] > [2]"}
QUERY = "how long is the life cycle of a flea?"
PASSAGES = [
    "A flea can live up to a year (1), but its general lifespan depends on its living conditions.",
    "Übergröße: 20 cats \u2014 and ½ a dog.",
    "An Insect Growth Regulator (IGR) breaks the flea lifecycle.",
]
TARGET = [2, 0, 1]


def train(model, pre_tokenizer, decoder, specials, normalizer=None):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoder
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet() if isinstance(decoder, decoders.ByteLevel) else list("[]>ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    corpus = [user(style, QUERY, PASSAGES) for style in SYSTEM] * 4 + list(SYSTEM.values()) * 4 + PASSAGES * 4
    extra = [f"<0x{byte:02X}>" for byte in range(256)] if model.byte_fallback else []
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=specials + extra, initial_alphabet=alphabet, show_progress=False)
    if model.byte_fallback:
        # As in sentencepiece vocabularies: no piece holds a line break (it is the byte <0x0A>), none joins brackets,
        # digits or signs to anything. Only learning is kept apart so; encoding then runs without these splits.
        corpus = [line for text in corpus for line in text.split("\n") if line]
        apart = [pre_tokenizer, pre_tokenizers.Punctuation("isolated"), pre_tokenizers.Digits(True), pre_tokenizers.Split("\u2581", "merged_with_next")]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(apart)
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.pre_tokenizer = pre_tokenizer
    return tokenizer


def save(tokenizer, folder, bos, eos, template):
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos)
    fast.chat_template = template
    fast.save_pretrained(folder)
    return fast


def name(style, index):
    return chr(65 + index) if style == "first" else str(index + 1)


def user(style, query, passages):
    n = len(passages)
    text = (
        f"I will provide you with {n} passages, each indicated by {KIND[style]} identifier []. Rank the passages based "
        f"on their relevance to the search query: {query}.\n\n"
    )
    for index, passage in enumerate(passages):
        text += f"[{name(style, index)}] {passage}\n"
    text += (
        f"Search Query: {query}.\nRank the {n} passages above based on their relevance to the search query. All the "
        "passages should be included and listed using identifiers, in descending order of relevance. The output format "
        f"should be [] > [], e.g., {EXAMPLE[style]}, Only respond with the ranking results, do not say any word or explain."
    )
    return text + (" " if style == "rank_vicuna" else "")


def answer(style):
    return " > ".join(f"[{name(style, index)}]" for index in TARGET)


def rendered(tokenizer):
    """Prompts by the chat template; the answer's end is the tokenizer's end token."""
    for style in SYSTEM:
        messages = [{"role": "system", "content": SYSTEM[style]}, {"role": "user", "content": user(style, QUERY, PASSAGES)}]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        yield {
            "style": style,
            "text": prompt,
            "prompt_ids": tokenizer(prompt, add_special_tokens=False)["input_ids"],
            "full_ids": tokenizer(prompt + answer(style) + tokenizer.eos_token, add_special_tokens=False)["input_ids"],
        }


def conversations():
    def turns(style, response):
        return [
            {"from": "system", "value": SYSTEM[style]},
            {"from": "human", "value": user(style, QUERY, PASSAGES)},
            {"from": "gpt", "value": response},
        ]

    return {
        "id": ["c1", "c2", "c3"],
        "conversations": [
            turns("rank_zephyr", "[3] > [1] > [2]"),
            turns("first", "[C] > [A] > [B]"),
            turns("rank_zephyr", "[3] > [3] > [2]"),
        ],
    }


def arrow_files():
    import pyarrow as pa
    import pyarrow.parquet as pq

    turn = pa.struct([("from", pa.string()), ("value", pa.string())])
    table = pa.table(conversations(), schema=pa.schema([("id", pa.string()), ("conversations", pa.list_(turn))]))
    pq.write_table(table, HERE / "conversations.parquet", row_group_size=2)
    with pa.ipc.new_file(HERE / "conversations.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    with pa.ipc.new_stream(HERE / "conversations.arrows", table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def main():
    by_bytes = train(models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel(), ["<|im_start|>", "<|im_end|>"])
    pieces = train(
        models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True),
        pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="first", split=False),
        decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]),
        ["<unk>", "<s>", "</s>"],
    )
    golden = {
        "bytes": list(rendered(save(by_bytes, HERE / "bytes", "<|im_start|>", "<|im_end|>", CHATML))),
        "pieces": list(rendered(save(pieces, HERE / "pieces", "<s>", "</s>", ZEPHYR))),
    }
    (HERE / "prompts.json").write_text(json.dumps(golden, ensure_ascii=False, indent=0) + "\n")
    if len(sys.argv) > 1:
        rows = list(rendered(AutoTokenizer.from_pretrained(sys.argv[1])))
        for row in rows:
            row["text_sha256"] = hashlib.sha256(row.pop("text").encode()).hexdigest()
        (HERE / "smollm2_prompts.json").write_text(json.dumps(rows) + "\n")
    arrow_files()


if __name__ == "__main__":
    main()
