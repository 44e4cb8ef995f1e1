// The element-wise operations as autograd functions: checks, memory, threads; the arithmetic is in elementwise_vectors.cpp.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <vector>

#include "cpu.h"
#include "elementwise_kernels.h"
#include "shim.h"
#include "tensor_data.h"

namespace monopass {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

class RmsNorm : public Function<RmsNorm> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, double eps) {
    const int64_t hidden = x.size(-1), rows = x.numel() / hidden;
    auto out = at::empty(x.sizes(), x.options());
    const bool train = x.requires_grad() || weight.requires_grad();
    at::Tensor inverse;
    if (train) inverse = at::empty({rows}, x.options().dtype(at::kFloat));
    by_kind(x.scalar_type(), [&](auto* tag, auto* vectors) {
      using T = MONOPASS_TYPE(tag);
      using V = MONOPASS_TYPE(vectors);
      float* keep = train ? mutable_data<float>(inverse) : nullptr;
      at::parallel_for(0, rows, grain(hidden), [&](int64_t begin, int64_t end) {
        rms_norm_forward<V>(data<T>(x), data<T>(weight), mutable_data<T>(out), keep, begin, end, hidden, static_cast<float>(eps));
      });
    });
    if (train) ctx->save_for_backward({x, weight, inverse});
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1];
    const auto grad = grads[0].contiguous();
    const int64_t hidden = x.size(-1), rows = x.numel() / hidden;
    const bool need_x = ctx->needs_input_grad(0), need_weight = ctx->needs_input_grad(1);
    at::Tensor dx, dweight;
    if (need_x) dx = at::empty(x.sizes(), x.options());
    // Shares of the weight's gradient are cut by rows, not by threads, and added in order: the sum does not depend on the threads.
    const int64_t parts = std::clamp<int64_t>(rows / 64, 1, 16), each = (rows + parts - 1) / parts;
    at::Tensor shares;
    if (need_weight) shares = at::zeros({parts, hidden}, x.options().dtype(at::kFloat));
    by_kind(x.scalar_type(), [&](auto* tag, auto* vectors) {
      using T = MONOPASS_TYPE(tag);
      using V = MONOPASS_TYPE(vectors);
      T* to = need_x ? mutable_data<T>(dx) : nullptr;
      float* share = need_weight ? mutable_data<float>(shares) : nullptr;
      at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; ++p) {
          rms_norm_backward<V>(
              data<T>(x), data<T>(weight), data<float>(saved[2]), data<T>(grad), to, share ? share + p * hidden : nullptr, p * each,
              std::min(rows, (p + 1) * each), hidden);
        }
      });
    });
    if (need_weight) dweight = shares.sum(0).to(weight.scalar_type());
    return {dx, dweight, at::Tensor()};
  }
};

class SiluMul : public Function<SiluMul> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& gate_up) {
    auto sizes = gate_up.sizes().vec();
    const int64_t width = sizes.back() / 2, rows = gate_up.numel() / (2 * width);
    sizes.back() = width;
    auto out = at::empty(sizes, gate_up.options());
    by_kind(gate_up.scalar_type(), [&](auto* tag, auto* vectors) {
      using T = MONOPASS_TYPE(tag);
      using V = MONOPASS_TYPE(vectors);
      at::parallel_for(0, rows, grain(4 * width), [&](int64_t begin, int64_t end) {
        silu_mul_forward<V>(data<T>(gate_up), mutable_data<T>(out), begin, end, width);
      });
    });
    if (gate_up.requires_grad()) ctx->save_for_backward({gate_up});
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto gate_up = ctx->get_saved_variables()[0];
    const auto grad = grads[0].contiguous();
    const int64_t width = gate_up.size(-1) / 2, rows = gate_up.numel() / (2 * width);
    auto result = at::empty(gate_up.sizes(), gate_up.options());
    by_kind(gate_up.scalar_type(), [&](auto* tag, auto* vectors) {
      using T = MONOPASS_TYPE(tag);
      using V = MONOPASS_TYPE(vectors);
      at::parallel_for(0, rows, grain(4 * width), [&](int64_t begin, int64_t end) {
        silu_mul_backward<V>(data<T>(gate_up), data<T>(grad), mutable_data<T>(result), begin, end, width);
      });
    });
    return {result};
  }
};

// Rotates `heads` heads of every position. Addresses: x + batch * x_step[0] + position * x_step[1] + head * x_step[2].
template <typename V, typename T>
void rotate(
    const T* x, const int64_t* x_step, T* out, const int64_t* out_step, int64_t batch, int64_t seq, int64_t heads, int64_t dim, const at::Tensor& cos,
    const at::Tensor& sin, float sign) {
  const float *c = data<float>(cos), *s = data<float>(sin);
  const int64_t angles = cos.size(0) == 1 ? 0 : seq * (dim / 2);
  at::parallel_for(0, batch * seq, grain(2 * heads * dim), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / seq, p = i % seq, angle = b * angles + p * (dim / 2);
      rope_heads<V>(
          x + b * x_step[0] + p * x_step[1], x_step[2], out + b * out_step[0] + p * out_step[1], out_step[2], heads, dim, c + angle, s + angle, sign);
    }
  });
}

class Rope : public Function<Rope> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
    if (x.requires_grad()) ctx->save_for_backward({cos, sin});
    return turn(x, cos, sin, 1.f);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto& grad = grads[0];
    return {turn(grad.stride(3) == 1 ? grad : grad.contiguous(), saved[0], saved[1], -1.f), at::Tensor(), at::Tensor()};
  }

 private:
  static at::Tensor turn(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, float sign) {
    auto out = at::empty(x.sizes(), x.options());
    by_kind(x.scalar_type(), [&](auto* tag, auto* vectors) {
      using T = MONOPASS_TYPE(tag);
      using V = MONOPASS_TYPE(vectors);
      rotate<V, T>(data<T>(x), x.strides().data(), mutable_data<T>(out), out.strides().data(), x.size(0), x.size(1), x.size(2), x.size(3), cos, sin, sign);
    });
    return out;
  }
};

// Copies `heads` heads of every position.
void copy_heads(const at::Tensor& from, at::Tensor to) { to.copy_(from); }

class RopeQkv : public Function<RopeQkv> {
 public:
  static variable_list forward(
      AutogradContext* ctx, const at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin, int64_t heads, int64_t kv_heads) {
    const int64_t batch = qkv.size(0), seq = qkv.size(1), dim = qkv.size(2) / (heads + 2 * kv_heads);
    if (qkv.requires_grad()) {
      ctx->save_for_backward({cos, sin});
      ctx->saved_data["heads"] = heads;
      ctx->saved_data["kv_heads"] = kv_heads;
    }
    auto q = at::empty({batch, seq, heads, dim}, qkv.options());
    auto k = at::empty({batch, seq, kv_heads, dim}, qkv.options()), v = at::empty({batch, seq, kv_heads, dim}, qkv.options());
    by_kind(qkv.scalar_type(), [&](auto* tag, auto* vectors) {
      using T = MONOPASS_TYPE(tag);
      using V = MONOPASS_TYPE(vectors);
      const T* from = data<T>(qkv);
      const int64_t step[3] = {qkv.stride(0), qkv.stride(1), dim};
      rotate<V, T>(from, step, mutable_data<T>(q), q.strides().data(), batch, seq, heads, dim, cos, sin, 1.f);
      rotate<V, T>(from + heads * dim, step, mutable_data<T>(k), k.strides().data(), batch, seq, kv_heads, dim, cos, sin, 1.f);
    });
    copy_heads(values(qkv, heads, kv_heads, dim), v);
    return {q, k, v};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const int64_t heads = ctx->saved_data["heads"].toInt(), kv_heads = ctx->saved_data["kv_heads"].toInt();
    const auto& some = grads[0].defined() ? grads[0] : grads[1].defined() ? grads[1] : grads[2];
    const int64_t batch = some.size(0), seq = some.size(1), dim = some.size(3);
    auto result = at::empty({batch, seq, (heads + 2 * kv_heads) * dim}, some.options());
    for (int i = 0; i < 3; ++i) {
      const int64_t first = i == 0 ? 0 : heads + (i - 1) * kv_heads, count = i == 0 ? heads : kv_heads;
      if (!grads[i].defined()) {
        result.narrow(2, first * dim, count * dim).zero_();
      } else if (i == 2) {
        copy_heads(grads[2], values(result, heads, kv_heads, dim));
      } else {
        const auto grad = grads[i].stride(3) == 1 ? grads[i] : grads[i].contiguous();
        by_kind(grad.scalar_type(), [&](auto* tag, auto* vectors) {
          using T = MONOPASS_TYPE(tag);
          using V = MONOPASS_TYPE(vectors);
          const int64_t step[3] = {result.stride(0), result.stride(1), dim};
          rotate<V, T>(data<T>(grad), grad.strides().data(), mutable_data<T>(result) + first * dim, step, batch, seq, count, dim, saved[0], saved[1], -1.f);
        });
      }
    }
    return {result, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }

 private:
  static at::Tensor values(const at::Tensor& qkv, int64_t heads, int64_t kv_heads, int64_t dim) {
    return qkv.narrow(2, (heads + kv_heads) * dim, kv_heads * dim).unflatten(2, {kv_heads, dim});
  }
};

constexpr int64_t kIgnored = -100;

class CrossEntropySum : public Function<CrossEntropySum> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& logits, const at::Tensor& labels) {
    const int64_t rows = logits.size(0), vocab = logits.size(1);
    const int64_t* label = labels.const_data_ptr<int64_t>();
    auto lse = at::empty({rows}, logits.options().dtype(at::kFloat));
    std::vector<double> losses(rows, 0.0);
    by_kind(logits.scalar_type(), [&](auto* tag, auto* vectors) {
      using T = MONOPASS_TYPE(tag);
      using V = MONOPASS_TYPE(vectors);
      const T* from = data<T>(logits);
      float* to = mutable_data<float>(lse);
      at::parallel_for(0, rows, grain(4 * vocab), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          if (label[r] == kIgnored) continue;
          to[r] = log_sum_exp<V>(from + r * vocab, vocab);
          losses[r] = static_cast<double>(to[r]) - value(from[r * vocab + label[r]]);
        }
      });
    });
    double total = 0.0;
    for (const double loss : losses) total += loss;
    if (logits.requires_grad()) ctx->save_for_backward({logits, labels, lse});
    auto out = at::empty({}, logits.options().dtype(at::kFloat));
    *mutable_data<float>(out) = static_cast<float>(total);
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto& logits = saved[0];
    const int64_t rows = logits.size(0), vocab = logits.size(1);
    const int64_t* label = saved[1].const_data_ptr<int64_t>();
    const float scale = grads[0].item<float>();
    auto result = at::empty(logits.sizes(), logits.options());
    by_kind(logits.scalar_type(), [&](auto* tag, auto* vectors) {
      using T = MONOPASS_TYPE(tag);
      using V = MONOPASS_TYPE(vectors);
      const T* from = data<T>(logits);
      const float* lse = data<float>(saved[2]);
      T* to = mutable_data<T>(result);
      at::parallel_for(0, rows, grain(4 * vocab), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          if (label[r] == kIgnored) {
            std::memset(static_cast<void*>(to + r * vocab), 0, vocab * sizeof(T));
            continue;
          }
          scaled_softmax<V>(from + r * vocab, lse[r], scale, to + r * vocab, vocab);
          const float at = value(from[r * vocab + label[r]]);
          put(to + r * vocab + label[r], (std::exp(at - lse[r]) - 1.f) * scale);
        }
      });
    });
    return {result, at::Tensor()};
  }

 private:
  static float value(float x) { return x; }
  static float value(bf16 x) { return c10::detail::f32_from_bits(x.bits); }
  static void put(float* to, float x) { *to = x; }
  static void put(bf16* to, float x) { to->bits = c10::detail::round_to_nearest_even(x); }
};

}  // namespace
}  // namespace monopass

extern "C" {

char* monopass_rms_norm(at::Tensor** out, const at::Tensor* x, const at::Tensor* weight, double eps) {
  return monopass::guarded([&] { *out = new at::Tensor(monopass::RmsNorm::apply(x->contiguous(), weight->contiguous(), eps)); });
}

char* monopass_silu_mul(at::Tensor** out, const at::Tensor* gate_up) {
  return monopass::guarded([&] { *out = new at::Tensor(monopass::SiluMul::apply(gate_up->contiguous())); });
}

char* monopass_rope(at::Tensor** out, const at::Tensor* x, const at::Tensor* cos, const at::Tensor* sin) {
  return monopass::guarded([&] {
    const auto dense = x->stride(3) == 1 ? *x : x->contiguous();
    *out = new at::Tensor(monopass::Rope::apply(dense, cos->contiguous(), sin->contiguous()));
  });
}

char* monopass_rope_qkv(at::Tensor** out, const at::Tensor* qkv, const at::Tensor* cos, const at::Tensor* sin, int64_t heads, int64_t kv_heads) {
  return monopass::guarded([&] {
    const auto dense = qkv->stride(2) == 1 ? *qkv : qkv->contiguous();
    const auto parts = monopass::RopeQkv::apply(dense, cos->contiguous(), sin->contiguous(), heads, kv_heads);
    for (int i = 0; i < 3; ++i) out[i] = new at::Tensor(parts[i]);
  });
}

char* monopass_cross_entropy_sum(at::Tensor** out, const at::Tensor* logits, const at::Tensor* labels) {
  return monopass::guarded([&] { *out = new at::Tensor(monopass::CrossEntropySum::apply(logits->contiguous(), labels->contiguous())); });
}

}  // extern "C"
