#include "cpu.h"

namespace monopass {

bool kernels_run(c10::ScalarType kind) {
#ifdef MONOPASS_AVX512
  static const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && std::getenv("MONOPASS_NO_KERNELS") == nullptr;
  static const bool half = avx512 && __builtin_cpu_supports("avx512bf16");
  return kind == c10::ScalarType::Float ? avx512 : kind == c10::ScalarType::BFloat16 && half;
#else
  (void)kind;
  return false;
#endif
}

}  // namespace monopass

extern "C" int monopass_kernels_run(int half) {
  return monopass::kernels_run(half ? c10::ScalarType::BFloat16 : c10::ScalarType::Float);
}
