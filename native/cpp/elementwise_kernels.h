// Row-wise and element-wise kernels on raw memory, each over a range of rows or elements. T is float or bf16; arithmetic is
// float32 and every product is rounded to T where libtorch's own sequence of operations would round it.
#pragma once

#include <cstdint>

#include "attention_kernels.h"

namespace monopass {

// out = (x * r rounded to T) * weight with r = 1 / sqrt(mean(x^2) + eps), kept in `inverse_rms` [rows] unless null.
template <typename V, typename T>
void rms_norm_forward(
    const T* x, const T* weight, T* out, float* inverse_rms, int64_t begin, int64_t end, int64_t hidden, float eps);
// dx (may be null); dweight is added to (may be null).
template <typename V, typename T>
void rms_norm_backward(
    const T* x, const T* weight, const float* inverse_rms, const T* grad, T* dx, float* dweight, int64_t begin, int64_t end, int64_t hidden);

// gate_up [rows, 2 * width], out and grad [rows, width].
template <typename V, typename T>
void silu_mul_forward(const T* gate_up, T* out, int64_t begin, int64_t end, int64_t width);
template <typename V, typename T>
void silu_mul_backward(const T* gate_up, const T* grad, T* dgate_up, int64_t begin, int64_t end, int64_t width);

// Rotates `heads` neighbouring heads of one position; cos and sin [dim / 2]; `sign` -1 turns back.
template <typename V, typename T>
void rope_heads(const T* x, int64_t x_stride, T* out, int64_t out_stride, int64_t heads, int64_t dim, const float* cos, const float* sin, float sign);

// Natural logarithm of the sum of exponentials of one row.
template <typename V, typename T>
float log_sum_exp(const T* row, int64_t columns);
// out = exp(row - lse) * scale.
template <typename V, typename T>
void scaled_softmax(const T* row, float lse, float scale, T* out, int64_t columns);

struct AdamWFactors {
  float decay;       // 1 - lr * weight_decay
  float beta1, one_minus_beta1, beta2, one_minus_beta2;
  float step_size;   // lr / (1 - beta1^step)
  float inverse_root_correction2;  // 1 / sqrt(1 - beta2^step)
  float eps, grad_scale;
};
// P, G, M: kinds of parameter, gradient and moments. `master` float32 or null.
template <typename V, typename P, typename G, typename M>
void adamw_range(P* param, float* master, const G* grad, M* mean, M* square, int64_t count, const AdamWFactors& f);

template <typename V, typename T>
double sum_of_squares_range(const T* x, int64_t count);

}  // namespace monopass
