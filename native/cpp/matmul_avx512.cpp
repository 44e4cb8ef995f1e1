#include "matmul_kernels.h"

#include "simd_avx512.h"

namespace monopass {

void pack_transposed(const bf16* matrix, int64_t inner, int64_t panel, bf16* packed) {
  pack_inner(matrix + panel * kPanel * inner, inner, kPanel, kPanel, inner, packed);
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

template <int R>
inline void strip(Rows x, int64_t inner, const bf16* packed, const bf16* bias, bf16* out, int64_t columns) {
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
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const __m512 shift = bias ? load(bias + v * 16) : _mm512_setzero_ps();
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) store(out + r * columns + v * 16, _mm512_add_ps(sum[r][v], shift));
  }
}

}  // namespace

void multiply_packed(Rows x, int64_t rows, int64_t inner, const bf16* packed, const bf16* bias, bf16* out, int64_t columns) {
  for (int64_t c = 0; c < columns; c += kPanel) {
    const bf16 *panel = packed + c * inner, *shift = bias ? bias + c : nullptr;
    for (int64_t r = 0; r < rows; r += kStrip) {
      const Rows from{x.data + r * x.row, x.row, x.pair};
      bf16* to = out + r * columns + c;
      switch (min64(kStrip, rows - r)) {
        case 6: strip<6>(from, inner, panel, shift, to, columns); break;
        case 5: strip<5>(from, inner, panel, shift, to, columns); break;
        case 4: strip<4>(from, inner, panel, shift, to, columns); break;
        case 3: strip<3>(from, inner, panel, shift, to, columns); break;
        case 2: strip<2>(from, inner, panel, shift, to, columns); break;
        default: strip<1>(from, inner, panel, shift, to, columns);
      }
    }
  }
}

}  // namespace monopass
