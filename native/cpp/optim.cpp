// AdamW and the gradient norm, spread over threads. What a range computes does not depend on how many threads there are.
#include <ATen/core/Tensor.h>

#include <cmath>
#include <vector>

#include "cpu.h"
#include "elementwise_kernels.h"
#include "shim.h"
#include "tensor_data.h"

namespace monopass {
namespace {

constexpr int64_t kRange = 65536;

template <typename V, typename P, typename G, typename M>
void adamw(const at::Tensor& param, const at::Tensor* master, const at::Tensor& grad, const at::Tensor& mean, const at::Tensor& square, const AdamWFactors& f) {
  auto* p = mutable_data<P>(param);
  auto* precise = master ? mutable_data<float>(*master) : nullptr;
  const auto* g = data<G>(grad);
  auto *m = mutable_data<M>(mean), *s = mutable_data<M>(square);
  at::parallel_for(0, param.numel(), kRange, [&](int64_t begin, int64_t end) {
    adamw_range<V>(p + begin, precise ? precise + begin : nullptr, g + begin, m + begin, s + begin, end - begin, f);
  });
}

// The kinds may be mixed: vectors that run bf16 run all of them.
void update(const at::Tensor& param, const at::Tensor* master, const at::Tensor& grad, const at::Tensor& mean, const at::Tensor& square, const AdamWFactors& f) {
  by_vectors(at::kBFloat16, [&](auto* vectors) {
    by_element(param.scalar_type(), [&](auto* p) {
      by_element(grad.scalar_type(), [&](auto* g) {
        by_element(mean.scalar_type(), [&](auto* m) {
          adamw<MONOPASS_TYPE(vectors), MONOPASS_TYPE(p), MONOPASS_TYPE(g), MONOPASS_TYPE(m)>(param, master, grad, mean, square, f);
        });
      });
    });
  });
}

bool usable(const at::Tensor& t, int64_t count) {
  return t.device().is_cpu() && t.is_contiguous() && t.numel() == count && (t.scalar_type() == at::kFloat || t.scalar_type() == at::kBFloat16);
}

}  // namespace
}  // namespace monopass

extern "C" {

// `done` is 0 when the tensors are not ones the kernel can update; then nothing was changed.
char* monopass_adamw(
    const at::Tensor* param, const at::Tensor* master, const at::Tensor* grad, const at::Tensor* mean, const at::Tensor* square, int64_t step, double lr,
    double beta1, double beta2, double eps, double weight_decay, double grad_scale, int* done) {
  using namespace monopass;
  return guarded([&] {
    const int64_t count = param->numel();
    *done = kernels_run(at::kBFloat16) && usable(*param, count) && usable(*grad, count) && usable(*mean, count) && usable(*square, count) &&
        mean->scalar_type() == square->scalar_type() && (!master || (usable(*master, count) && master->scalar_type() == at::kFloat));
    if (!*done) return;
    AdamWFactors f;
    f.decay = static_cast<float>(1.0 - lr * weight_decay);
    f.beta1 = static_cast<float>(beta1);
    f.one_minus_beta1 = static_cast<float>(1.0 - beta1);
    f.beta2 = static_cast<float>(beta2);
    f.one_minus_beta2 = static_cast<float>(1.0 - beta2);
    f.step_size = static_cast<float>(lr / (1.0 - std::pow(beta1, static_cast<double>(step))));
    f.inverse_root_correction2 = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(beta2, static_cast<double>(step))));
    f.eps = static_cast<float>(eps);
    f.grad_scale = static_cast<float>(grad_scale);
    update(*param, master, *grad, *mean, *square, f);
    param->unsafeGetTensorImpl()->bump_version();
  });
}

// `done` is 0 when one of the tensors is not one the kernel can read.
char* monopass_sum_of_squares(const at::Tensor* const* tensors, int64_t count, double* sum, int* done) {
  using namespace monopass;
  return guarded([&] {
    *done = kernels_run(at::kBFloat16);
    struct Range {
      const at::Tensor* tensor;
      int64_t begin;
    };
    std::vector<Range> ranges;
    for (int64_t i = 0; i < count && *done; ++i) {
      *done = usable(*tensors[i], tensors[i]->numel());
      for (int64_t begin = 0; begin < tensors[i]->numel(); begin += kRange) ranges.push_back({tensors[i], begin});
    }
    if (!*done) return;
    std::vector<double> sums(ranges.size(), 0.0);
    at::parallel_for(0, static_cast<int64_t>(ranges.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto& range = ranges[i];
        const int64_t length = std::min(kRange, range.tensor->numel() - range.begin);
        by_kind(range.tensor->scalar_type(), [&](auto* tag, auto* vectors) {
          sums[i] = sum_of_squares_range<MONOPASS_TYPE(vectors)>(data<MONOPASS_TYPE(tag)>(*range.tensor) + range.begin, length);
        });
      }
    });
    *sum = 0.0;
    for (const double part : sums) *sum += part;
  });
}

}  // extern "C"
