// Range attention on raw memory: what one task does. The driver (attention.cpp) cuts the work into tasks; the tasks are
// compiled for AVX-512 apart (attention_avx512.cpp), so this header must stay free of anything but plain data.
#pragma once

#include <cstdint>

namespace monopass {

struct bf16 {
  uint16_t bits;
};

// Who runs a task (`V`), or multiplies in it (`M`): AVX2's or AVX-512's vectors, or AMX's tiles of 16 x 16 (bf16, head_dim a multiple of
// kTileMultiple). AVX2 takes float32 only.
struct Avx2;
struct Avx512;
struct Tiles;
constexpr int64_t kTileMultiple = 32;

// Keys are packed in panels of this many.
constexpr int64_t kKeyPanel = 64;

// q [batch, q_len, heads, head_dim], k and v [batch, k_len, kv_heads, head_dim]; strides in elements of batch, position and
// head, the last dimension contiguous. Query heads of one key-value head are neighbours.
//
// Query position i sees key j when start[i] <= j < end[i], or when j = own[i] (null, or negative: no such key), or when bit j % 32 of
// word j / 32 - extra_first of its row in `extra` is set (null: no such keys). lo and hi bound what a position sees by any rule.
struct AttentionShape {
  int64_t batch, q_len, k_len, heads, kv_heads, head_dim;
  int64_t q_stride[3], k_stride[3], v_stride[3];
  const int32_t *start, *end, *own, *lo, *hi;
  int64_t range_stride;  // from one sequence of the batch to the next; 0 when shared
  const uint32_t* extra;
  int64_t extra_stride, extra_words, extra_first;
  float scale;

  int64_t group() const { return heads / kv_heads; }
  int64_t panels() const { return (k_len + kKeyPanel - 1) / kKeyPanel; }
  // Elements of the packed keys (or values) of one sequence and key-value head.
  int64_t packed() const { return panels() * kKeyPanel * head_dim; }
};

// Forward. A tile is `tile` neighbouring query positions times the heads of a group; `chunks` > 1 splits the keys, and then
// partial results go to `part_*` ([batch, kv_heads, tiles, chunks, tile * group (, head_dim)]) for `forward_combine`.
template <typename T>
struct AttentionForward {
  AttentionShape shape;
  const T *q, *k, *v;
  T *packed_k, *packed_v;
  T* out;      // [batch, q_len, heads, head_dim]
  float* lse;  // [batch, heads, q_len], base 2, or null
  int64_t tile, tiles, chunks, chunk_keys;
  float *part_out, *part_max, *part_sum;
};

template <typename V, typename T>
void attention_pack(const AttentionForward<T>& args, int64_t batch, int64_t kv_head, int64_t panel);
template <typename M, typename T>
int64_t attention_forward_scratch(const AttentionForward<T>& args);
template <typename M, typename T>
void attention_forward(const AttentionForward<T>& args, int64_t batch, int64_t kv_head, int64_t tile, int64_t chunk, void* scratch);
template <typename V, typename T>
void attention_combine(const AttentionForward<T>& args, int64_t batch, int64_t kv_head, int64_t tile);

// Backward. A task owns the keys [key_begin, key_end) of one sequence and key-value head and walks over all query tiles. Its
// share of the query gradients goes to `part_dq` (transposed, [splits, batch, kv_heads, tiles, head_dim, columns]).
constexpr int64_t kBackwardColumns = 128;

template <typename T>
struct AttentionBackward {
  AttentionShape shape;
  const T *q, *k, *v, *out, *grad_out;  // out and grad_out contiguous
  const float* lse;
  T *dq, *dk, *dv;  // contiguous, [batch, len, heads, head_dim]
  int64_t tile, tiles, splits;
  float* part_dq;
  uint8_t* touched;  // [splits, batch, kv_heads, tiles]: whether that part of part_dq was written
};

template <typename M, typename T>
int64_t attention_backward_scratch(const AttentionBackward<T>& args, int64_t keys);
template <typename M, typename T>
void attention_backward(
    const AttentionBackward<T>& args, int64_t batch, int64_t kv_head, int64_t split, int64_t key_begin, int64_t key_end, void* scratch);
template <typename V, typename T>
void attention_reduce_dq(const AttentionBackward<T>& args, int64_t batch, int64_t kv_head, int64_t tile);

}  // namespace monopass
