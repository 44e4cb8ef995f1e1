// What this processor can run, and how work is spread over libtorch's threads.
#pragma once

#include <ATen/Parallel.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace monopass {

// Whose vectors the kernels are compiled for.
enum class VectorSet { kNone, kAvx2, kAvx512 };

// The widest ones that this processor has for tensors of `kind` (float32 or bf16; AVX-512 needs its bf16 part for that), or what the
// environment variable `MONOPASS_VECTORS` allows at most: `none`, `avx2`, `avx512f` (without the bf16 part) or `avx512`. `kNone` for other
// kinds: libtorch's operators run.
VectorSet vectors_for(c10::ScalarType kind);

// Whether kernels exist and run here for tensors of `kind`.
inline bool kernels_run(c10::ScalarType kind) { return vectors_for(kind) != VectorSet::kNone; }

// Whether AMX's tiles of bf16 exist, are given to this process by the kernel, and were compiled for.
bool tiles_run();

// How products of many rows are computed.
enum class Products {
  kLibtorch,
  // Of bf16, widened. Intel's cores do half as many dot products of bf16 a cycle as multiply-adds of float32, and only the tiles, where a
  // process has them, make up for it; without AVX-512 libtorch takes one element of bf16 at a time.
  kFloat32,
  // By our own kernels (matmul_kernels.h), on AMD: of bf16, which its vectors multiply at full speed since Zen 4; with AVX2 of float32 too,
  // of which libtorch's product reaches half the speed there.
  kPacked,
};

// What is fastest here for tensors of `kind`, or what the environment variable `MONOPASS_PRODUCTS` says where it can be done: `libtorch`,
// `float32` or `packed`.
Products products_of(c10::ScalarType kind);

// 64-byte aligned memory for one worker.
struct Scratch {
  explicit Scratch(int64_t bytes) : memory(bytes > 0 ? std::aligned_alloc(64, (bytes + 63) / 64 * 64) : nullptr) {
    if (bytes > 0 && !memory) throw std::bad_alloc();
  }
  ~Scratch() { std::free(memory); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  void* memory;
};

// Runs `task(i, scratch)` for i in [0, count), each worker taking the next one when it is free. What a task computes must not
// depend on who runs it.
template <typename F>
void run_tasks(int64_t count, int64_t scratch_bytes, F&& task) {
  if (count <= 0) return;
  const int64_t workers = std::min<int64_t>(at::get_num_threads(), count);
  std::atomic<int64_t> next{0};
  at::parallel_for(0, workers, 1, [&](int64_t, int64_t) {
    Scratch scratch(scratch_bytes);
    for (int64_t i = next++; i < count; i = next++) task(i, scratch.memory);
  });
}

}  // namespace monopass
