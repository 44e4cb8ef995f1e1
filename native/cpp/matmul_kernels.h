// Products of many rows of bf16 with a matrix whose columns are a multiple of 64, on raw memory. Sums are float32, each over the whole inner
// dimension in order: a row's result does not depend on the other rows, nor on who computes it.
#pragma once

#include <cstdint>

#include "attention_kernels.h"

namespace monopass {

// Columns of a panel: a piece of the matrix as the product reads it, `kPanel * inner` values (`inner` rounded up to even).
constexpr int64_t kPanel = 64;

// Panel number `panel` of the transpose of `matrix` [columns, inner]; `inner` even.
void pack_transposed(const bf16* matrix, int64_t inner, int64_t panel, bf16* packed);
// As `pack_transposed`: half a panel of rows from `panel * kPanel / 2` on, and half a panel of those `width` rows behind.
void pack_gated(const bf16* matrix, int64_t inner, int64_t width, int64_t panel, bf16* packed);
// Panel number `panel` of `matrix` [inner, columns]; a row of zeros makes `inner` even.
void pack_plain(const bf16* matrix, int64_t inner, int64_t columns, int64_t panel, bf16* packed);

// Rows of the left side of a product. Element (r, i) and its neighbour (r, i + 1), `i` even, lie at `data + r * row + i / 2 * pair`.
struct Rows {
  const bf16* data;
  int64_t row, pair;
};

// Rows that are `count` (a multiple of 16) columns of `matrix` [inner, columns], from column `first` on, written to `packed`
// (`count * inner` values, `inner` rounded up to even).
Rows columns_as_rows(const bf16* matrix, int64_t inner, int64_t columns, int64_t first, int64_t count, bf16* packed);

// out [rows, columns] = x [rows, inner] times the matrix of `packed` (all its panels), plus `bias` [columns] unless null; `inner` even.
void multiply_packed(Rows x, int64_t rows, int64_t inner, const bf16* packed, const bf16* bias, bf16* out, int64_t columns);
// out [rows, width] = silu(gate) * up, with gate and up of x times the gated panels of `packed`; rounded where `silu_mul` of the product would be.
void multiply_gated(Rows x, int64_t rows, int64_t inner, const bf16* packed, bf16* out, int64_t width);

}  // namespace monopass
