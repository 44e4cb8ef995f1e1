// AVX-512's words for simd.h: a vector of 16 floats is one register. Its bf16 part multiplies pairs of bf16.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "attention_kernels.h"

namespace monopass {
namespace {

// Who runs what is compiled with these words.
using Vectors = Avx512;

using Vec = __m512;    // 16 floats, with the operators + - * /
using Ints = __m512i;  // 16 int32
using Mask = __mmask16;

// Vectors that a row of a product in registers may have: 6 x 4 sums, 4 columns and a value of the row are 29 of 32 registers.
constexpr int64_t kVectorsInRegisters = 4;

inline Mask first_lanes(int64_t n) { return n >= 16 ? 0xffff : n <= 0 ? 0 : static_cast<Mask>((1u << n) - 1); }

inline Vec zeros() { return _mm512_setzero_ps(); }
inline Vec all(float x) { return _mm512_set1_ps(x); }

// Loads and stores of some lanes take the first ones only, and leave memory behind them alone; other lanes load as zero.
inline Vec load(const float* p) { return _mm512_loadu_ps(p); }
inline Vec load(const bf16* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
}
inline Vec load(const float* p, Mask m) { return _mm512_maskz_loadu_ps(m, p); }
inline Vec load(const bf16* p, Mask m) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p)), 16));
}
inline void store(float* p, Vec x) { _mm512_storeu_ps(p, x); }
inline void store(bf16* p, Vec x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(x)); }
inline void store(float* p, Vec x, Mask m) { _mm512_mask_storeu_ps(p, m, x); }
inline void store(bf16* p, Vec x, Mask m) { _mm256_mask_storeu_epi16(p, m, (__m256i)_mm512_cvtneps_pbh(x)); }

// Rounds to what T can hold.
template <typename T>
inline Vec rounded(Vec x);
template <>
inline Vec rounded<float>(Vec x) { return x; }
template <>
inline Vec rounded<bf16>(Vec x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x)), 16));
}

inline Vec fmadd(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }    // a * b + c
inline Vec fmsub(Vec a, Vec b, Vec c) { return _mm512_fmsub_ps(a, b, c); }    // a * b - c
inline Vec fnmadd(Vec a, Vec b, Vec c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a * b
inline Vec larger(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec square_root(Vec x) { return _mm512_sqrt_ps(x); }
inline Vec nearest_integer(Vec x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Vec times_power_of_two(Vec x, Vec power) { return _mm512_scalef_ps(x, power); }

// 2^x, relative error below 3e-6 (bf16 rounds by up to 4e-3); 0 where float32 has none so small. Minimax polynomial of 2^f on [0, 1).
inline Vec exp2_to(const bf16*, Vec x) {
  const Vec f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // x less the whole number below
  Vec p = fmadd(all(0.0135341679f), f, all(0.0520114606f));
  p = fmadd(p, f, all(0.241442757f));
  p = fmadd(p, f, all(0.693003834f));
  p = fmadd(p, f, all(1.00000259f));
  return times_power_of_two(p, x);  // takes the whole number below by itself
}

// x, zero outside the mask.
inline Vec keep(Mask m, Vec x) { return _mm512_maskz_mov_ps(m, x); }
// In the mask the larger one, or the sum; outside `a`.
inline Vec larger_in(Mask m, Vec a, Vec b) { return _mm512_mask_max_ps(a, m, a, b); }
inline Vec add_in(Mask m, Vec a, Vec b) { return _mm512_mask_add_ps(a, m, a, b); }

inline float first_of(Vec x) { return _mm512_cvtss_f32(x); }
inline float sum_of(Vec x) { return _mm512_reduce_add_ps(x); }
inline float largest_of(Vec x) { return _mm512_reduce_max_ps(x); }
inline double sum_in_double(Vec x) {
  return _mm512_reduce_add_pd(_mm512_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1))));
}

inline Ints all_ints(int32_t x) { return _mm512_set1_epi32(x); }
inline Ints load_ints(const void* p) { return _mm512_loadu_si512(p); }
inline Mask at_most(Ints a, Ints b) { return _mm512_cmple_epi32_mask(a, b); }
inline Mask below(Ints a, Ints b) { return _mm512_cmplt_epi32_mask(a, b); }
inline Mask same(Ints a, Ints b) { return _mm512_cmpeq_epi32_mask(a, b); }
inline Mask share_bits(Ints a, Ints b) { return _mm512_test_epi32_mask(a, b); }

// The operand of a product: `K` neighbouring inner-dimension elements share a 32-bit lane.
template <typename T>
struct Lane;
template <>
struct Lane<float> {
  static constexpr int64_t K = 1;
  using V = __m512;
  static inline V broadcast(const float* p) { return _mm512_set1_ps(*p); }
  static inline V vector(const float* p) { return _mm512_loadu_ps(p); }
  static inline V first(const float* p, int64_t count) { return _mm512_maskz_loadu_ps(first_lanes(count), p); }
  static inline Vec dot(Vec acc, V a, V b) { return _mm512_fmadd_ps(a, b, acc); }
};
template <>
struct Lane<bf16> {
  static constexpr int64_t K = 2;
  using V = __m512bh;
  static inline V broadcast(const bf16* p) {
    int32_t pair;
    std::memcpy(&pair, p, sizeof(pair));
    return (V)_mm512_set1_epi32(pair);
  }
  static inline V vector(const bf16* p) { return (V)_mm512_loadu_si512(p); }
  static inline V first(const bf16* p, int64_t count) {
    const __mmask32 m = count >= 32 ? 0xffffffffu : (1u << count) - 1;
    return (V)_mm512_maskz_loadu_epi16(m, p);
  }
  static inline Vec dot(Vec acc, V a, V b) { return _mm512_dpbf16_ps(acc, a, b); }
};

// 16 x 16 transpose of 32-bit elements: row i of `from` (rows `ld_bytes` apart; from `rows` on they count as zero) becomes column
// i of `to` (rows `ld_to` 32-bit elements apart).
inline void transpose16(const void* from, int64_t ld_bytes, int64_t rows, void* destination, int64_t ld_to) {
  int32_t* to = static_cast<int32_t*>(destination);
  __m512i r[16], t[16];
  for (int i = 0; i < 16; ++i) {
    r[i] = i < rows ? _mm512_loadu_si512(static_cast<const char*>(from) + i * ld_bytes) : _mm512_setzero_si512();
  }
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
    t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
    t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    _mm512_storeu_si512(to + i * ld_to, _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88));
    _mm512_storeu_si512(to + (4 + i) * ld_to, _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88));
    _mm512_storeu_si512(to + (8 + i) * ld_to, _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd));
    _mm512_storeu_si512(to + (12 + i) * ld_to, _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd));
  }
}

// Two rows of 16 bf16 -> 16 pairs.
inline __m512i interleave(__m256i even, __m256i odd) {
  return _mm512_or_si512(_mm512_cvtepu16_epi32(even), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
}

// `pack_rows` of simd.h for bf16: neighbouring rows are paired.
inline void pack_rows(const bf16* const from, int64_t ld, int64_t rows, int64_t padded, int64_t width, bf16* to) {
  for (int64_t i = 0; i < padded; i += 2) {
    for (int64_t j = 0; j < width; j += 16) {
      const __m256i zero = _mm256_setzero_si256();
      const __m256i even = i < rows ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i * ld + j)) : zero;
      const __m256i odd = i + 1 < rows ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + (i + 1) * ld + j)) : zero;
      _mm512_storeu_si512(to + i * width + j * 2, interleave(even, odd));
    }
  }
}

// An element of a row of keys, stored where its pair will be read: even keys clear their partner, odd keys fill it.
inline void store_paired(bf16* to, int64_t key, int64_t columns, int64_t column, Vec x) {
  int32_t* at = reinterpret_cast<int32_t*>(to) + (key / 2) * columns + column;
  const __m512i bits = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x));
  const __m512i both = key % 2 ? _mm512_or_si512(_mm512_loadu_si512(at), _mm512_slli_epi32(bits, 16)) : bits;
  _mm512_storeu_si512(at, both);
}

}  // namespace
}  // namespace monopass
