// Products of at most 16 rows, which wait for the weights: one token a pass, or some drafted ones.
#include "matmul_kernels.h"

#include "simd.h"

namespace monopass {
namespace {

inline void put(float* to, float x) { *to = x; }
inline void put(bf16* to, float x) { store(to, all(x), 1); }

// One weight row times R rows of x. The weights are read from front to back, one stream a thread: the processor's own prefetching then
// brings two thirds more bytes a second than four rows read side by side.
template <typename T, int R>
inline void linear_row(const T* x, const T* w, int64_t in, float* sums) {
  using L = Lane<T>;
  constexpr int64_t kStep = 16 * L::K;
  // Fewer than four rows are added up in several parts, so that no addition waits for the one before.
  constexpr int kParts = 4 / R;
  Vec acc[R][kParts];
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < kParts; ++p) acc[r][p] = zeros();
  }
  int64_t i = 0;
  for (; i + kParts * kStep <= in; i += kParts * kStep) {
#pragma GCC unroll 4
    for (int p = 0; p < kParts; ++p) {
      const typename L::V a = L::vector(w + i + p * kStep);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) acc[r][p] = L::dot(acc[r][p], a, L::vector(x + r * in + i + p * kStep));
    }
  }
  for (; i < in; i += kStep) {
    const auto a = L::first(w + i, in - i);
    for (int r = 0; r < R; ++r) acc[r][0] = L::dot(acc[r][0], a, L::first(x + r * in + i, in - i));
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    for (int p = 1; p < kParts; ++p) acc[r][0] = acc[r][0] + acc[r][p];
    sums[r] = sum_of(acc[r][0]);
  }
}

constexpr int64_t kStreamed = 4;

// At most `kStreamed` rows.
template <typename T>
void linear_streamed(const T* x, const T* weight, const T* bias, T* out, int64_t rows, int64_t in, int64_t outs, int64_t begin, int64_t end) {
  float sums[kStreamed];
  for (int64_t o = begin; o < end; ++o) {
    const T* w = weight + o * in;
    switch (rows) {
      case 4: linear_row<T, 4>(x, w, in, sums); break;
      case 3: linear_row<T, 3>(x, w, in, sums); break;
      case 2: linear_row<T, 2>(x, w, in, sums); break;
      default: linear_row<T, 1>(x, w, in, sums); break;
    }
    const float shift = bias ? number(bias[o]) : 0.f;
    for (int64_t r = 0; r < rows; ++r) put(out + r * outs + o, sums[r] + shift);
  }
}

#ifdef __AVX512BF16__

// Four weight rows times R rows of x: from five rows on arithmetic takes longer than reading, and every value of x serves four products.
template <typename T, int R>
inline void linear_tile(const T* x, const T* weight, int64_t in, int outs, float* sums) {
  using L = Lane<T>;
  constexpr int64_t kStep = 16 * L::K;
  Vec acc[4][R];
#pragma GCC unroll 4
  for (int o = 0; o < 4; ++o) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) acc[o][r] = zeros();
  }
  const T* w[4];
  for (int o = 0; o < 4; ++o) w[o] = weight + (o < outs ? o : 0) * in;
  const int64_t dense = in / kStep * kStep;
  for (int64_t i = 0; i < dense; i += kStep) {
    typename L::V v[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) v[r] = L::vector(x + r * in + i);
#pragma GCC unroll 4
    for (int o = 0; o < 4; ++o) {
      const typename L::V a = L::vector(w[o] + i);
      _mm_prefetch(reinterpret_cast<const char*>(w[o] + i) + 4 * in * sizeof(T), _MM_HINT_T0);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) acc[o][r] = L::dot(acc[o][r], a, v[r]);
    }
  }
  if (dense < in) {
    for (int r = 0; r < R; ++r) {
      const auto v = L::first(x + r * in + dense, in - dense);
      for (int o = 0; o < 4; ++o) acc[o][r] = L::dot(acc[o][r], L::first(w[o] + dense, in - dense), v);
    }
  }
#pragma GCC unroll 4
  for (int o = 0; o < 4; ++o) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) sums[o * 4 + r] = sum_of(acc[o][r]);
  }
}

template <typename T>
void linear_tiled(
    const T* x, const T* weight, const T* bias, T* out, int64_t rows, int64_t in, int64_t outs, int64_t begin, int64_t end, float*) {
  float sums[16];
  for (int64_t o = begin; o < end; o += 4) {
    const int taken = static_cast<int>(min64(4, end - o));
    for (int64_t r = 0; r < rows; r += 4) {
      const int64_t count = min64(4, rows - r);
      const T *from = x + r * in, *w = weight + o * in;
      switch (count) {
        case 4: linear_tile<T, 4>(from, w, in, taken, sums); break;
        case 3: linear_tile<T, 3>(from, w, in, taken, sums); break;
        case 2: linear_tile<T, 2>(from, w, in, taken, sums); break;
        default: linear_tile<T, 1>(from, w, in, taken, sums); break;
      }
      for (int i = 0; i < taken; ++i) {
        const float shift = bias ? number(bias[o + i]) : 0.f;
        for (int64_t j = 0; j < count; ++j) put(out + (r + j) * outs + o + i, sums[i * 4 + j] + shift);
      }
    }
  }
}

#else

// Half of 16 neighbours as floats: of float32 the first or the last eight, of bf16 the even or the odd ones.
inline __m256 half_of(const float* p, int half) { return _mm256_loadu_ps(p + 8 * half); }
inline __m256 half_of(const bf16* p, int half) {
  const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm256_castsi256_ps(half == 0 ? _mm256_slli_epi32(raw, 16) : _mm256_and_si256(raw, _mm256_set1_epi32(-0x10000)));
}

// One row as `half_of` reads it, zeros behind its end.
template <typename T>
void halve(const T* row, int64_t in, float* to) {
  for (int64_t i = 0; i < in; i += 16, to += 16) {
    T own[16] = {};
    std::memcpy(own, row + i, min64(16, in - i) * sizeof(T));
    for (int half = 0; half < 2; ++half) _mm256_storeu_ps(to + 8 * half, half_of(own, half));
  }
}

template <typename T, int R>
inline void add_halves(const float* x, int64_t stride, const T* first, const T* second, __m256 (*acc)[R]) {
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const __m256 a = half_of(first, half), b = half_of(second, half);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const __m256 v = _mm256_loadu_ps(x + r * stride + 8 * half);
      acc[0][r] = _mm256_fmadd_ps(a, v, acc[0][r]);
      acc[1][r] = _mm256_fmadd_ps(b, v, acc[1][r]);
    }
  }
}

// Two weight rows, widened once, times R halved rows of x: 12 sums, two weights and a value are 15 of 16 registers.
template <typename T, int R>
void linear_pair(const float* x, int64_t stride, const T* first, const T* second, int64_t in, float (*sums)[6]) {
  __m256 acc[2][R];
  for (int r = 0; r < R; ++r) acc[0][r] = acc[1][r] = _mm256_setzero_ps();
  const int64_t dense = in / 16 * 16;
  for (int64_t i = 0; i < dense; i += 16) add_halves<T, R>(x + i, stride, first + i, second + i, acc);
  if (dense < in) {
    T own[2][16] = {};
    std::memcpy(own[0], first + dense, (in - dense) * sizeof(T));
    std::memcpy(own[1], second + dense, (in - dense) * sizeof(T));
    add_halves<T, R>(x + dense, stride, own[0], own[1], acc);
  }
  for (int o = 0; o < 2; ++o) {
    for (int r = 0; r < R; ++r) sums[o][r] = sum_of(Vec{acc[o][r], _mm256_setzero_ps()});
  }
}

// From five rows on arithmetic takes longer than reading, and every weight serves six products.
template <typename T>
void linear_tiled(
    const T* x, const T* weight, const T* bias, T* out, int64_t rows, int64_t in, int64_t outs, int64_t begin, int64_t end, float* scratch) {
  const int64_t stride = round_up(in, 16);
  for (int64_t r = 0; r < rows; ++r) halve(x + r * in, in, scratch + r * stride);
  float sums[2][6];
  for (int64_t o = begin; o < end; o += 2) {
    const int taken = static_cast<int>(min64(2, end - o));
    const T *first = weight + o * in, *second = first + (taken - 1) * in;
    for (int64_t r = 0; r < rows; r += 6) {
      const int64_t count = min64(6, rows - r);
      const float* from = scratch + r * stride;
      switch (count) {
        case 6: linear_pair<T, 6>(from, stride, first, second, in, sums); break;
        case 5: linear_pair<T, 5>(from, stride, first, second, in, sums); break;
        case 4: linear_pair<T, 4>(from, stride, first, second, in, sums); break;
        case 3: linear_pair<T, 3>(from, stride, first, second, in, sums); break;
        case 2: linear_pair<T, 2>(from, stride, first, second, in, sums); break;
        default: linear_pair<T, 1>(from, stride, first, second, in, sums); break;
      }
      for (int i = 0; i < taken; ++i) {
        const float shift = bias ? number(bias[o + i]) : 0.f;
        for (int64_t j = 0; j < count; ++j) put(out + (r + j) * outs + o + i, sums[i][j] + shift);
      }
    }
  }
}

#endif

}  // namespace

template <typename V, typename T>
int64_t linear_rows_scratch(int64_t rows, int64_t in) {
  return kVectorsInRegisters < 4 && rows > kStreamed ? rows * round_up(in, 16) : 0;
}

template <typename V, typename T>
void linear_rows(
    const T* x, const T* weight, const T* bias, T* out, int64_t rows, int64_t in, int64_t outs, int64_t begin, int64_t end, float* scratch) {
  if (rows <= kStreamed) return linear_streamed(x, weight, bias, out, rows, in, outs, begin, end);
  linear_tiled(x, weight, bias, out, rows, in, outs, begin, end, scratch);
}

#define MONOPASS_INSTANTIATE(T)                                       \
  template int64_t linear_rows_scratch<Vectors, T>(int64_t, int64_t); \
  template void linear_rows<Vectors, T>(const T*, const T*, const T*, T*, int64_t, int64_t, int64_t, int64_t, int64_t, float*);
MONOPASS_INSTANTIATE(float)
MONOPASS_INSTANTIATE(bf16)

}  // namespace monopass
