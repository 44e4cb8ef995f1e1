// Small matrix products and what else the kernels share, in vectors of 16 floats. The words are those of the instruction set that a file is
// compiled for (simd_avx512.h, simd_avx2.h); everything is internal to the file that includes it, so that no other part of the program can
// pick up a copy for another processor.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#ifdef __AVX512BF16__
#include "simd_avx512.h"
#else
#include "simd_avx2.h"
#endif

namespace monopass {
namespace {

inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

inline float number(float x) { return x; }
inline float number(bf16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
// 2^x, relative error below 2e-7; 0 below -149. NaN stays NaN: of two operands the processor takes the second then.
inline Vec exp2_ps(Vec x) {
  x = larger(all(-200.f), x);
  const Vec n = nearest_integer(x);
  const Vec f = x - n;
  // Taylor series of 2^f on [-0.5, 0.5].
  Vec p = all(1.5403530e-4f);
  p = fmadd(p, f, all(1.3333558e-3f));
  p = fmadd(p, f, all(9.6181291e-3f));
  p = fmadd(p, f, all(5.5504109e-2f));
  p = fmadd(p, f, all(2.4022651e-1f));
  p = fmadd(p, f, all(6.9314718e-1f));
  p = fmadd(p, f, all(1.0f));
  return times_power_of_two(p, n);
}
// As precise as what it will be written to (bf16: simd_avx512.h).
inline Vec exp2_to(const float*, Vec x) { return exp2_ps(x); }
inline Vec exp_ps(Vec x) { return exp2_ps(x * all(1.44269504f)); }
inline Vec sigmoid(Vec x) {
  const Vec one = all(1.f);
  return one / (one + exp_ps(zeros() - x));
}

// c [MR, 16 * NR] = or += a [MR, steps * K] (rows `lda` apart) times b ([steps, columns, K], steps `ldb` apart).
template <typename T, int MR, int NR>
inline void micro(const T* a, int64_t lda, const T* b, int64_t ldb, int64_t steps, float* c, int64_t ldc, bool add) {
  using L = Lane<T>;
  Vec acc[MR][NR];
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < NR; ++j) acc[i][j] = add ? load(c + i * ldc + 16 * j) : zeros();
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
    for (int j = 0; j < NR; ++j) store(c + i * ldc + 16 * j, acc[i][j]);
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
      // Five and six go in threes, so that the last ones are not alone.
      const int64_t take = kVectorsInRegisters < 4 ? 1 : vectors == 5 || vectors == 6 || vectors == 3 ? 3 : min64(vectors, 4);
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

// to [width / K, columns, K] from `rows` rows of `width` elements (`ld` apart); columns from `rows` to `columns` (a multiple of 16)
// become zero. P is T, or float where bf16 is widened.
template <typename T, typename P>
inline void pack_inner(const T* from, int64_t ld, int64_t rows, int64_t columns, int64_t width, P* to) {
  constexpr int64_t K = Lane<P>::K;
  const int64_t lanes = width / K;
  for (int64_t c = 0; c < columns; c += 16) {
    for (int64_t p = 0; p < lanes; p += 16) {
      if (lanes - p >= 16) {
        transpose16(from + c * ld + p * K, ld * sizeof(T), rows - c, to + (p * columns + c) * K, columns);
      } else {
        for (int64_t i = p; i < lanes; ++i) {
          for (int64_t j = c; j < c + 16; ++j) {
            for (int64_t e = 0; e < K; ++e) {
              if constexpr (std::is_same_v<T, P>) {
                to[(i * columns + j) * K + e] = j < rows ? from[j * ld + i * K + e] : P{};
              } else {
                to[(i * columns + j) * K + e] = j < rows ? number(from[j * ld + i * K + e]) : P{};
              }
            }
          }
        }
      }
    }
  }
}

// to [rows / K, width, K] from rows of `width` elements; odd rows missing at the end are zero. `width` a multiple of 16.
template <typename T>
inline void pack_rows(const T* from, int64_t ld, int64_t rows, int64_t padded, int64_t width, float* to) {
  for (int64_t i = 0; i < padded; ++i) {
    for (int64_t j = 0; j < width; j += 16) store(to + i * width + j, i < rows ? load(from + i * ld + j) : zeros());
  }
}

// As of bf16, whose keys come in pairs; floats lie as they are.
inline void store_paired(float* to, int64_t key, int64_t columns, int64_t column, Vec x) { store(to + key * columns + column, x); }

}  // namespace
}  // namespace monopass
