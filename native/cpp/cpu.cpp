#include "cpu.h"

#include <c10/util/Exception.h>

#include <string>

#ifdef MONOPASS_AVX512
#include <cpuid.h>
#endif
#ifdef MONOPASS_AMX
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace monopass {
namespace {

#ifdef MONOPASS_AVX512
// The processor has tiles and their bf16 products (leaf 7: EDX bits 24 and 22).
bool tiles_exist() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 24 & 1) && (d >> 22 & 1);
}
#endif

#ifdef MONOPASS_AMX
// Linux lets this process use the tiles' registers (arch_prctl(2): ARCH_REQ_XCOMP_PERM of state component 18, tile data).
bool tiles_are_ours() {
  constexpr long kRequest = 0x1023, kTileData = 18;
  return tiles_exist() && syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}
#endif

#ifdef MONOPASS_AVX512
Bf16Products choose_products() {
  if (!kernels_run(c10::ScalarType::BFloat16)) return Bf16Products::kLibtorch;
  if (const char* wanted = std::getenv("MONOPASS_BF16_PRODUCTS")) {
    const std::string name = wanted;
    if (name == "float32") return Bf16Products::kFloat32;
    if (name == "packed") return Bf16Products::kPacked;
    TORCH_CHECK(name == "libtorch", "MONOPASS_BF16_PRODUCTS is `", name, "`, wanted libtorch, float32 or packed");
    return Bf16Products::kLibtorch;
  }
  if (tiles_exist()) return Bf16Products::kLibtorch;
  return __builtin_cpu_is("intel") ? Bf16Products::kFloat32 : Bf16Products::kPacked;
}
#endif

}  // namespace

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

bool tiles_run() {
#ifdef MONOPASS_AMX
  static const bool run = kernels_run(c10::ScalarType::BFloat16) && std::getenv("MONOPASS_NO_AMX") == nullptr && tiles_are_ours();
  return run;
#else
  return false;
#endif
}

Bf16Products bf16_products() {
#ifdef MONOPASS_AVX512
  static const Bf16Products chosen = choose_products();
  return chosen;
#else
  return Bf16Products::kLibtorch;
#endif
}

}  // namespace monopass

extern "C" int monopass_kernels_run(int half) {
  return monopass::kernels_run(half ? c10::ScalarType::BFloat16 : c10::ScalarType::Float);
}
