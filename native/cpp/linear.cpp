// Products with weights: which kernel takes them, and their gradients.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <torch/csrc/autograd/custom_function.h>

#include "cpu.h"
#include "matmul_kernels.h"
#include "shim.h"
#include "tensor_data.h"

namespace monopass {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Keeps what the gradients of x times the transpose of `weight` read, and no more: a frozen weight's inputs are not held.
void keep(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (!x.requires_grad() && !weight.requires_grad() && !bias.requires_grad()) return;
  ctx->save_for_backward({weight.requires_grad() ? x : at::Tensor(), x.requires_grad() ? weight : at::Tensor()});
  ctx->saved_data["sizes"] = x.sizes().vec();
  ctx->saved_data["outs"] = weight.size(0);
}

// A product of bf16 in float32, rounded once at the end. An empty bias is none.
class WideLinear : public Function<WideLinear> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
    keep(ctx, x, weight, bias);
    const auto shift = bias.numel() > 0 ? std::optional<at::Tensor>(bias.to(at::kFloat)) : std::nullopt;
    return at::linear(x.to(at::kFloat), weight.to(at::kFloat), shift).to(at::kBFloat16);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1];
    const auto sizes = ctx->saved_data["sizes"].toIntVector();
    const auto grad = grads[0].reshape({-1, ctx->saved_data["outs"].toInt()}).to(at::kFloat);
    at::Tensor dx, dweight, dbias;
    if (ctx->needs_input_grad(0)) dx = grad.mm(weight.to(at::kFloat)).to(at::kBFloat16).view(sizes);
    if (ctx->needs_input_grad(1)) dweight = grad.t().mm(x.reshape({-1, sizes.back()}).to(at::kFloat)).to(at::kBFloat16);
    if (ctx->needs_input_grad(2)) dbias = grad.sum(0).to(at::kBFloat16);
    return {dx, dweight, dbias};
  }
};

// Fewer rows do not pay for widening the weights, where libtorch has vectors for bf16.
constexpr int64_t kWideRows = 64;

bool wide_pays(const at::Tensor& x, const at::Tensor& weight, int64_t rows) {
  const auto fits = [](const at::Tensor& t) { return t.device().is_cpu() && t.scalar_type() == at::kBFloat16; };
  const bool slow = vectors_for(at::kBFloat16) != VectorSet::kAvx512;
  const auto products = products_of(at::kBFloat16);
  const bool wanted = slow ? products != Products::kLibtorch : products == Products::kFloat32 && rows >= kWideRows;
  return wanted && rows > 0 && fits(x) && fits(weight) && x.size(-1) == weight.size(1);
}

// Bytes of a block of rows, which stay in the second-level cache beside a panel. Threads take blocks as they come, so there are several for
// each.
constexpr int64_t kBlockBytes = 300'000, kBlockRows = 96;

// Rows of a block of `inner` values each: multiples of `step`, as many blocks for one thread as for another.
int64_t rows_of_block(int64_t rows, int64_t inner_bytes, int64_t step) {
  const int64_t threads = at::get_num_threads(), most = std::clamp<int64_t>(kBlockBytes / inner_bytes / step * step, step, kBlockRows);
  const int64_t blocks = (rows + threads * most - 1) / (threads * most) * threads, each = (rows + blocks - 1) / blocks;
  return (each + step - 1) / step * step;
}

// How a matrix is read: as it is, [inner, columns], or as the transpose of [columns, inner], its columns in order or paired for a gate.
enum class Layout { kPlain, kTransposed, kGated };

template <typename V, typename T>
at::Tensor pack(const at::Tensor& matrix, Layout layout) {
  constexpr int64_t kPanel = Packing<V>::kPanel, kTogether = Packing<V>::kTogether;
  const bool plain = layout == Layout::kPlain;
  const int64_t inner = matrix.size(plain ? 0 : 1), columns = matrix.size(plain ? 1 : 0), padded = (inner + kTogether - 1) / kTogether * kTogether;
  const auto kind = sizeof(Packed<V>) == sizeof(float) ? at::kFloat : at::kBFloat16;
  const auto packed = at::empty({columns * padded}, matrix.options().dtype(kind));
  const T* from = data<T>(matrix);
  auto* to = mutable_data<Packed<V>>(packed);
  at::parallel_for(0, columns / kPanel, 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
      auto* place = to + panel * kPanel * padded;
      switch (layout) {
        case Layout::kPlain: pack_plain<V>(from, inner, columns, panel, place); break;
        case Layout::kTransposed: pack_transposed<V>(from, inner, panel, place); break;
        case Layout::kGated:
          if constexpr (std::is_same_v<V, Avx512>) pack_gated(from, inner, columns / 2, panel, place);
      }
    }
  });
  return packed;
}

// x [..., inner] times `matrix`, as a tensor of its own (autograd refuses to write into views that a function returns); gated: silu of the
// first half of the product's columns times the second half. An empty bias is none.
template <typename V, typename T>
at::Tensor multiply(const at::Tensor& x, const at::Tensor& matrix, Layout layout, const at::Tensor& bias) {
  constexpr int64_t kBytes = sizeof(Packed<V>);
  const int64_t inner = x.size(-1), rows = x.numel() / inner, block = rows_of_block(rows, inner * kBytes, 6);
  const bool gated = layout == Layout::kGated;
  const int64_t columns = matrix.size(layout == Layout::kPlain ? 1 : 0) / (gated ? 2 : 1);
  auto sizes = x.sizes().vec();
  sizes.back() = columns;
  const auto packed = pack<V, T>(matrix, layout), out = at::empty(sizes, x.options());
  const auto* panels = data<Packed<V>>(packed);
  const T* shift = bias.numel() > 0 ? data<T>(bias) : nullptr;
  const int64_t widened = std::is_same_v<T, Packed<V>> ? 0 : block * inner * kBytes;
  run_tasks((rows + block - 1) / block, widened, [&](int64_t i, void* scratch) {
    const int64_t first = i * block, count = std::min(block, rows - first);
    const auto from = rows_of<V>(data<T>(x) + first * inner, count, inner, static_cast<Packed<V>*>(scratch));
    T* to = mutable_data<T>(out) + first * columns;
    if constexpr (std::is_same_v<V, Avx512>) {
      if (gated) return multiply_gated(from, count, inner, panels, to, columns);
    }
    multiply_packed<V>(from, count, inner, panels, shift, to, columns);
  });
  return out;
}

// The transpose of x [inner, rows] times `matrix` [inner, columns].
template <typename V, typename T>
at::Tensor multiply_columns(const at::Tensor& x, const at::Tensor& matrix) {
  constexpr int64_t kTogether = Packing<V>::kTogether, kBytes = sizeof(Packed<V>);
  const int64_t inner = x.size(0), rows = x.size(1), columns = matrix.size(1), padded = (inner + kTogether - 1) / kTogether * kTogether;
  const int64_t block = rows_of_block(rows, padded * kBytes, 48);
  const auto packed = pack<V, T>(matrix, Layout::kPlain), out = at::empty({rows, columns}, x.options());
  const auto* panels = data<Packed<V>>(packed);
  run_tasks((rows + block - 1) / block, block * padded * kBytes, [&](int64_t i, void* scratch) {
    const int64_t first = i * block, count = std::min(block, rows - first);
    const auto from = columns_as_rows<V>(data<T>(x), inner, rows, first, count, static_cast<Packed<V>*>(scratch));
    multiply_packed<V, T>(from, count, padded, panels, nullptr, mutable_data<T>(out) + first * columns, columns);
  });
  return out;
}

// Calls `body` with what `by_kind` gives where there is a packed product for it.
template <typename F>
void by_packing(at::ScalarType kind, F&& body) {
  by_kind(kind, [&](auto* tag, auto* vectors) {
    constexpr bool packs = std::is_same_v<MONOPASS_TYPE(vectors), Avx2> || std::is_same_v<MONOPASS_TYPE(tag), bf16>;
    if constexpr (packs) body(tag, vectors);
  });
}

at::Tensor packed_product(const at::Tensor& x, const at::Tensor& matrix, Layout layout, const at::Tensor& bias) {
  at::Tensor out;
  by_packing(x.scalar_type(), [&](auto* tag, auto* vectors) {
    out = multiply<MONOPASS_TYPE(vectors), MONOPASS_TYPE(tag)>(x, matrix, layout, bias);
  });
  return out;
}

// A product of packed weights, and its gradients likewise. An empty bias is none.
class PackedLinear : public Function<PackedLinear> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
    keep(ctx, x, weight, bias);
    return packed_product(x, weight, Layout::kTransposed, bias);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1];
    const auto sizes = ctx->saved_data["sizes"].toIntVector();
    const auto grad = grads[0].reshape({-1, ctx->saved_data["outs"].toInt()}).contiguous();
    at::Tensor dx, dweight, dbias;
    if (ctx->needs_input_grad(0)) dx = packed_product(grad, weight, Layout::kPlain, at::empty({0}, grad.options())).view(sizes);
    if (ctx->needs_input_grad(1)) {
      const auto inputs = x.reshape({-1, sizes.back()});
      by_packing(grad.scalar_type(), [&](auto* tag, auto* vectors) {
        dweight = multiply_columns<MONOPASS_TYPE(vectors), MONOPASS_TYPE(tag)>(grad, inputs);
      });
    }
    if (ctx->needs_input_grad(2)) dbias = grad.sum(0);
    return {dx, dweight, dbias};
  }
};

// Fewer rows do not pay for packing the weights, where libtorch has vectors for their kind.
constexpr int64_t kPackedRows = 128;

bool packing_pays(const at::Tensor& x, const at::Tensor& weight, const at::Tensor* bias, int64_t rows) {
  const auto kind = x.scalar_type();
  if (!x.device().is_cpu() || products_of(kind) != Products::kPacked) return false;
  const auto fits = [&](const at::Tensor& t) { return t.device().is_cpu() && t.scalar_type() == kind && t.is_contiguous(); };
  const bool wide = vectors_for(kind) == VectorSet::kAvx512, slow = !wide && kind == at::kBFloat16;
  const int64_t panel = wide ? Packing<Avx512>::kPanel : Packing<Avx2>::kPanel;
  return rows >= (slow ? 1 : kPackedRows) && fits(x) && fits(weight) && (!bias || fits(*bias)) && x.size(-1) == weight.size(1) &&
      weight.size(0) % panel == 0 && weight.size(1) % panel == 0;
}

// Whether `gated_linear` takes the product: nothing wants its gradient, and halves are whole panels.
bool gating_pays(const at::Tensor& x, const at::Tensor& weight) {
  const bool graph = at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad());
  const int64_t inner = weight.size(1), rows = inner > 0 ? x.numel() / inner : 0;
  return !graph && vectors_for(x.scalar_type()) == VectorSet::kAvx512 && packing_pays(x, weight, nullptr, rows);
}

at::Tensor gated_linear(const at::Tensor& x, const at::Tensor& weight) {
  return packed_product(x, weight, Layout::kGated, at::empty({0}, x.options()));
}

constexpr int64_t kLinearRows = 16;

// The rows kernel where it applies (no gradient wanted, few rows), for many rows what `products_of` says, else libtorch's product.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor* bias) {
  const int64_t in = weight.size(1), outs = weight.size(0), rows = in > 0 ? x.numel() / in : 0;
  const bool graph = at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad() || (bias && bias->requires_grad()));
  const bool fits = !graph && rows > 0 && rows <= kLinearRows && x.device().is_cpu() && kernels_run(x.scalar_type()) &&
      weight.device().is_cpu() && weight.scalar_type() == x.scalar_type() && weight.is_contiguous() && x.size(-1) == in &&
      (!bias || (bias->scalar_type() == x.scalar_type() && bias->is_contiguous()));
  if (!fits && packing_pays(x, weight, bias, rows)) {
    const auto shift = bias ? *bias : at::empty({0}, weight.options());
    return graph ? PackedLinear::apply(x, weight, shift) : packed_product(x, weight, Layout::kTransposed, shift);
  }
  // What has no whole panels is widened there too.
  if (!fits && wide_pays(x, weight, rows)) return WideLinear::apply(x, weight, bias ? *bias : at::empty({0}, weight.options()));
  if (!fits) return at::linear(x, weight, bias ? std::optional<at::Tensor>(*bias) : std::nullopt);
  const auto dense = x.contiguous();
  auto sizes = x.sizes().vec();
  sizes.back() = outs;
  auto out = at::empty(sizes, x.options());
  by_kind(x.scalar_type(), [&](auto* tag, auto* vectors) {
    using T = MONOPASS_TYPE(tag);
    using V = MONOPASS_TYPE(vectors);
    const T* shift = bias ? data<T>(*bias) : nullptr;
    // Multiples of four outputs a thread, as the kernels take them.
    at::parallel_for(0, (outs + 3) / 4, std::max<int64_t>(1, 16384 / in), [&](int64_t begin, int64_t end) {
      Scratch scratch(linear_rows_scratch<V, T>(rows, in) * static_cast<int64_t>(sizeof(float)));
      linear_rows<V>(
          data<T>(dense), data<T>(weight), shift, mutable_data<T>(out), rows, in, outs, begin * 4, std::min(outs, end * 4),
          static_cast<float*>(scratch.memory));
    });
  });
  return out;
}

}  // namespace
}  // namespace monopass

extern "C" {

char* monopass_gating_pays(const at::Tensor* x, const at::Tensor* weight, int* pays) {
  return monopass::guarded([&] { *pays = monopass::gating_pays(*x, *weight); });
}

char* monopass_gated_linear(at::Tensor** out, const at::Tensor* x, const at::Tensor* weight) {
  return monopass::guarded([&] { *out = new at::Tensor(monopass::gated_linear(*x, *weight)); });
}

char* monopass_linear(at::Tensor** out, const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias) {
  return monopass::guarded([&] { *out = new at::Tensor(monopass::linear(*x, *weight, bias)); });
}

}  // extern "C"
