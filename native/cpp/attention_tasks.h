// The tasks of range attention (attention_kernels.h), flash style: scores of a block of keys live in the first-level cache, a
// running maximum and sum make the softmax exact, and the backward recomputes the scores. `Products<M>` multiplies; a file that
// includes this defines it for its own M if simd.h has not, and instantiates the tasks for it.
#pragma once

#include "simd.h"

namespace monopass {
namespace {

constexpr float kLog2E = 1.4426950408889634f;

const float kMinusInfinity = -__builtin_inff();
const float kInfinity = __builtin_inff();

template <typename T>
T* take(char*& scratch, int64_t count) {
  T* p = reinterpret_cast<T*>(scratch);
  scratch += round_up(count * static_cast<int64_t>(sizeof(T)), 64);
  return p;
}

// What query position `position` of sequence `batch` sees among keys [key, key + 16).
inline Mask visible(const AttentionShape& s, int64_t batch, int64_t position, int64_t key) {
  const int64_t at = batch * s.range_stride + position;
  const int64_t begin = max64(s.start[at] - key, 0), end = s.end[at] - key;
  Mask mask = end > begin ? first_lanes(end) & ~first_lanes(begin) : 0;
  if (s.own) {
    const int64_t lane = s.own[at] - key;
    if (lane >= 0 && lane < 16) mask |= static_cast<Mask>(1u << lane);
  }
  if (s.extra) {
    const int64_t word = key / 32 - s.extra_first;
    if (word >= 0 && word < s.extra_words) {
      mask |= static_cast<Mask>(s.extra[batch * s.extra_stride + position * s.extra_words + word] >> (key % 32));
    }
  }
  return mask;
}

// Rows of a tile: query position outermost, then the head of the group.
template <typename T>
inline const T* query_row(const T* base, const int64_t* stride, int64_t batch, int64_t position, int64_t head) {
  return base + batch * stride[0] + position * stride[1] + head * stride[2];
}

// What a row has gathered: the largest score, and the sum of the softmax's numerators in the lanes in which they were made.
struct Row {
  float max;
  float sum[16];
};

// Softmax numerators of one row over `vectors` * 16 keys, and the rescaling of what the row has gathered so far.
template <typename T, bool kMasked>
inline void softmax_row(const float* s, T* p, int64_t vectors, const Mask* masks, float to_log2, Row& row, float* out, int64_t dim) {
  Vec top = all(kMinusInfinity);
  for (int64_t j = 0; j < vectors; ++j) {
    const Vec x = load(s + 16 * j);
    top = kMasked ? larger_in(masks[j], top, x) : larger(top, x);
  }
  const float seen = largest_of(top) * to_log2;
  if (seen > row.max) {
    if (row.max > kMinusInfinity) {
      const Vec shrink = exp2_ps(all(row.max - seen));
      store(row.sum, load(row.sum) * shrink);
      for (int64_t j = 0; j < dim; j += 16) store(out + j, load(out + j) * shrink);
    }
    row.max = seen;
  }
  const Vec minus = all(row.max > kMinusInfinity ? -row.max : 0.f), factor = all(to_log2);
  Vec sum = load(row.sum);
  for (int64_t j = 0; j < vectors; ++j) {
    Vec x = exp2_to(p, fmadd(load(s + 16 * j), factor, minus));
    if (kMasked) x = keep(masks[j], x);
    sum = sum + x;
    store(p + 16 * j, x);
  }
  store(row.sum, sum);
}

}  // namespace

template <typename V, typename T>
void attention_pack(const AttentionForward<T>& args, int64_t batch, int64_t kv_head, int64_t panel) {
  const AttentionShape& s = args.shape;
  const int64_t key = panel * kKeyPanel, rows = min64(s.k_len - key, kKeyPanel);
  const int64_t to = (batch * s.kv_heads + kv_head) * s.packed() + key * s.head_dim;
  pack_inner(query_row(args.k, s.k_stride, batch, key, kv_head), s.k_stride[1], rows, kKeyPanel, s.head_dim, args.packed_k + to);
  pack_rows(query_row(args.v, s.v_stride, batch, key, kv_head), s.v_stride[1], rows, kKeyPanel, s.head_dim, args.packed_v + to);
}

template <typename M, typename T>
int64_t attention_forward_scratch(const AttentionForward<T>& args) {
  using P = Products<M>;
  const int64_t rows = round_up(args.tile * args.shape.group(), P::kStrip), dim = args.shape.head_dim;
  return rows * dim * (sizeof(T) + sizeof(float)) + rows * sizeof(Row) + P::kStrip * P::kKeyBlock * (sizeof(T) + sizeof(float)) + 6 * 64;
}

template <typename M, typename T>
void attention_forward(const AttentionForward<T>& args, int64_t batch, int64_t kv_head, int64_t tile, int64_t chunk, void* memory) {
  using P = Products<M>;
  constexpr int64_t K = Lane<T>::K, kStrip = P::kStrip, kKeyBlock = P::kKeyBlock;
  const typename P::Session session;
  const AttentionShape& s = args.shape;
  const int64_t dim = s.head_dim, group = s.group();
  const int64_t first = tile * args.tile, positions = min64(args.tile, s.q_len - first), rows = positions * group;
  const int64_t padded = round_up(rows, kStrip);
  const T* packed_k = args.packed_k + (batch * s.kv_heads + kv_head) * s.packed();
  const T* packed_v = args.packed_v + (batch * s.kv_heads + kv_head) * s.packed();
  const float to_log2 = s.scale * kLog2E;

  char* scratch = static_cast<char*>(memory);
  T* q = take<T>(scratch, padded * dim);
  float* out = take<float>(scratch, padded * dim);
  Row* state = take<Row>(scratch, rows);
  float* scores = take<float>(scratch, kStrip * kKeyBlock);
  T* weights = take<T>(scratch, kStrip * kKeyBlock);

  const int32_t *lo = s.lo + batch * s.range_stride + first, *hi = s.hi + batch * s.range_stride + first;
  int64_t key_begin = s.k_len, key_end = 0;
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t h = 0; h < group; ++h) {
      std::memcpy(q + (p * group + h) * dim, query_row(args.q, s.q_stride, batch, first + p, kv_head * group + h), dim * sizeof(T));
    }
    if (hi[p] > lo[p]) {
      key_begin = min64(key_begin, lo[p]);
      key_end = max64(key_end, hi[p]);
    }
  }
  key_begin = max64(key_begin, chunk * args.chunk_keys);
  key_end = min64(key_end, (chunk + 1) * args.chunk_keys);
  std::memset(q + rows * dim, 0, (padded - rows) * dim * sizeof(T));
  std::memset(out, 0, padded * dim * sizeof(float));
  std::memset(weights, 0, kStrip * kKeyBlock * sizeof(T));
  for (int64_t r = 0; r < rows; ++r) state[r] = Row{kMinusInfinity, {}};

  for (int64_t block = key_begin / kKeyPanel * kKeyPanel; block < key_end; block += kKeyBlock) {
    for (int64_t r0 = 0; r0 < rows; r0 += kStrip) {
      const int count = static_cast<int>(min64(kStrip, rows - r0));
      const int64_t p0 = r0 / group, p1 = (r0 + count - 1) / group;
      int64_t begin = block + kKeyBlock, end = block;
      bool full = true;
      for (int64_t p = p0; p <= p1; ++p) {
        begin = min64(begin, max64(lo[p], block));
        end = max64(end, min64(hi[p], block + kKeyBlock));
      }
      begin = max64(begin, key_begin);
      end = min64(end, key_end);
      if (begin >= end) continue;
      begin = begin / P::kColumns * P::kColumns;
      end = round_up(end, P::kColumns);
      for (int64_t p = p0; p <= p1; ++p) {
        const int64_t at = batch * s.range_stride + first + p;
        full = full && s.start[at] <= begin && s.end[at] >= end;
      }
      const int64_t vectors = (end - begin) / 16;
      for (int64_t key = begin; key < end;) {
        const int64_t panel = key / kKeyPanel * kKeyPanel, stop = min64(panel + kKeyPanel, end);
        P::product(
            count, (stop - key) / 16, q + r0 * dim, dim, packed_k + panel * dim + (key - panel) * K, kKeyPanel * K, dim / K, scores + (key - begin),
            kKeyBlock, false);
        key = stop;
      }
      for (int i = 0; i < count; ++i) {
        const int64_t r = r0 + i;
        const float* score = scores + i * kKeyBlock;
        T* weight = weights + i * kKeyBlock;
        if (full) {
          softmax_row<T, false>(score, weight, vectors, nullptr, to_log2, state[r], out + r * dim, dim);
        } else {
          Mask masks[kKeyBlock / 16];
          for (int64_t j = 0; j < vectors; ++j) masks[j] = visible(s, batch, first + r / group, begin + 16 * j);
          softmax_row<T, true>(score, weight, vectors, masks, to_log2, state[r], out + r * dim, dim);
        }
      }
      P::product(count, dim / 16, weights, kKeyBlock, packed_v + begin * dim, dim * K, (end - begin) / K, out + r0 * dim, dim, true);
    }
  }

  if (args.chunks > 1) {
    const int64_t part = (((batch * s.kv_heads + kv_head) * args.tiles + tile) * args.chunks + chunk) * args.tile * group;
    std::memcpy(args.part_out + part * dim, out, rows * dim * sizeof(float));
    for (int64_t r = 0; r < rows; ++r) {
      args.part_max[part + r] = state[r].max;
      args.part_sum[part + r] = sum_of(load(state[r].sum));
    }
    return;
  }
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t position = first + r / group, head = kv_head * group + r % group;
    const float sum = sum_of(load(state[r].sum));
    const Vec inverse = all(sum > 0.f ? 1.f / sum : 0.f);
    T* to = args.out + ((batch * s.q_len + position) * s.heads + head) * dim;
    for (int64_t j = 0; j < dim; j += 16) store(to + j, load(out + r * dim + j) * inverse);
    if (args.lse) {
      args.lse[(batch * s.heads + head) * s.q_len + position] = sum > 0.f ? state[r].max + __builtin_log2f(sum) : kInfinity;
    }
  }
}

template <typename V, typename T>
void attention_combine(const AttentionForward<T>& args, int64_t batch, int64_t kv_head, int64_t tile) {
  const AttentionShape& s = args.shape;
  const int64_t dim = s.head_dim, group = s.group(), tile_rows = args.tile * group;
  const int64_t first = tile * args.tile, rows = min64(args.tile, s.q_len - first) * group;
  const int64_t part = ((batch * s.kv_heads + kv_head) * args.tiles + tile) * args.chunks * tile_rows;
  for (int64_t r = 0; r < rows; ++r) {
    float top = kMinusInfinity, sum = 0.f;
    for (int64_t c = 0; c < args.chunks; ++c) {
      const float m = args.part_max[part + c * tile_rows + r];
      top = m > top ? m : top;
    }
    const int64_t position = first + r / group, head = kv_head * group + r % group;
    T* to = args.out + ((batch * s.q_len + position) * s.heads + head) * dim;
    float* gathered = args.part_out + (part + r) * dim;
    for (int64_t c = 0; c < args.chunks; ++c) {
      const int64_t at = part + c * tile_rows + r;
      const Vec factor = args.part_sum[at] > 0.f ? exp2_ps(all(args.part_max[at] - top)) : zeros();
      sum += args.part_sum[at] * first_of(factor);
      for (int64_t j = 0; j < dim; j += 16) {
        const Vec x = load(args.part_out + at * dim + j) * factor;
        store(gathered + j, c == 0 ? x : load(gathered + j) + x);
      }
    }
    const Vec inverse = all(sum > 0.f ? 1.f / sum : 0.f);
    for (int64_t j = 0; j < dim; j += 16) store(to + j, load(gathered + j) * inverse);
    if (args.lse) args.lse[(batch * s.heads + head) * s.q_len + position] = sum > 0.f ? top + __builtin_log2f(sum) : kInfinity;
  }
}

namespace {

// dS^T and P^T of a strip of keys, both as rows of keys; dS^T also with neighbouring keys paired for the query gradient.
template <typename T>
struct StripOut {
  T *weights, *grads;
};

// Columns of a backward tile: query rows, padded; padded columns see nothing.
template <typename T>
struct Tile {
  int64_t rows, columns;
  T *q_inner, *q_rows, *g_inner, *g_rows;  // queries and output gradients, packed both ways
  float *lse, *delta;
  int32_t *start, *end, *own;
  uint32_t* extra;  // [extra_words, columns]
};

template <typename T>
void load_tile(const AttentionBackward<T>& args, int64_t batch, int64_t kv_head, int64_t tile, int64_t multiple, T* gather, Tile<T>& t) {
  const AttentionShape& s = args.shape;
  const int64_t dim = s.head_dim, group = s.group(), first = tile * args.tile;
  const int64_t positions = min64(args.tile, s.q_len - first);
  t.rows = positions * group;
  t.columns = round_up(t.rows, multiple);
  for (int64_t c = 0; c < t.columns; ++c) {
    const int64_t position = first + c / group, head = kv_head * group + c % group;
    const bool real = c < t.rows;
    t.lse[c] = real ? args.lse[(batch * s.heads + head) * s.q_len + position] : kInfinity;
    t.start[c] = real ? s.start[batch * s.range_stride + position] : 0;
    t.end[c] = real ? s.end[batch * s.range_stride + position] : 0;
    t.own[c] = real && s.own ? s.own[batch * s.range_stride + position] : -1;
    for (int64_t w = 0; w < s.extra_words; ++w) {
      t.extra[w * t.columns + c] = real ? s.extra[batch * s.extra_stride + position * s.extra_words + w] : 0;
    }
    Vec sum = zeros();
    if (real) {
      const int64_t at = ((batch * s.q_len + position) * s.heads + head) * dim;
      for (int64_t j = 0; j < dim; j += 16) sum = fmadd(load(args.out + at + j), load(args.grad_out + at + j), sum);
    }
    t.delta[c] = sum_of(sum);
  }
  for (int64_t r = 0; r < t.rows; ++r) {
    std::memcpy(gather + r * dim, query_row(args.q, s.q_stride, batch, first + r / group, kv_head * group + r % group), dim * sizeof(T));
  }
  pack_inner(gather, dim, t.rows, t.columns, dim, t.q_inner);
  pack_rows(gather, dim, t.rows, t.columns, dim, t.q_rows);
  for (int64_t r = 0; r < t.rows; ++r) {
    const int64_t at = ((batch * s.q_len + first + r / group) * s.heads + kv_head * group + r % group) * dim;
    std::memcpy(gather + r * dim, args.grad_out + at, dim * sizeof(T));
  }
  pack_inner(gather, dim, t.rows, t.columns, dim, t.g_inner);
  pack_rows(gather, dim, t.rows, t.columns, dim, t.g_rows);
}

// One strip of keys: from scores and products with the output gradient to weights and score gradients.
template <typename T>
inline void strip_gradients(
    const AttentionShape& s, const Tile<T>& t, int64_t key, int64_t row, const float* scores, const float* products, float to_log2, T* weights,
    T* grads, T* paired) {
  const Vec factor = all(to_log2);
  const Ints index = all_ints(static_cast<int32_t>(key));
  const int64_t word = key / 32 - s.extra_first;
  const bool extra = s.extra && word >= 0 && word < s.extra_words;
  for (int64_t c = 0; c < t.columns; c += 16) {
    Mask mask =
        at_most(load_ints(t.start + c), index) & below(index, load_ints(t.end + c));
    if (s.own) mask |= same(load_ints(t.own + c), index);
    if (extra) mask |= share_bits(load_ints(t.extra + word * t.columns + c), all_ints(1u << (key % 32)));
    const Vec p = keep(mask, exp2_to(weights, fmsub(load(scores + c), factor, load(t.lse + c))));
    const Vec g = keep(mask, p * (load(products + c) - load(t.delta + c)));
    store(weights + row * t.columns + c, p);
    store(grads + row * t.columns + c, g);
    store_paired(paired, row, t.columns, c, g);
  }
}

}  // namespace

template <typename M, typename T>
int64_t attention_backward_scratch(const AttentionBackward<T>& args, int64_t keys) {
  using P = Products<M>;
  const int64_t dim = args.shape.head_dim, columns = kBackwardColumns;
  const int64_t padded = round_up(keys, P::kColumns);
  return padded * dim * (3 * sizeof(T) + 2 * sizeof(float)) + columns * dim * (5 * sizeof(T) + sizeof(float)) +
      P::kStrip * columns * 2 * sizeof(float) + 3 * P::kBackwardKeys * columns * sizeof(T) + columns * (20 + 4 * args.shape.extra_words) + 25 * 64;
}

template <typename M, typename T>
void attention_backward(
    const AttentionBackward<T>& args, int64_t batch, int64_t kv_head, int64_t split, int64_t key_begin, int64_t key_end, void* memory) {
  using P = Products<M>;
  constexpr int64_t K = Lane<T>::K, kStrip = P::kStrip, kBackwardKeys = P::kBackwardKeys;
  const typename P::Session session;
  const AttentionShape& s = args.shape;
  const int64_t dim = s.head_dim, keys = key_end - key_begin, padded = round_up(keys, P::kColumns);
  const float to_log2 = s.scale * kLog2E;
  const T* k = query_row(args.k, s.k_stride, batch, key_begin, kv_head);
  const T* v = query_row(args.v, s.v_stride, batch, key_begin, kv_head);

  char* scratch = static_cast<char*>(memory);
  T* k_columns = take<T>(scratch, padded * dim);  // [dim, padded]
  T* k_rows = take<T>(scratch, padded * dim);     // [padded, dim], as v_rows
  T* v_rows = take<T>(scratch, padded * dim);
  float* dk = take<float>(scratch, padded * dim);
  float* dv = take<float>(scratch, padded * dim);
  Tile<T> t;
  t.q_inner = take<T>(scratch, kBackwardColumns * dim);
  t.q_rows = take<T>(scratch, kBackwardColumns * dim);
  t.g_inner = take<T>(scratch, kBackwardColumns * dim);
  t.g_rows = take<T>(scratch, kBackwardColumns * dim);
  t.lse = take<float>(scratch, kBackwardColumns);
  t.delta = take<float>(scratch, kBackwardColumns);
  t.start = take<int32_t>(scratch, kBackwardColumns);
  t.end = take<int32_t>(scratch, kBackwardColumns);
  t.own = take<int32_t>(scratch, kBackwardColumns);
  t.extra = take<uint32_t>(scratch, kBackwardColumns * s.extra_words);
  T* gather = take<T>(scratch, kBackwardColumns * dim);
  float* scores = take<float>(scratch, kStrip * kBackwardColumns);
  float* products = take<float>(scratch, kStrip * kBackwardColumns);
  T* weights = take<T>(scratch, kBackwardKeys * kBackwardColumns);
  T* grads = take<T>(scratch, kBackwardKeys * kBackwardColumns);
  T* paired = take<T>(scratch, kBackwardKeys * kBackwardColumns);

  for (int64_t j = 0; j < keys; ++j) {
    std::memcpy(k_rows + j * dim, k + j * s.k_stride[1], dim * sizeof(T));
    std::memcpy(v_rows + j * dim, v + j * s.v_stride[1], dim * sizeof(T));
  }
  std::memset(k_rows + keys * dim, 0, (padded - keys) * dim * sizeof(T));
  std::memset(v_rows + keys * dim, 0, (padded - keys) * dim * sizeof(T));
  for (int64_t d = 0; d < dim; ++d) {
    for (int64_t j = 0; j < padded; ++j) k_columns[d * padded + j] = k_rows[j * dim + d];
  }
  std::memset(dk, 0, padded * dim * sizeof(float));
  std::memset(dv, 0, padded * dim * sizeof(float));

  for (int64_t tile = 0; tile < args.tiles; ++tile) {
    const int64_t first = tile * args.tile, positions = min64(args.tile, s.q_len - first);
    const int32_t *lo = s.lo + batch * s.range_stride + first, *hi = s.hi + batch * s.range_stride + first;
    int64_t begin = key_end, end = key_begin;
    for (int64_t p = 0; p < positions; ++p) {
      if (hi[p] > lo[p]) {
        begin = min64(begin, max64(lo[p], key_begin));
        end = max64(end, min64(hi[p], key_end));
      }
    }
    const int64_t slot = ((split * s.batch + batch) * s.kv_heads + kv_head) * args.tiles + tile;
    args.touched[slot] = begin < end;
    if (begin >= end) continue;
    begin = (begin - key_begin) / P::kColumns * P::kColumns;
    end = round_up(end - key_begin, P::kColumns);  // within `padded`; nothing is seen beyond the hull

    load_tile(args, batch, kv_head, tile, P::kColumns, gather, t);
    float* dq = args.part_dq + slot * dim * kBackwardColumns;
    std::memset(dq, 0, dim * kBackwardColumns * sizeof(float));
    const int64_t vectors = t.columns / 16, steps = t.columns / K;
    for (int64_t block = begin; block < end; block += kBackwardKeys) {
      const int64_t count = min64(kBackwardKeys, end - block);
      for (int64_t r = 0; r < count; r += kStrip) {
        const int strip = static_cast<int>(min64(kStrip, count - r));
        P::product(strip, vectors, k_rows + (block + r) * dim, dim, t.q_inner, t.columns * K, dim / K, scores, kBackwardColumns, false);
        P::product(strip, vectors, v_rows + (block + r) * dim, dim, t.g_inner, t.columns * K, dim / K, products, kBackwardColumns, false);
        for (int i = 0; i < strip; ++i) {
          strip_gradients(
              s, t, key_begin + block + r + i, r + i, scores + i * kBackwardColumns, products + i * kBackwardColumns, to_log2, weights, grads, paired);
        }
      }
      P::product(count, dim / 16, weights, t.columns, t.g_rows, dim * K, steps, dv + block * dim, dim, true);
      P::product(count, dim / 16, grads, t.columns, t.q_rows, dim * K, steps, dk + block * dim, dim, true);
      P::product(dim, vectors, k_columns + block, padded, paired, t.columns * K, count / K, dq, kBackwardColumns, true);
    }
  }

  const Vec scale = all(s.scale);
  for (int64_t j = 0; j < keys; ++j) {
    const int64_t at = ((batch * s.k_len + key_begin + j) * s.kv_heads + kv_head) * dim;
    for (int64_t d = 0; d < dim; d += 16) {
      store(args.dk + at + d, load(dk + j * dim + d) * scale);
      store(args.dv + at + d, load(dv + j * dim + d));
    }
  }
}

template <typename V, typename T>
void attention_reduce_dq(const AttentionBackward<T>& args, int64_t batch, int64_t kv_head, int64_t tile) {
  const AttentionShape& s = args.shape;
  const int64_t dim = s.head_dim, group = s.group(), first = tile * args.tile;
  const int64_t rows = min64(args.tile, s.q_len - first) * group;
  const int64_t per_split = s.batch * s.kv_heads * args.tiles;
  const int64_t slot = (batch * s.kv_heads + kv_head) * args.tiles + tile;
  float* sum = nullptr;  // the first part that was written gathers the others
  for (int64_t split = 0; split < args.splits; ++split) {
    if (!args.touched[split * per_split + slot]) continue;
    float* part = args.part_dq + (split * per_split + slot) * dim * kBackwardColumns;
    if (!sum) {
      sum = part;
      continue;
    }
    for (int64_t i = 0; i < dim * kBackwardColumns; i += 16) store(sum + i, load(sum + i) + load(part + i));
  }
  const Vec scale = all(s.scale);
  float block[16 * 16];
  for (int64_t c = 0; c < rows; c += 16) {
    for (int64_t d = 0; d < dim; d += 16) {
      if (sum) {
        transpose16(sum + d * kBackwardColumns + c, kBackwardColumns * sizeof(float), 16, block, 16);
      } else {
        std::memset(block, 0, sizeof(block));
      }
      for (int64_t i = 0; i < 16 && c + i < rows; ++i) {
        const int64_t position = first + (c + i) / group, head = kv_head * group + (c + i) % group;
        store(args.dq + ((batch * s.q_len + position) * s.heads + head) * dim + d, load(block + 16 * i) * scale);
      }
    }
  }
}

}  // namespace monopass
