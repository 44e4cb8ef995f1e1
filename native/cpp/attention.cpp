// Range attention as an autograd function: cuts the work of attention_kernels.h into tasks.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "attention_kernels.h"
#include "cpu.h"
#include "shim.h"
#include "tensor_data.h"

namespace monopass {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kForwardRows = 96;
constexpr int64_t kDecodeChunk = 256;
constexpr int64_t kMinTasks = 12;

// The extra visible keys, as bits; starts, ends, own keys and bounds of every position.
struct Extra {
  std::vector<uint32_t> bits;
  std::vector<int32_t> bounds;
};

void take_strides(const at::Tensor& t, int64_t* to) {
  for (int i = 0; i < 3; ++i) to[i] = t.stride(i);
}

// Eight bools (bytes 0 or 1) as the low eight bits of a word, the first one lowest.
inline uint64_t eight_bits(const bool* values, int64_t count) {
  uint64_t bytes = 0;
  std::memcpy(&bytes, values, count);
  return bytes * 0x0102040810204080ull >> 56;
}

// Packs a row of bools, which stand for keys from `from` on, into bits by key, and widens the row's bounds.
void pack_row(const bool* visible, int64_t columns, int64_t from, int64_t first_word, uint32_t* bits, int32_t& lo, int32_t& hi) {
  for (int64_t c = 0; c < columns; c += 8) {
    const uint64_t seen = eight_bits(visible + c, std::min<int64_t>(8, columns - c));
    if (seen == 0) continue;
    const int64_t key = from + c, word = key / 32 - first_word;
    const uint64_t shifted = seen << (key % 32);
    bits[word] |= static_cast<uint32_t>(shifted);
    if (shifted >> 32) bits[word + 1] |= static_cast<uint32_t>(shifted >> 32);
    const int32_t low = key + __builtin_ctzll(seen), high = key + 64 - __builtin_clzll(seen);
    lo = hi <= lo ? low : std::min(lo, low);
    hi = std::max(hi, high);
  }
}

// What queries see, as the caller gives it: start and end int32 [batch or 1, q_len]; `own` the same or without dimensions; `extra` bool
// [batch or 1, q_len, extra keys], the visible ones among the last keys, or of fewer dimensions for none.
struct Seen {
  at::Tensor start, end, own, extra;
};

AttentionShape shape_of(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Seen& seen, double scale, Extra& store) {
  AttentionShape s{};
  s.batch = q.size(0);
  s.q_len = q.size(1);
  s.heads = q.size(2);
  s.head_dim = q.size(3);
  s.k_len = k.size(1);
  s.kv_heads = k.size(2);
  s.scale = static_cast<float>(scale);
  take_strides(q, s.q_stride);
  take_strides(k, s.k_stride);
  take_strides(v, s.v_stride);
  const auto *start = seen.start.const_data_ptr<int32_t>(), *end = seen.end.const_data_ptr<int32_t>();
  const int32_t* own = seen.own.dim() == 2 ? seen.own.const_data_ptr<int32_t>() : nullptr;
  const bool* visible = seen.extra.dim() == 3 && seen.extra.size(2) > 0 ? seen.extra.const_data_ptr<bool>() : nullptr;
  const int64_t columns = visible ? seen.extra.size(2) : 0, masks = visible ? seen.extra.size(0) : 1;
  // Ranges are clamped to the keys there are; bounds are the hull of everything a position sees.
  const int64_t sequences = std::max(seen.start.size(0), masks), rows = sequences * s.q_len, from = s.k_len - columns;
  s.extra_first = from / 32;
  s.extra_words = visible ? (s.k_len + 31) / 32 - s.extra_first : 0;
  s.extra_stride = masks == 1 ? 0 : s.q_len * s.extra_words;
  store.bounds.resize(5 * rows);
  store.bits.assign(masks * s.q_len * s.extra_words, 0);
  int32_t *start_of = store.bounds.data(), *end_of = start_of + rows, *own_of = end_of + rows, *lo = own_of + rows, *hi = lo + rows;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t at = seen.start.size(0) == 1 ? r % s.q_len : r, row = masks == 1 ? r % s.q_len : r;
    lo[r] = start_of[r] = std::clamp<int32_t>(start[at], 0, s.k_len);
    hi[r] = end_of[r] = std::clamp<int32_t>(end[at], start_of[r], s.k_len);
    own_of[r] = own && own[at] < s.k_len ? own[at] : -1;
    if (own_of[r] >= 0) {
      lo[r] = hi[r] <= lo[r] ? own_of[r] : std::min(lo[r], own_of[r]);
      hi[r] = std::max(hi[r], own_of[r] + 1);
    }
    // Of shared masks the bits are set anew for each sequence, to the same.
    if (visible) pack_row(visible + row * columns, columns, from, s.extra_first, store.bits.data() + row * s.extra_words, lo[r], hi[r]);
  }
  s.start = start_of;
  s.end = end_of;
  s.own = own ? own_of : nullptr;
  s.lo = lo;
  s.hi = hi;
  s.range_stride = sequences == 1 ? 0 : s.q_len;
  s.extra = visible ? store.bits.data() : nullptr;
  return s;
}

// Who runs what is not a product.
template <typename M>
using VectorsOf = std::conditional_t<std::is_same_v<M, Tiles>, Avx512, M>;

template <typename M, typename T>
void forward(const AttentionShape& shape, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, at::Tensor& out, at::Tensor& lse) {
  AttentionForward<T> a{};
  a.shape = shape;
  a.q = data<T>(q);
  a.k = data<T>(k);
  a.v = data<T>(v);
  const auto packed = at::empty({2, shape.batch * shape.kv_heads * shape.packed()}, q.options());
  a.packed_k = mutable_data<T>(packed);
  a.packed_v = a.packed_k + packed.size(1);
  a.out = mutable_data<T>(out);
  a.lse = lse.defined() ? mutable_data<float>(lse) : nullptr;
  a.tile = std::max<int64_t>(1, kForwardRows / shape.group());
  a.tiles = (shape.q_len + a.tile - 1) / a.tile;
  const int64_t pairs = shape.batch * shape.kv_heads;
  // Too few tiles to keep the threads busy (decoding): the keys are split as well.
  a.chunks = pairs * a.tiles < kMinTasks ? std::max<int64_t>(1, (shape.k_len + kDecodeChunk - 1) / kDecodeChunk) : 1;
  a.chunk_keys = a.chunks > 1 ? kDecodeChunk : shape.k_len;
  at::Tensor parts;
  if (a.chunks > 1) {
    const int64_t rows = pairs * a.tiles * a.chunks * a.tile * shape.group();
    parts = at::empty({rows * (shape.head_dim + 2)}, q.options().dtype(at::kFloat));
    a.part_out = mutable_data<float>(parts);
    a.part_max = a.part_out + rows * shape.head_dim;
    a.part_sum = a.part_max + rows;
  }
  run_tasks(pairs * shape.panels(), 0, [&](int64_t i, void*) {
    const int64_t pair = i / shape.panels();
    attention_pack<VectorsOf<M>>(a, pair / shape.kv_heads, pair % shape.kv_heads, i % shape.panels());
  });
  run_tasks(pairs * a.tiles * a.chunks, attention_forward_scratch<M, T>(a), [&](int64_t i, void* scratch) {
    // The last tiles see most: they go first, so that the threads end together.
    const int64_t chunk = i % a.chunks, pair = i / a.chunks % pairs, tile = a.tiles - 1 - i / a.chunks / pairs;
    attention_forward<M, T>(a, pair / shape.kv_heads, pair % shape.kv_heads, tile, chunk, scratch);
  });
  if (a.chunks > 1) {
    run_tasks(pairs * a.tiles, 0, [&](int64_t i, void*) {
      attention_combine<VectorsOf<M>>(a, i % pairs / shape.kv_heads, i % pairs % shape.kv_heads, i / pairs);
    });
  }
}

// Cuts the keys of one sequence into `splits` parts of about equal work: boundaries in keys, multiples of 64.
std::vector<int64_t> split_keys(const AttentionShape& s, int64_t batch, int64_t splits) {
  const int64_t panels = s.panels();
  std::vector<int64_t> seen(panels + 1, 0);
  for (int64_t p = 0; p < s.q_len; ++p) {
    const int64_t at = batch * s.range_stride + p;
    if (s.hi[at] <= s.lo[at]) continue;
    seen[s.lo[at] / kKeyPanel] += 1;
    seen[(s.hi[at] - 1) / kKeyPanel + 1] -= 1;
  }
  int64_t total = 0, open = 0;
  for (int64_t i = 0; i < panels; ++i) {
    open += seen[i];
    seen[i] = open;
    total += open;
  }
  std::vector<int64_t> bounds(splits + 1, s.k_len);
  bounds[0] = 0;
  int64_t split = 1, done = 0;
  for (int64_t i = 0; i < panels && split < splits; ++i) {
    done += seen[i];
    while (split < splits && done * splits >= total * split) bounds[split++] = std::min((i + 1) * kKeyPanel, s.k_len);
  }
  return bounds;
}

template <typename M, typename T>
variable_list backward(
    const AttentionShape& shape, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse,
    const at::Tensor& grad) {
  AttentionBackward<T> a{};
  a.shape = shape;
  a.q = data<T>(q);
  a.k = data<T>(k);
  a.v = data<T>(v);
  a.out = data<T>(out);
  a.grad_out = data<T>(grad);
  a.lse = data<float>(lse);
  auto dq = at::empty(q.sizes(), q.options()), dk = at::empty(k.sizes(), k.options()), dv = at::empty(v.sizes(), v.options());
  a.dq = mutable_data<T>(dq);
  a.dk = mutable_data<T>(dk);
  a.dv = mutable_data<T>(dv);
  a.tile = std::max<int64_t>(1, kBackwardColumns / shape.group());
  a.tiles = (shape.q_len + a.tile - 1) / a.tile;
  const int64_t pairs = shape.batch * shape.kv_heads, wanted = std::max<int64_t>(kMinTasks, 2 * at::get_num_threads());
  a.splits = std::clamp<int64_t>((wanted + pairs - 1) / pairs, 1, shape.panels());
  const auto part = at::empty({a.splits * pairs * a.tiles * shape.head_dim * kBackwardColumns}, q.options().dtype(at::kFloat));
  const auto touched = at::zeros({a.splits * pairs * a.tiles}, q.options().dtype(at::kByte));
  a.part_dq = mutable_data<float>(part);
  a.touched = mutable_data<uint8_t>(touched);
  std::vector<std::vector<int64_t>> bounds;
  int64_t longest = 0;
  for (int64_t b = 0; b < (shape.range_stride == 0 ? 1 : shape.batch); ++b) {
    bounds.push_back(split_keys(shape, b, a.splits));
    for (int64_t i = 0; i < a.splits; ++i) longest = std::max(longest, bounds[b][i + 1] - bounds[b][i]);
  }
  run_tasks(a.splits * pairs, attention_backward_scratch<M, T>(a, longest), [&](int64_t i, void* scratch) {
    const int64_t split = i / pairs, batch = i % pairs / shape.kv_heads, kv_head = i % pairs % shape.kv_heads;
    const auto& cuts = bounds[shape.range_stride == 0 ? 0 : batch];
    if (cuts[split] < cuts[split + 1]) attention_backward<M, T>(a, batch, kv_head, split, cuts[split], cuts[split + 1], scratch);
  });
  run_tasks(pairs * a.tiles, 0, [&](int64_t i, void*) {
    attention_reduce_dq<VectorsOf<M>>(a, i % pairs / shape.kv_heads, i % pairs % shape.kv_heads, i / pairs);
  });
  return {dq, dk, dv};
}

// Tiles need whole multiples, and rows enough to fill them.
bool in_tiles(const AttentionShape& s) {
  return tiles_run() && s.head_dim % kTileMultiple == 0 && s.q_len * s.group() >= kTileMultiple && s.group() <= kTileMultiple;
}

// Fewer rows for each key do not pay for widening it.
constexpr int64_t kWideRows = 32;

// What the products are computed in: AVX2 has them of float32 only.
at::ScalarType product_kind(const at::Tensor& q, const at::Tensor& k) {
  if (vectors_for(q.scalar_type()) == VectorSet::kAvx2) return at::kFloat;
  const int64_t rows_a_key = q.size(1) * (q.size(2) / k.size(2));
  return products_of(at::kBFloat16) == Products::kFloat32 && rows_a_key >= kWideRows ? at::kFloat : q.scalar_type();
}

class RangeAttention : public torch::autograd::Function<RangeAttention> {
 public:
  static at::Tensor forward(
      AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& start, const at::Tensor& end,
      const at::Tensor& own, const at::Tensor& extra, double scale) {
    Extra store;
    const auto kind = product_kind(q, k);
    const auto queries = q.to(kind), keys = k.to(kind), values = v.to(kind);
    const auto shape = shape_of(queries, keys, values, {start, end, own, extra}, scale, store);
    auto out = at::empty(q.sizes(), queries.options());
    const bool train = q.requires_grad() || k.requires_grad() || v.requires_grad();
    at::Tensor lse;
    if (train) lse = at::empty({shape.batch, shape.heads, shape.q_len}, q.options().dtype(at::kFloat));
    if (kind == at::kFloat) {
      by_vectors(kind, [&](auto* vectors) { monopass::forward<MONOPASS_TYPE(vectors), float>(shape, queries, keys, values, out, lse); });
      out = out.to(q.scalar_type());
    } else if (!in_tiles(shape)) {
      monopass::forward<Avx512, bf16>(shape, q, k, v, out, lse);
    } else {
#ifdef MONOPASS_AMX
      monopass::forward<Tiles, bf16>(shape, q, k, v, out, lse);
#endif
    }
    if (train) {
      ctx->save_for_backward({q, k, v, out, lse, start, end, own, extra});
      ctx->saved_data["scale"] = scale;
    }
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto own_kind = saved[0].scalar_type(), kind = product_kind(saved[0], saved[1]);
    const auto q = saved[0].to(kind), k = saved[1].to(kind), v = saved[2].to(kind);
    Extra store;
    const auto shape = shape_of(q, k, v, {saved[5], saved[6], saved[7], saved[8]}, ctx->saved_data["scale"].toDouble(), store);
    const auto grad = grads[0].to(kind).contiguous();
    variable_list result;
    if (kind == at::kFloat) {
      by_vectors(kind, [&](auto* vectors) {
        result = monopass::backward<MONOPASS_TYPE(vectors), float>(shape, q, k, v, saved[3].to(kind), saved[4], grad);
      });
      for (auto& gradient : result) gradient = gradient.to(own_kind);
    } else if (!in_tiles(shape)) {
      result = monopass::backward<Avx512, bf16>(shape, q, k, v, saved[3], saved[4], grad);
    } else {
#ifdef MONOPASS_AMX
      result = monopass::backward<Tiles, bf16>(shape, q, k, v, saved[3], saved[4], grad);
#endif
    }
    result.resize(8);
    return result;
  }
};

// A view the kernels can read: last dimension dense, pairs of elements aligned.
at::Tensor readable(const at::Tensor& t) {
  bool fits = t.stride(3) == 1;
  for (int i = 0; i < 3; ++i) fits = fits && (t.stride(i) % 2 == 0 || t.size(i) == 1);
  return fits ? t : t.contiguous();
}

}  // namespace
}  // namespace monopass

// Null on success. `own` and `extra` may be null.
extern "C" char* monopass_range_attention(
    at::Tensor** out, const at::Tensor* q, const at::Tensor* k, const at::Tensor* v, const at::Tensor* start, const at::Tensor* end,
    const at::Tensor* own, const at::Tensor* extra, double scale) {
  return monopass::guarded([&] {
    const auto none = at::empty({0}, start->options());
    *out = new at::Tensor(monopass::RangeAttention::apply(
        monopass::readable(*q), monopass::readable(*k), monopass::readable(*v), start->contiguous(), end->contiguous(),
        own ? own->contiguous() : none, extra ? extra->contiguous() : none.to(at::kBool), scale));
  });
}
