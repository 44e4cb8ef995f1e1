#include "elementwise_kernels.h"

#include "simd.h"

namespace monopass {

template <typename V, typename T>
void rms_norm_forward(const T* x, const T* weight, T* out, float* inverse_rms, int64_t begin, int64_t end, int64_t hidden, float eps) {
  for (int64_t r = begin; r < end; ++r) {
    const T* row = x + r * hidden;
    T* to = out + r * hidden;
    Vec sum = zeros();
    for (int64_t i = 0; i < hidden; i += 16) {
      const Vec v = load(row + i, first_lanes(hidden - i));
      sum = fmadd(v, v, sum);
    }
    const float inverse = 1.f / __builtin_sqrtf(sum_of(sum) / static_cast<float>(hidden) + eps);
    if (inverse_rms) inverse_rms[r] = inverse;
    const Vec scale = all(inverse);
    for (int64_t i = 0; i < hidden; i += 16) {
      const Mask m = first_lanes(hidden - i);
      store(to + i, rounded<T>(load(row + i, m) * scale) * load(weight + i, m), m);
    }
  }
}

template <typename V, typename T>
void rms_norm_backward(
    const T* x, const T* weight, const float* inverse_rms, const T* grad, T* dx, float* dweight, int64_t begin, int64_t end, int64_t hidden) {
  for (int64_t r = begin; r < end; ++r) {
    const T *row = x + r * hidden, *g = grad + r * hidden;
    const Vec inverse = all(inverse_rms[r]);
    Vec dot = zeros();
    for (int64_t i = 0; i < hidden; i += 16) {
      const Mask m = first_lanes(hidden - i);
      const Vec unit = load(row + i, m) * inverse, slope = load(g + i, m);
      dot = fmadd(slope * load(weight + i, m), unit, dot);
      if (dweight) store(dweight + i, fmadd(slope, rounded<T>(unit), load(dweight + i, m)), m);
    }
    if (!dx) continue;
    const Vec mean = all(sum_of(dot) / static_cast<float>(hidden));
    for (int64_t i = 0; i < hidden; i += 16) {
      const Mask m = first_lanes(hidden - i);
      const Vec unit = load(row + i, m) * inverse;
      const Vec inner = fnmadd(unit, mean, load(g + i, m) * load(weight + i, m));
      store(dx + r * hidden + i, inner * inverse, m);
    }
  }
}

template <typename V, typename T>
void silu_mul_forward(const T* gate_up, T* out, int64_t begin, int64_t end, int64_t width) {
  for (int64_t r = begin; r < end; ++r) {
    const T *gate = gate_up + 2 * r * width, *up = gate + width;
    for (int64_t i = 0; i < width; i += 16) {
      const Mask m = first_lanes(width - i);
      const Vec g = load(gate + i, m);
      store(out + r * width + i, rounded<T>(g * sigmoid(g)) * load(up + i, m), m);
    }
  }
}

template <typename V, typename T>
void silu_mul_backward(const T* gate_up, const T* grad, T* dgate_up, int64_t begin, int64_t end, int64_t width) {
  const Vec one = all(1.f);
  for (int64_t r = begin; r < end; ++r) {
    const T *gate = gate_up + 2 * r * width, *up = gate + width, *slope = grad + r * width;
    T *dgate = dgate_up + 2 * r * width, *dup = dgate + width;
    for (int64_t i = 0; i < width; i += 16) {
      const Mask m = first_lanes(width - i);
      const Vec g = load(gate + i, m), s = sigmoid(g), d = load(slope + i, m);
      // d silu / d gate = s (1 + g (1 - s))
      const Vec turn = s * fmadd(g, one - s, one);
      store(dgate + i, d * load(up + i, m) * turn, m);
      store(dup + i, d * (g * s), m);
    }
  }
}

template <typename V, typename T>
void rope_heads(
    const T* x, int64_t x_stride, T* out, int64_t out_stride, int64_t heads, int64_t dim, const float* cos, const float* sin, float sign) {
  const int64_t half = dim / 2;
  const Vec direction = all(sign);
  for (int64_t i = 0; i < half; i += 16) {
    const Mask m = first_lanes(half - i);
    const Vec c = load(cos + i, m), s = load(sin + i, m) * direction;
    for (int64_t h = 0; h < heads; ++h) {
      const Vec a = load(x + h * x_stride + i, m), b = load(x + h * x_stride + half + i, m);
      store(out + h * out_stride + i, fmsub(a, c, b * s), m);
      store(out + h * out_stride + half + i, fmadd(b, c, a * s), m);
    }
  }
}

template <typename V, typename T>
float log_sum_exp(const T* row, int64_t columns) {
  Vec top = all(-__builtin_inff());
  for (int64_t i = 0; i < columns; i += 16) {
    const Mask m = first_lanes(columns - i);
    top = larger_in(m, top, load(row + i, m));
  }
  const float most = largest_of(top);
  const Vec shift = all(most);
  Vec sum = zeros();
  for (int64_t i = 0; i < columns; i += 16) {
    const Mask m = first_lanes(columns - i);
    sum = add_in(m, sum, exp_ps(load(row + i, m) - shift));
  }
  return most + __builtin_logf(sum_of(sum));
}

template <typename V, typename T>
void scaled_softmax(const T* row, float lse, float scale, T* out, int64_t columns) {
  const Vec shift = all(lse), factor = all(scale);
  for (int64_t i = 0; i < columns; i += 16) {
    const Mask m = first_lanes(columns - i);
    store(out + i, exp_ps(load(row + i, m) - shift) * factor, m);
  }
}

template <typename V, typename P, typename G, typename M>
void adamw_range(P* param, float* master, const G* grad, M* mean, M* square, int64_t count, const AdamWFactors& f) {
  const Vec decay = all(f.decay), beta1 = all(f.beta1), rest1 = all(f.one_minus_beta1);
  const Vec beta2 = all(f.beta2), rest2 = all(f.one_minus_beta2), step = all(f.step_size);
  const Vec root = all(f.inverse_root_correction2), eps = all(f.eps), scale = all(f.grad_scale);
  for (int64_t i = 0; i < count; i += 16) {
    const Mask m = first_lanes(count - i);
    const Vec g = load(grad + i, m) * scale;
    const Vec first = fmadd(load(mean + i, m), beta1, g * rest1);
    const Vec second = fmadd(load(square + i, m), beta2, g * g * rest2);
    const Vec denominator = fmadd(square_root(second), root, eps);
    const Vec old = master ? load(master + i, m) : load(param + i, m);
    const Vec now = fnmadd(first / denominator, step, old * decay);
    store(mean + i, first, m);
    store(square + i, second, m);
    if (master) store(master + i, now, m);
    store(param + i, now, m);
  }
}

template <typename V, typename T>
double sum_of_squares_range(const T* x, int64_t count) {
  double total = 0.0;
  // Short float32 sums, added in double.
  for (int64_t i = 0; i < count; i += 1024) {
    Vec sum = zeros();
    for (int64_t j = i; j < min64(i + 1024, count); j += 16) {
      const Vec v = load(x + j, first_lanes(count - j));
      sum = fmadd(v, v, sum);
    }
    total += sum_in_double(sum);
  }
  return total;
}

#define MONOPASS_INSTANTIATE(T)                                                                                                   \
  template void rms_norm_forward<Vectors, T>(const T*, const T*, T*, float*, int64_t, int64_t, int64_t, float);                   \
  template void rms_norm_backward<Vectors, T>(const T*, const T*, const float*, const T*, T*, float*, int64_t, int64_t, int64_t); \
  template void silu_mul_forward<Vectors, T>(const T*, T*, int64_t, int64_t, int64_t);                                            \
  template void silu_mul_backward<Vectors, T>(const T*, const T*, T*, int64_t, int64_t, int64_t);                                 \
  template void rope_heads<Vectors, T>(const T*, int64_t, T*, int64_t, int64_t, int64_t, const float*, const float*, float);      \
  template float log_sum_exp<Vectors, T>(const T*, int64_t);                                                                      \
  template void scaled_softmax<Vectors, T>(const T*, float, float, T*, int64_t);                                                  \
  template double sum_of_squares_range<Vectors, T>(const T*, int64_t);                                                            \
  template void adamw_range<Vectors, T, float, float>(T*, float*, const float*, float*, float*, int64_t, const AdamWFactors&);    \
  template void adamw_range<Vectors, T, bf16, float>(T*, float*, const bf16*, float*, float*, int64_t, const AdamWFactors&);      \
  template void adamw_range<Vectors, T, float, bf16>(T*, float*, const float*, bf16*, bf16*, int64_t, const AdamWFactors&);       \
  template void adamw_range<Vectors, T, bf16, bf16>(T*, float*, const bf16*, bf16*, bf16*, int64_t, const AdamWFactors&);
MONOPASS_INSTANTIATE(float)
MONOPASS_INSTANTIATE(bf16)

}  // namespace monopass
