// How often pooled self-attention counts each row. Only rows that are taken cost anything: of subsets of placed items, most are not.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "shim.h"

namespace monopass {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// What a weight is multiplied with: a hash of the seed and the weight's place (SplitMix64's last steps; Steele et al. 2014), so that backward
// need not keep it and threads share nothing.
class Dropout {
 public:
  Dropout(double probability, uint64_t seed)
      : seed_(seed), dropped_(static_cast<uint64_t>(probability * (1 << 24))), kept_(static_cast<float>(1.0 / (1.0 - probability))) {}

  float operator()(uint64_t place) const {
    uint64_t x = seed_ + (place + 1) * 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return ((x ^ (x >> 31)) >> 40) < dropped_ ? 0.f : kept_;
  }

 private:
  uint64_t seed_, dropped_;
  float kept_;
};

// Softmax of one row of scores over the rows in `among`; other places of `to` are left alone.
void softmax_among(const float* scores, const std::vector<int64_t>& among, float* to) {
  float top = -INFINITY, sum = 0.f;
  for (const int64_t j : among) top = std::max(top, scores[j]);
  for (const int64_t j : among) sum += to[j] = std::exp(scores[j] - top);
  for (const int64_t j : among) to[j] /= sum;
}

// Calls `body` with each batch's number and the numbers of its taken rows, on several threads.
template <typename F>
void each_batch(const at::Tensor& taken, F&& body) {
  const int64_t rows = taken.size(-1), batches = taken.numel() / rows;
  const bool* flags = taken.const_data_ptr<bool>();
  at::parallel_for(0, batches, std::max<int64_t>(1, 16384 / (rows * rows)), [&](int64_t begin, int64_t end) {
    std::vector<int64_t> among;
    for (int64_t b = begin; b < end; ++b) {
      among.clear();
      for (int64_t i = 0; i < rows; ++i) {
        if (flags[b * rows + i]) among.push_back(i);
      }
      body(b, among);
    }
  });
}

class AttentionCounts : public Function<AttentionCounts> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& scores, const at::Tensor& taken, double probability, int64_t seed) {
    const int64_t rows = taken.size(-1);
    const Dropout dropout(probability, static_cast<uint64_t>(seed));
    auto counts = at::zeros(taken.sizes(), scores.options());
    auto weights = at::empty(scores.sizes(), scores.options());
    const float* from = scores.const_data_ptr<float>();
    float *weight = weights.mutable_data_ptr<float>(), *count = counts.mutable_data_ptr<float>();
    each_batch(taken, [&](int64_t b, const std::vector<int64_t>& among) {
      float* total = count + b * rows;
      for (const int64_t j : among) total[j] = 1.f;
      for (const int64_t i : among) {
        const int64_t row = (b * rows + i) * rows;
        softmax_among(from + row, among, weight + row);
        for (const int64_t j : among) total[j] += weight[row + j] * dropout(row + j);
      }
    });
    if (scores.requires_grad()) {
      ctx->save_for_backward({weights, taken});
      ctx->saved_data["probability"] = probability;
      ctx->saved_data["seed"] = seed;
    }
    return counts;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &weights = saved[0], &taken = saved[1];
    const auto grad = grads[0].contiguous();
    const int64_t rows = taken.size(-1);
    const Dropout dropout(ctx->saved_data["probability"].toDouble(), static_cast<uint64_t>(ctx->saved_data["seed"].toInt()));
    auto result = at::zeros(weights.sizes(), weights.options());
    const float *weight = weights.const_data_ptr<float>(), *of_count = grad.const_data_ptr<float>();
    float* to = result.mutable_data_ptr<float>();
    each_batch(taken, [&](int64_t b, const std::vector<int64_t>& among) {
      const float* g = of_count + b * rows;
      for (const int64_t i : among) {
        const int64_t row = (b * rows + i) * rows;
        float mean = 0.f;
        for (const int64_t j : among) mean += weight[row + j] * (to[row + j] = g[j] * dropout(row + j));
        for (const int64_t j : among) to[row + j] = weight[row + j] * (to[row + j] - mean);
      }
    });
    return {result, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace
}  // namespace monopass

extern "C" char* monopass_attention_counts(at::Tensor** out, const at::Tensor* scores, const at::Tensor* taken, double probability, uint64_t seed) {
  return monopass::guarded([&] {
    *out = new at::Tensor(
        monopass::AttentionCounts::apply(scores->contiguous(), taken->contiguous(), probability, static_cast<int64_t>(seed)));
  });
}
