// Products of many rows: what libtorch computes too, at the full speed of vectors that it does not know well (AMD's), and of bf16.
#include "matmul_kernels.h"

#include <type_traits>

#include "simd.h"

namespace monopass {
namespace {

using Value = Packed<Vectors>;
constexpr int64_t kTogether = Packing<Vectors>::kTogether, kPanel = Packing<Vectors>::kPanel;
constexpr int kVectors = kPanel / 16;

// Rows of x that stay in registers.
constexpr int kStrip = 6;

// What becomes of the sums of a strip: a column block of the product with a bias added, or the gated half of it.
template <typename T>
struct Plain {
  const T* bias;
  T* out;
  int64_t columns;

  Plain at(int64_t row, int64_t panel) const { return {bias ? bias + panel * kPanel : nullptr, out + row * columns + panel * kPanel, columns}; }
  __attribute__((always_inline)) void put(int r, const Vec* sum) const {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      store(out + r * columns + v * 16, bias ? sum[v] + load(bias + v * 16) : sum[v]);
    }
  }
};
struct Gated {
  bf16* out;
  int64_t width;

  Gated at(int64_t row, int64_t panel) const { return {out + row * width + panel * kPanel / 2, width}; }
  __attribute__((always_inline)) void put(int r, const Vec* sum) const {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors / 2; ++v) {
      store(out + r * width + v * 16, silu_mul(rounded<bf16>(sum[v]), rounded<bf16>(sum[kVectors / 2 + v])));
    }
  }
  static Vec silu_mul(Vec gate, Vec up) { return rounded<bf16>(gate * sigmoid(gate)) * up; }
};

// `steps` groups of the inner dimension. What it takes goes in registers: read from where it was just written in other pieces it would wait for
// all stores before it, those of the last strip's sums among them.
template <int R, typename Result>
__attribute__((noinline)) void strip(const Value* x, int64_t row_stride, int64_t step, int64_t steps, const Value* packed, const Result& result) {
  using L = Lane<Value>;
  Vec sum[R][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[r][v] = zeros();
  }
  for (int64_t p = 0; p < steps; ++p) {
    typename L::V column[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) column[v] = L::vector(packed + (p * kPanel + v * 16) * L::K);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const typename L::V row = L::broadcast(x + r * row_stride + p * step);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = L::dot(sum[r][v], row, column[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) result.put(r, sum[r]);
}

template <typename Result>
void multiply(Rows<Vectors> x, int64_t rows, int64_t inner, const Value* packed, int64_t panels, const Result& result) {
  const int64_t steps = inner / kTogether;
  for (int64_t p = 0; p < panels; ++p, packed += kPanel * inner) {
    for (int64_t r = 0; r < rows; r += kStrip) {
      const Value* from = x.data + r * x.row;
      const Result to = result.at(r, p);
      switch (min64(kStrip, rows - r)) {
        case 6: strip<6>(from, x.row, x.step, steps, packed, to); break;
        case 5: strip<5>(from, x.row, x.step, steps, packed, to); break;
        case 4: strip<4>(from, x.row, x.step, steps, packed, to); break;
        case 3: strip<3>(from, x.row, x.step, steps, packed, to); break;
        case 2: strip<2>(from, x.row, x.step, steps, packed, to); break;
        default: strip<1>(from, x.row, x.step, steps, packed, to);
      }
    }
  }
}

}  // namespace

template <typename V, typename T>
void pack_transposed(const T* matrix, int64_t inner, int64_t panel, Packed<V>* packed) {
  pack_inner(matrix + panel * kPanel * inner, inner, kPanel, kPanel, inner, packed);
}

template <typename V, typename T>
void pack_plain(const T* matrix, int64_t inner, int64_t columns, int64_t panel, Packed<V>* packed) {
  pack_rows(matrix + panel * kPanel, columns, inner, round_up(inner, kTogether), kPanel, packed);
}

template <typename V, typename T>
Rows<V> rows_of(const T* x, int64_t count, int64_t inner, Packed<V>* packed) {
  if constexpr (std::is_same_v<T, Packed<V>>) {
    return {x, inner, kTogether};
  } else {
    const int64_t values = count * inner;
    for (int64_t i = 0; i < values; i += 16) store(packed + i, load(x + i, first_lanes(values - i)), first_lanes(values - i));
    return {packed, inner, kTogether};
  }
}

template <typename V, typename T>
Rows<V> columns_as_rows(const T* matrix, int64_t inner, int64_t columns, int64_t first, int64_t count, Packed<V>* packed) {
  pack_rows(matrix + first, columns, inner, round_up(inner, kTogether), count, packed);
  return {packed, kTogether, kTogether * count};
}

template <typename V, typename T>
void multiply_packed(Rows<V> x, int64_t rows, int64_t inner, const Packed<V>* packed, const T* bias, T* out, int64_t columns) {
  multiply(x, rows, inner, packed, columns / kPanel, Plain<T>{bias, out, columns});
}

#define MONOPASS_INSTANTIATE(T)                                                                             \
  template void pack_transposed<Vectors, T>(const T*, int64_t, int64_t, Value*);                            \
  template void pack_plain<Vectors, T>(const T*, int64_t, int64_t, int64_t, Value*);                        \
  template Rows<Vectors> rows_of<Vectors, T>(const T*, int64_t, int64_t, Value*);                           \
  template Rows<Vectors> columns_as_rows<Vectors, T>(const T*, int64_t, int64_t, int64_t, int64_t, Value*); \
  template void multiply_packed<Vectors, T>(Rows<Vectors>, int64_t, int64_t, const Value*, const T*, T*, int64_t);
MONOPASS_INSTANTIATE(bf16)

#ifdef __AVX512BF16__
void pack_gated(const bf16* matrix, int64_t inner, int64_t width, int64_t panel, bf16* packed) {
  constexpr int64_t kHalf = kPanel / 2;
  const bf16* gate = matrix + panel * kHalf * inner;
  for (int64_t r = 0; r < kPanel; r += 16) {
    const bf16* from = gate + (r < kHalf ? r : r - kHalf + width) * inner;
    for (int64_t p = 0; p < inner / 2; p += 16) transpose16(from + 2 * p, inner * sizeof(bf16), 16, packed + (p * kPanel + r) * 2, kPanel);
  }
}

void multiply_gated(Rows<Avx512> x, int64_t rows, int64_t inner, const bf16* packed, bf16* out, int64_t width) {
  multiply(x, rows, inner, packed, 2 * width / kPanel, Gated{out, width});
}
#else
MONOPASS_INSTANTIATE(float)
#endif

}  // namespace monopass
