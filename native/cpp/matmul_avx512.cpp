// Products of many rows of bf16 in vectors: what libtorch computes too, at the full speed of cores whose vectors multiply bf16 well.
#include "matmul_kernels.h"

#include "simd_avx512.h"

namespace monopass {

void pack_transposed(const bf16* matrix, int64_t inner, int64_t panel, bf16* packed) {
  pack_inner(matrix + panel * kPanel * inner, inner, kPanel, kPanel, inner, packed);
}

void pack_gated(const bf16* matrix, int64_t inner, int64_t width, int64_t panel, bf16* packed) {
  constexpr int64_t kHalf = kPanel / 2;
  const bf16* gate = matrix + panel * kHalf * inner;
  for (int64_t r = 0; r < kPanel; r += 16) {
    const bf16* from = gate + (r < kHalf ? r : r - kHalf + width) * inner;
    for (int64_t p = 0; p < inner / 2; p += 16) transpose16(from + 2 * p, inner * sizeof(bf16), 16, packed + (p * kPanel + r) * 2, kPanel);
  }
}

void pack_plain(const bf16* matrix, int64_t inner, int64_t columns, int64_t panel, bf16* packed) {
  pack_rows(matrix + panel * kPanel, columns, inner, round_up(inner, 2), kPanel, packed);
}

Rows columns_as_rows(const bf16* matrix, int64_t inner, int64_t columns, int64_t first, int64_t count, bf16* packed) {
  pack_rows(matrix + first, columns, inner, round_up(inner, 2), count, packed);
  return {packed, 2, 2 * count};
}

namespace {

constexpr int kVectors = kPanel / 16;

// Rows of x that stay in registers: six rows of four vectors are 24 sums, and every value read serves four or six of them.
constexpr int kStrip = 6;

// What becomes of the sums of a strip: a column block of the product with a bias added, or the gated half of it.
struct Plain {
  const bf16* bias;
  bf16* out;
  int64_t columns;

  Plain at(int64_t row, int64_t panel) const { return {bias ? bias + panel * kPanel : nullptr, out + row * columns + panel * kPanel, columns}; }
  __attribute__((always_inline)) void put(int r, const __m512* sum) const {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      store(out + r * columns + v * 16, bias ? _mm512_add_ps(sum[v], load(bias + v * 16)) : sum[v]);
    }
  }
};
struct Gated {
  bf16* out;
  int64_t width;

  Gated at(int64_t row, int64_t panel) const { return {out + row * width + panel * kPanel / 2, width}; }
  __attribute__((always_inline)) void put(int r, const __m512* sum) const {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors / 2; ++v) {
      store(out + r * width + v * 16, silu_mul(rounded<bf16>(sum[v]), rounded<bf16>(sum[kVectors / 2 + v])));
    }
  }
  static __m512 silu_mul(__m512 gate, __m512 up) { return _mm512_mul_ps(rounded<bf16>(_mm512_mul_ps(gate, sigmoid(gate))), up); }
};

template <int R, typename Result>
inline void strip(Rows x, int64_t inner, const bf16* packed, const Result& result) {
  using L = Lane<bf16>;
  __m512 sum[R][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_setzero_ps();
  }
  for (int64_t p = 0; p < inner / 2; ++p) {
    L::V column[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) column[v] = L::vector(packed + (p * kPanel + v * 16) * L::K);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const L::V row = L::broadcast(x.data + r * x.row + p * x.pair);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = L::dot(sum[r][v], row, column[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) result.put(r, sum[r]);
}

template <typename Result>
void multiply(Rows x, int64_t rows, int64_t inner, const bf16* packed, int64_t panels, const Result& result) {
  for (int64_t p = 0; p < panels; ++p, packed += kPanel * inner) {
    for (int64_t r = 0; r < rows; r += kStrip) {
      const Rows from{x.data + r * x.row, x.row, x.pair};
      const Result to = result.at(r, p);
      switch (min64(kStrip, rows - r)) {
        case 6: strip<6>(from, inner, packed, to); break;
        case 5: strip<5>(from, inner, packed, to); break;
        case 4: strip<4>(from, inner, packed, to); break;
        case 3: strip<3>(from, inner, packed, to); break;
        case 2: strip<2>(from, inner, packed, to); break;
        default: strip<1>(from, inner, packed, to);
      }
    }
  }
}

}  // namespace

void multiply_packed(Rows x, int64_t rows, int64_t inner, const bf16* packed, const bf16* bias, bf16* out, int64_t columns) {
  multiply(x, rows, inner, packed, columns / kPanel, Plain{bias, out, columns});
}

void multiply_gated(Rows x, int64_t rows, int64_t inner, const bf16* packed, bf16* out, int64_t width) {
  multiply(x, rows, inner, packed, 2 * width / kPanel, Gated{out, width});
}

}  // namespace monopass
