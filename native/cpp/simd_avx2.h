// AVX2's words for simd.h (with FMA): a vector of 16 floats is two registers. bf16 is widened where it is read.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "attention_kernels.h"

namespace monopass {
namespace {

// Who runs what is compiled with these words.
using Vectors = Avx2;

// 16 floats.
struct Vec {
  __m256 low, high;
};
// 16 int32, or 16 pairs of bf16.
struct Ints {
  __m256i low, high;
};
using Mask = uint16_t;

// Vectors that a row of a product in registers may have: 6 x 1 sums, a column and a value of the row are 15 of 16 registers.
constexpr int64_t kVectorsInRegisters = 1;

inline Mask first_lanes(int64_t n) { return n >= 16 ? 0xffff : n <= 0 ? 0 : static_cast<Mask>((1u << n) - 1); }

inline Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }

inline Vec zeros() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Vec all(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Ints all_ints(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline Ints load_ints(const void* p) {
  const auto* from = static_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(from), _mm256_loadu_si256(from + 1)};
}

// The lanes of a half of a mask (its eight low bits), as full lanes of bits.
inline __m256i lanes_of(int bits) {
  const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits), lane), lane);
}
inline __m256 pick(__m256i lanes, __m256 in, __m256 out) { return _mm256_blendv_ps(out, in, _mm256_castsi256_ps(lanes)); }
inline Vec pick(Mask m, Vec in, Vec out) { return {pick(lanes_of(m), in.low, out.low), pick(lanes_of(m >> 8), in.high, out.high)}; }

// Eight bf16, widened.
inline __m256 widen(__m128i x) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16)); }
// Rounded to bf16, to the nearest one and to even, in the high half of each lane; the low half is zero. NaN stays NaN.
inline __m256i narrow(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x), last = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i nearest = _mm256_add_epi32(bits, _mm256_add_epi32(last, _mm256_set1_epi32(0x7fff)));
  const __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q), quiet = _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_set1_epi32(0x400000)));
  return _mm256_and_si256(_mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(nearest), quiet, nan)), _mm256_set1_epi32(-0x10000));
}

// Loads and stores of some lanes take the first ones only, and leave memory behind them alone; other lanes load as zero.
inline Vec load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline Vec load(const bf16* p) {
  const auto* from = reinterpret_cast<const __m128i*>(p);
  return {widen(_mm_loadu_si128(from)), widen(_mm_loadu_si128(from + 1))};
}
inline void store(float* p, Vec x) {
  _mm256_storeu_ps(p, x.low);
  _mm256_storeu_ps(p + 8, x.high);
}
inline void store(bf16* p, Vec x) {
  const __m256i mixed = _mm256_packus_epi32(_mm256_srli_epi32(narrow(x.low), 16), _mm256_srli_epi32(narrow(x.high), 16));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(mixed, 0xd8));
}
// Through memory of our own: masked stores are slow on AMD, and there are none of 16 bits.
template <typename T>
inline Vec load(const T* p, Mask m) {
  if (m == 0xffff) return load(p);
  T own[16] = {};
  std::memcpy(own, p, __builtin_popcount(m) * sizeof(T));
  return load(own);
}
template <typename T>
inline void store(T* p, Vec x, Mask m) {
  if (m == 0xffff) return store(p, x);
  T own[16];
  store(own, x);
  std::memcpy(p, own, __builtin_popcount(m) * sizeof(T));
}

// Rounds to what T can hold.
template <typename T>
inline Vec rounded(Vec x);
template <>
inline Vec rounded<float>(Vec x) { return x; }
template <>
inline Vec rounded<bf16>(Vec x) { return {_mm256_castsi256_ps(narrow(x.low)), _mm256_castsi256_ps(narrow(x.high))}; }

inline Vec fmadd(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)}; }     // a * b + c
inline Vec fmsub(Vec a, Vec b, Vec c) { return {_mm256_fmsub_ps(a.low, b.low, c.low), _mm256_fmsub_ps(a.high, b.high, c.high)}; }     // a * b - c
inline Vec fnmadd(Vec a, Vec b, Vec c) { return {_mm256_fnmadd_ps(a.low, b.low, c.low), _mm256_fnmadd_ps(a.high, b.high, c.high)}; }  // c - a * b
inline Vec larger(Vec a, Vec b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
inline Vec square_root(Vec x) { return {_mm256_sqrt_ps(x.low), _mm256_sqrt_ps(x.high)}; }
inline __m256 nearest_integer(__m256 x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Vec nearest_integer(Vec x) { return {nearest_integer(x.low), nearest_integer(x.high)}; }
// For whole powers from -252 on; in two halves, each of which a float's exponent can hold (254 is as good as infinity).
inline __m256 times_power_of_two(__m256 x, __m256 power) {
  const __m256i whole = _mm256_cvtps_epi32(_mm256_min_ps(power, _mm256_set1_ps(254.f))), half = _mm256_srai_epi32(whole, 1);
  const auto factor = [](__m256i n) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23)); };
  return _mm256_mul_ps(_mm256_mul_ps(x, factor(half)), factor(_mm256_sub_epi32(whole, half)));
}
inline Vec times_power_of_two(Vec x, Vec power) { return {times_power_of_two(x.low, power.low), times_power_of_two(x.high, power.high)}; }

// x, zero outside the mask.
inline Vec keep(Mask m, Vec x) { return m == 0xffff ? x : pick(m, x, zeros()); }
// In the mask the larger one, or the sum; outside `a`.
inline Vec larger_in(Mask m, Vec a, Vec b) { return m == 0xffff ? larger(a, b) : pick(m, larger(a, b), a); }
inline Vec add_in(Mask m, Vec a, Vec b) { return m == 0xffff ? a + b : pick(m, a + b, a); }

inline float first_of(Vec x) { return _mm256_cvtss_f32(x.low); }
inline float sum_of(Vec x) {
  const __m256 eight = _mm256_add_ps(x.low, x.high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1)), two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float largest_of(Vec x) {
  const __m256 eight = _mm256_max_ps(x.low, x.high);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1)), two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
inline double sum_in_double(Vec x) {
  const auto sum = [](__m256 v) { return _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(v)), _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1))); };
  const __m256d four = _mm256_add_pd(sum(x.low), sum(x.high));
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

// The mask of lanes whose bits are all set.
inline Mask mask_of(__m256i low, __m256i high) {
  return static_cast<Mask>(_mm256_movemask_ps(_mm256_castsi256_ps(low)) | _mm256_movemask_ps(_mm256_castsi256_ps(high)) << 8);
}
inline Mask below(Ints a, Ints b) { return mask_of(_mm256_cmpgt_epi32(b.low, a.low), _mm256_cmpgt_epi32(b.high, a.high)); }
inline Mask at_most(Ints a, Ints b) { return static_cast<Mask>(~below(b, a)); }
inline Mask same(Ints a, Ints b) { return mask_of(_mm256_cmpeq_epi32(a.low, b.low), _mm256_cmpeq_epi32(a.high, b.high)); }
inline Mask share_bits(Ints a, Ints b) {
  return static_cast<Mask>(~same({_mm256_and_si256(a.low, b.low), _mm256_and_si256(a.high, b.high)}, all_ints(0)));
}

// The operand of a product: `K` neighbouring inner-dimension elements share a 32-bit lane.
template <typename T>
struct Lane;
template <>
struct Lane<float> {
  static constexpr int64_t K = 1;
  using V = Vec;
  static inline V broadcast(const float* p) { return all(*p); }
  static inline V vector(const float* p) { return load(p); }
  static inline V first(const float* p, int64_t count) { return load(p, first_lanes(count)); }
  static inline Vec dot(Vec acc, V a, V b) { return fmadd(a, b, acc); }
};
template <>
struct Lane<bf16> {
  static constexpr int64_t K = 2;
  using V = Ints;
  static inline V vector(const bf16* p) { return load_ints(p); }
  static inline V first(const bf16* p, int64_t count) {
    if (count >= 32) return vector(p);
    bf16 own[32] = {};
    std::memcpy(own, p, count * sizeof(bf16));
    return vector(own);
  }
  static inline Vec dot(Vec acc, V a, V b) { return fmadd(odd(a), odd(b), fmadd(even(a), even(b), acc)); }

 private:
  static inline Vec even(V x) { return {_mm256_castsi256_ps(_mm256_slli_epi32(x.low, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(x.high, 16))}; }
  static inline Vec odd(V x) {
    const __m256i high = _mm256_set1_epi32(-0x10000);
    return {_mm256_castsi256_ps(_mm256_and_si256(x.low, high)), _mm256_castsi256_ps(_mm256_and_si256(x.high, high))};
  }
};

// 8 x 8 transpose of floats.
inline void transpose8(const __m256* r, float* to, int64_t ld_to) {
  __m256 t[8], u[8];
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(to + i * ld_to, _mm256_permute2f128_ps(u[i], u[4 + i], 0x20));
    _mm256_storeu_ps(to + (4 + i) * ld_to, _mm256_permute2f128_ps(u[i], u[4 + i], 0x31));
  }
}

inline __m256 eight(const float* p) { return _mm256_loadu_ps(p); }
inline __m256 eight(const bf16* p) { return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }

// 16 x 16 transpose: row i of `from` (rows `ld_bytes` apart; from `rows` on they count as zero) becomes column i of `to` (rows `ld_to` apart).
template <typename T>
inline void transpose16(const T* from, int64_t ld_bytes, int64_t rows, float* to, int64_t ld_to) {
  const char* bytes = reinterpret_cast<const char*>(from);
  for (int64_t r = 0; r < 16; r += 8) {
    for (int64_t c = 0; c < 16; c += 8) {
      __m256 block[8];
      for (int64_t i = 0; i < 8; ++i) {
        const T* row = reinterpret_cast<const T*>(bytes + (r + i) * ld_bytes) + c;
        block[i] = r + i < rows ? eight(row) : _mm256_setzero_ps();
      }
      transpose8(block, to + c * ld_to + r, ld_to);
    }
  }
}

}  // namespace
}  // namespace monopass
