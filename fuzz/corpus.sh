#!/bin/sh
# Real files as the fuzzer's first inputs.
set -eu
cd "$(dirname "$0")"
golden=../tests/golden
for target in safetensors gguf tokenizer rows experiment; do mkdir -p "corpus/$target"; done
cp "$golden/model/llama-lora/adapter_model.safetensors" corpus/safetensors/adapter
cp "$golden/model/qwen2/golden.safetensors" corpus/safetensors/golden
cp "$golden/model/llama.gguf" corpus/gguf/llama
cp "$golden/model/qwen3.gguf" corpus/gguf/qwen3
for kind in bytes pieces; do
  { cat "$golden/data/$kind/tokenizer.json"; printf '\0'; cat "$golden/data/$kind/tokenizer_config.json"; } > "corpus/tokenizer/$kind"
done
cp "$golden"/data/conversations.* corpus/rows/
for config in ../configs/*.yaml ../configs/*/*.yaml; do
  cp "$config" "corpus/experiment/$(echo "${config#../configs/}" | tr / -)"
done
