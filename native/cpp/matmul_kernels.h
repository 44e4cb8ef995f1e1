// Products with a matrix, on raw memory: of many rows with one that was packed for them, of few rows with one as it is. Sums are float32, each over the whole inner dimension in order:
// a row's result does not depend on the other rows, nor on who computes it.
#pragma once

#include <cstdint>

#include "attention_kernels.h"

namespace monopass {

// How the vectors V read what they multiply. `kTogether` neighbours of the inner dimension lie together, the last ones beside zeros. A panel
// is a piece of a matrix of `kPanel` columns, `kPanel * inner` values (`inner` rounded up to `kTogether`); matrices have whole panels.
template <typename V>
struct Packing;
// Six rows of four vectors are 24 sums in 32 registers, and every value read serves four or six of them. Pairs of bf16.
template <>
struct Packing<Avx512> {
  using Value = bf16;
  static constexpr int64_t kTogether = 2, kPanel = 64;
};
// Six rows of one vector (two registers) are 12 sums in 16 registers. bf16 is widened on the way.
template <>
struct Packing<Avx2> {
  using Value = float;
  static constexpr int64_t kTogether = 1, kPanel = 16;
};
template <typename V>
using Packed = typename Packing<V>::Value;

// T is the kind of the tensors: bf16, or float with AVX2.
// Panel number `panel` of the transpose of `matrix` [columns, inner]; `inner` a multiple of `kTogether`.
template <typename V, typename T>
void pack_transposed(const T* matrix, int64_t inner, int64_t panel, Packed<V>* packed);
// As `pack_transposed`: half a panel of rows from `panel * kPanel / 2` on, and half a panel of those `width` rows behind. AVX-512 alone.
void pack_gated(const bf16* matrix, int64_t inner, int64_t width, int64_t panel, bf16* packed);
// Panel number `panel` of `matrix` [inner, columns].
template <typename V, typename T>
void pack_plain(const T* matrix, int64_t inner, int64_t columns, int64_t panel, Packed<V>* packed);

// Rows of the left side of a product. Element (r, i), `i` a multiple of `kTogether`, lies at `data + r * row + i / kTogether * step`.
template <typename V>
struct Rows {
  const Packed<V>* data;
  int64_t row, step;
};

// `count` rows of x [count, inner] as they are where T is what vectors read, else widened to `packed` (`count * inner` values).
template <typename V, typename T>
Rows<V> rows_of(const T* x, int64_t count, int64_t inner, Packed<V>* packed);
// Rows that are `count` (a multiple of 16) columns of `matrix` [inner, columns], from column `first` on, written to `packed`
// (`count * inner` values, `inner` rounded up).
template <typename V, typename T>
Rows<V> columns_as_rows(const T* matrix, int64_t inner, int64_t columns, int64_t first, int64_t count, Packed<V>* packed);

// out [rows, columns] = x [rows, inner] times the matrix of `packed` (all its panels), plus `bias` [columns] unless null; `inner` a multiple of
// `kTogether`.
template <typename V, typename T>
void multiply_packed(Rows<V> x, int64_t rows, int64_t inner, const Packed<V>* packed, const T* bias, T* out, int64_t columns);
// out [rows, width] = silu(gate) * up, with gate and up of x times the gated panels of `packed`; rounded where `silu_mul` of the product would be.
void multiply_gated(Rows<Avx512> x, int64_t rows, int64_t inner, const bf16* packed, bf16* out, int64_t width);

// out[r, o] = sum_i x[r, i] * weight[o, i] (+ bias[o]) for o in [begin, end), rows at most 16. x and weight dense; `scratch` of so many floats.
template <typename V, typename T>
int64_t linear_rows_scratch(int64_t rows, int64_t in);
template <typename V, typename T>
void linear_rows(
    const T* x, const T* weight, const T* bias, T* out, int64_t rows, int64_t in, int64_t outs, int64_t begin, int64_t end, float* scratch);

}  // namespace monopass
