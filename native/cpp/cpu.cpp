#include "cpu.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <iterator>
#include <string>

#include "shim.h"

#ifdef MONOPASS_X86
#include <cpuid.h>
#endif
#ifdef MONOPASS_AMX
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace monopass {
namespace {

#ifdef MONOPASS_X86
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

// What the environment allows at most: its place in this list.
int allowed() {
  constexpr const char* kWords[] = {"none", "avx2", "avx512f", "avx512"};
  const char* wanted = std::getenv("MONOPASS_VECTORS");
  const std::string name = wanted ? wanted : "avx512";
  const auto* found = std::find(std::begin(kWords), std::end(kWords), name);
  TORCH_CHECK(found != std::end(kWords), "MONOPASS_VECTORS is `", name, "`, wanted none, avx2, avx512f or avx512");
  return static_cast<int>(found - std::begin(kWords));
}

VectorSet widest(bool half) {
#ifdef MONOPASS_X86
  const int most = allowed();
  const bool pairs = most >= 3 && __builtin_cpu_supports("avx512bf16");
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && (!half || pairs);
  if (most >= 2 && wide) return VectorSet::kAvx512;
  if (most >= 1 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return VectorSet::kAvx2;
#else
  (void)half;
#endif
  return VectorSet::kNone;
}

Products choose_products(c10::ScalarType kind) {
  const bool half = kind == c10::ScalarType::BFloat16;
  const VectorSet set = vectors_for(kind);
  const Products wide = half ? Products::kFloat32 : Products::kLibtorch;
  const Products packed = set == VectorSet::kAvx2 || (half && set == VectorSet::kAvx512) ? Products::kPacked : wide;
  if (const char* wanted = std::getenv("MONOPASS_PRODUCTS")) {
    const std::string name = wanted;
    if (name == "float32") return wide;
    if (name == "packed") return packed;
    TORCH_CHECK(name == "libtorch", "MONOPASS_PRODUCTS is `", name, "`, wanted libtorch, float32 or packed");
    return Products::kLibtorch;
  }
#ifdef MONOPASS_X86
  if (half && set == VectorSet::kAvx512 && tiles_exist()) return Products::kLibtorch;
  return __builtin_cpu_is("intel") ? wide : packed;
#else
  return Products::kLibtorch;
#endif
}

}  // namespace

VectorSet vectors_for(c10::ScalarType kind) {
  static const VectorSet single = widest(false), half = widest(true);
  return kind == c10::ScalarType::Float ? single : kind == c10::ScalarType::BFloat16 ? half : VectorSet::kNone;
}

bool tiles_run() {
#ifdef MONOPASS_AMX
  static const bool run =
      vectors_for(c10::ScalarType::BFloat16) == VectorSet::kAvx512 && std::getenv("MONOPASS_NO_AMX") == nullptr && tiles_are_ours();
  return run;
#else
  return false;
#endif
}

Products products_of(c10::ScalarType kind) {
  static const Products single = choose_products(c10::ScalarType::Float), half = choose_products(c10::ScalarType::BFloat16);
  return kind == c10::ScalarType::Float ? single : kind == c10::ScalarType::BFloat16 ? half : Products::kLibtorch;
}

}  // namespace monopass

extern "C" {

char* monopass_kernels_run(int half, int* run) {
  return monopass::guarded([&] { *run = monopass::kernels_run(half ? c10::ScalarType::BFloat16 : c10::ScalarType::Float); });
}

// For bf16: a VectorSet, a Products, and whether tiles multiply.
char* monopass_kernels(int* vectors, int* products, int* tiles) {
  return monopass::guarded([&] {
    *vectors = static_cast<int>(monopass::vectors_for(c10::ScalarType::BFloat16));
    *products = static_cast<int>(monopass::products_of(c10::ScalarType::BFloat16));
    *tiles = monopass::tiles_run();
  });
}

}  // extern "C"
