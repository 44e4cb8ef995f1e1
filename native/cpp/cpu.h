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

// Whether the AVX-512 kernels exist and run here for tensors of `kind`.
bool kernels_run(c10::ScalarType kind);

// Whether AMX's tiles of bf16 exist, are given to this process by the kernel, and were compiled for.
bool tiles_run();

// How products of many rows of bf16 are computed.
enum class Bf16Products {
  kLibtorch,
  // Widened: Intel's cores do half as many dot products of bf16 a cycle as multiply-adds of float32, and only the tiles, where a process
  // has them, make up for it.
  kFloat32,
  // By our own kernel: the vectors of AMD's cores since Zen 4 multiply bf16 at full speed.
  kPacked,
};

// What is fastest here, or what the environment variable `MONOPASS_BF16_PRODUCTS` says: `libtorch`, `float32` or `packed`. Where the AVX-512
// kernels do not run, libtorch's.
Bf16Products bf16_products();

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
