// Vectors of 16 floats and small matrix products. For files compiled for AVX-512 only (*_avx512.cpp): everything is internal
// to the file that includes it, so that no other part of the program can pick up an AVX-512 copy.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "attention_kernels.h"

namespace monopass {
namespace {

inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

inline __mmask16 first_lanes(int64_t n) { return n >= 16 ? 0xffff : n <= 0 ? 0 : static_cast<__mmask16>((1u << n) - 1); }

inline __m512 load(const float* p) { return _mm512_loadu_ps(p); }
inline __m512 load(const bf16* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
}
inline __m512 load(const float* p, __mmask16 m) { return _mm512_maskz_loadu_ps(m, p); }
inline __m512 load(const bf16* p, __mmask16 m) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p)), 16));
}
inline void store(float* p, __m512 x) { _mm512_storeu_ps(p, x); }
inline void store(bf16* p, __m512 x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(x)); }
inline void store(float* p, __m512 x, __mmask16 m) { _mm512_mask_storeu_ps(p, m, x); }
inline void store(bf16* p, __m512 x, __mmask16 m) { _mm256_mask_storeu_epi16(p, m, (__m256i)_mm512_cvtneps_pbh(x)); }

// Rounds to what T can hold.
template <typename T>
inline __m512 rounded(__m512 x);
template <>
inline __m512 rounded<float>(__m512 x) { return x; }
template <>
inline __m512 rounded<bf16>(__m512 x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x)), 16));
}

// 2^x, relative error below 2e-7; 0 below -149.
inline __m512 exp2_ps(__m512 x) {
  x = _mm512_max_ps(x, _mm512_set1_ps(-200.f));
  const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 f = _mm512_sub_ps(x, n);
  // Taylor series of 2^f on [-0.5, 0.5].
  __m512 p = _mm512_set1_ps(1.5403530e-4f);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.3333558e-3f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.6181291e-3f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.5504109e-2f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4022651e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9314718e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, n);
}
inline __m512 exp_ps(__m512 x) { return exp2_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f))); }
inline __m512 sigmoid(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.f);
  return _mm512_div_ps(one, _mm512_add_ps(one, exp_ps(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

// The operand of a product: `K` neighbouring inner-dimension elements share a 32-bit lane.
template <typename T>
struct Lane;
template <>
struct Lane<float> {
  static constexpr int64_t K = 1;
  using V = __m512;
  static inline V broadcast(const float* p) { return _mm512_set1_ps(*p); }
  static inline V vector(const float* p) { return _mm512_loadu_ps(p); }
  static inline __m512 dot(__m512 acc, V a, V b) { return _mm512_fmadd_ps(a, b, acc); }
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
  static inline __m512 dot(__m512 acc, V a, V b) { return _mm512_dpbf16_ps(acc, a, b); }
};

// c [MR, 16 * NR] = or += a [MR, steps * K] (rows `lda` apart) times b ([steps, columns, K], steps `ldb` apart).
template <typename T, int MR, int NR>
inline void micro(const T* a, int64_t lda, const T* b, int64_t ldb, int64_t steps, float* c, int64_t ldc, bool add) {
  using L = Lane<T>;
  __m512 acc[MR][NR];
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < NR; ++j) acc[i][j] = add ? _mm512_loadu_ps(c + i * ldc + 16 * j) : _mm512_setzero_ps();
  }
  for (int64_t p = 0; p < steps; ++p) {
    typename L::V row[NR];
#pragma GCC unroll 4
    for (int j = 0; j < NR; ++j) row[j] = L::vector(b + p * ldb + j * 16 * L::K);
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) {
      const typename L::V x = L::broadcast(a + i * lda + p * L::K);
#pragma GCC unroll 4
      for (int j = 0; j < NR; ++j) acc[i][j] = L::dot(acc[i][j], x, row[j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < NR; ++j) _mm512_storeu_ps(c + i * ldc + 16 * j, acc[i][j]);
  }
}

template <typename T, int NR>
inline void micro_rows(int rows, const T* a, int64_t lda, const T* b, int64_t ldb, int64_t steps, float* c, int64_t ldc, bool add) {
  switch (rows) {
    case 6: return micro<T, 6, NR>(a, lda, b, ldb, steps, c, ldc, add);
    case 5: return micro<T, 5, NR>(a, lda, b, ldb, steps, c, ldc, add);
    case 4: return micro<T, 4, NR>(a, lda, b, ldb, steps, c, ldc, add);
    case 3: return micro<T, 3, NR>(a, lda, b, ldb, steps, c, ldc, add);
    case 2: return micro<T, 2, NR>(a, lda, b, ldb, steps, c, ldc, add);
    default: return micro<T, 1, NR>(a, lda, b, ldb, steps, c, ldc, add);
  }
}

// How the tasks of attention multiply: c [rows, 16 * vectors] = or += a [rows, steps * K] times b [steps, columns, K], as in `micro`.
template <typename M>
struct Products;

template <>
struct Products<Vectors> {
  static constexpr int64_t kStrip = 6;         // rows taken at a time
  static constexpr int64_t kColumns = 16;      // what columns, and inner lengths of bf16, are a multiple of
  static constexpr int64_t kKeyBlock = 256;    // forward: keys a tile of queries visits at a time
  static constexpr int64_t kBackwardKeys = 48;

  // What a task holds while it multiplies.
  struct Session {
    Session() {}
  };

  template <typename T>
  static void product(int64_t rows, int64_t vectors, const T* a, int64_t lda, const T* b, int64_t ldb, int64_t steps, float* c, int64_t ldc, bool add) {
    while (vectors > 0) {
      const int64_t take = vectors == 5 || vectors == 6 || vectors == 3 ? 3 : min64(vectors, 4);
      for (int64_t r = 0; r < rows; r += kStrip) {
        const int count = static_cast<int>(min64(kStrip, rows - r));
        switch (take) {
          case 4: micro_rows<T, 4>(count, a + r * lda, lda, b, ldb, steps, c + r * ldc, ldc, add); break;
          case 3: micro_rows<T, 3>(count, a + r * lda, lda, b, ldb, steps, c + r * ldc, ldc, add); break;
          case 2: micro_rows<T, 2>(count, a + r * lda, lda, b, ldb, steps, c + r * ldc, ldc, add); break;
          default: micro_rows<T, 1>(count, a + r * lda, lda, b, ldb, steps, c + r * ldc, ldc, add); break;
        }
      }
      b += take * 16 * Lane<T>::K;
      c += take * 16;
      vectors -= take;
    }
  }
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

// to [width / K, columns, K] from `rows` rows of `width` elements (`ld` apart); columns from `rows` to `columns` (a multiple of 16)
// become zero.
template <typename T>
inline void pack_inner(const T* from, int64_t ld, int64_t rows, int64_t columns, int64_t width, T* to) {
  constexpr int64_t K = Lane<T>::K;
  const int64_t lanes = width / K;
  for (int64_t c = 0; c < columns; c += 16) {
    for (int64_t p = 0; p < lanes; p += 16) {
      if (lanes - p >= 16) {
        transpose16(from + c * ld + p * K, ld * sizeof(T), rows - c, to + (p * columns + c) * K, columns);
      } else {
        for (int64_t i = p; i < lanes; ++i) {
          for (int64_t j = c; j < c + 16; ++j) {
            for (int64_t e = 0; e < K; ++e) to[(i * columns + j) * K + e] = j < rows ? from[j * ld + i * K + e] : T{};
          }
        }
      }
    }
  }
}

// Two rows of 16 bf16 -> 16 pairs.
inline __m512i interleave(__m256i even, __m256i odd) {
  return _mm512_or_si512(_mm512_cvtepu16_epi32(even), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
}

// to [rows / K, width, K] from rows of `width` elements; odd rows missing at the end are zero. `width` a multiple of 16.
inline void pack_rows(const float* const from, int64_t ld, int64_t rows, int64_t padded, int64_t width, float* to) {
  for (int64_t i = 0; i < padded; ++i) {
    for (int64_t j = 0; j < width; j += 16) store(to + i * width + j, i < rows ? load(from + i * ld + j) : _mm512_setzero_ps());
  }
}
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

}  // namespace
}  // namespace monopass
