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

namespace {

// One weight row times R rows of x. The weights are read from front to back, one stream a thread: the processor's own prefetching then
// brings two thirds more bytes a second than four rows read side by side.
template <typename T, int R>
inline void linear_row(const T* x, const T* w, int64_t in, float* sums) {
  using L = Lane<T>;
  constexpr int64_t kStep = 16 * L::K;
  // Fewer than four rows are added up in several parts, so that no addition waits for the one before.
  constexpr int kParts = 4 / R;
  Vec acc[R][kParts];
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < kParts; ++p) acc[r][p] = zeros();
  }
  int64_t i = 0;
  for (; i + kParts * kStep <= in; i += kParts * kStep) {
#pragma GCC unroll 4
    for (int p = 0; p < kParts; ++p) {
      const typename L::V a = L::vector(w + i + p * kStep);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) acc[r][p] = L::dot(acc[r][p], a, L::vector(x + r * in + i + p * kStep));
    }
  }
  for (; i < in; i += kStep) {
    const auto a = L::first(w + i, in - i);
    for (int r = 0; r < R; ++r) acc[r][0] = L::dot(acc[r][0], a, L::first(x + r * in + i, in - i));
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    for (int p = 1; p < kParts; ++p) acc[r][0] = acc[r][0] + acc[r][p];
    sums[r] = sum_of(acc[r][0]);
  }
}

// Four weight rows times R rows of x: from five rows on arithmetic takes longer than reading, and every value of x serves four products.
template <typename T, int R>
inline void linear_tile(const T* x, const T* weight, int64_t in, int outs, float* sums) {
  using L = Lane<T>;
  constexpr int64_t kStep = 16 * L::K;
  Vec acc[4][R];
#pragma GCC unroll 4
  for (int o = 0; o < 4; ++o) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) acc[o][r] = zeros();
  }
  const T* w[4];
  for (int o = 0; o < 4; ++o) w[o] = weight + (o < outs ? o : 0) * in;
  const int64_t dense = in / kStep * kStep;
  for (int64_t i = 0; i < dense; i += kStep) {
    typename L::V v[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) v[r] = L::vector(x + r * in + i);
#pragma GCC unroll 4
    for (int o = 0; o < 4; ++o) {
      const typename L::V a = L::vector(w[o] + i);
      _mm_prefetch(reinterpret_cast<const char*>(w[o] + i) + 4 * in * sizeof(T), _MM_HINT_T0);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) acc[o][r] = L::dot(acc[o][r], a, v[r]);
    }
  }
  if (dense < in) {
    for (int r = 0; r < R; ++r) {
      const auto v = L::first(x + r * in + dense, in - dense);
      for (int o = 0; o < 4; ++o) acc[o][r] = L::dot(acc[o][r], L::first(w[o] + dense, in - dense), v);
    }
  }
#pragma GCC unroll 4
  for (int o = 0; o < 4; ++o) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) sums[o * 4 + r] = sum_of(acc[o][r]);
  }
}

inline void put(float* to, float x) { *to = x; }
inline void put(bf16* to, float x) { store(to, all(x), 1); }

}  // namespace

namespace {

constexpr int64_t kStreamed = 4;

// At most `kStreamed` rows.
template <typename T>
void linear_streamed(const T* x, const T* weight, const T* bias, T* out, int64_t rows, int64_t in, int64_t outs, int64_t begin, int64_t end) {
  float sums[kStreamed];
  for (int64_t o = begin; o < end; ++o) {
    const T* w = weight + o * in;
    switch (rows) {
      case 4: linear_row<T, 4>(x, w, in, sums); break;
      case 3: linear_row<T, 3>(x, w, in, sums); break;
      case 2: linear_row<T, 2>(x, w, in, sums); break;
      default: linear_row<T, 1>(x, w, in, sums); break;
    }
    const float shift = bias ? number(bias[o]) : 0.f;
    for (int64_t r = 0; r < rows; ++r) put(out + r * outs + o, sums[r] + shift);
  }
}

template <typename T>
void linear_tiled(const T* x, const T* weight, const T* bias, T* out, int64_t rows, int64_t in, int64_t outs, int64_t begin, int64_t end) {
  float sums[16];
  for (int64_t o = begin; o < end; o += 4) {
    const int taken = static_cast<int>(min64(4, end - o));
    for (int64_t r = 0; r < rows; r += 4) {
      const int64_t count = min64(4, rows - r);
      const T *from = x + r * in, *w = weight + o * in;
      switch (count) {
        case 4: linear_tile<T, 4>(from, w, in, taken, sums); break;
        case 3: linear_tile<T, 3>(from, w, in, taken, sums); break;
        case 2: linear_tile<T, 2>(from, w, in, taken, sums); break;
        default: linear_tile<T, 1>(from, w, in, taken, sums); break;
      }
      for (int i = 0; i < taken; ++i) {
        const float shift = bias ? number(bias[o + i]) : 0.f;
        for (int64_t j = 0; j < count; ++j) put(out + (r + j) * outs + o + i, sums[i * 4 + j] + shift);
      }
    }
  }
}

}  // namespace

template <typename V, typename T>
void linear_rows(const T* x, const T* weight, const T* bias, T* out, int64_t rows, int64_t in, int64_t outs, int64_t begin, int64_t end) {
  const auto kernel = rows <= kStreamed ? linear_streamed<T> : linear_tiled<T>;
  kernel(x, weight, bias, out, rows, in, outs, begin, end);
}

#define MONOPASS_INSTANTIATE(T) \
  template void rms_norm_forward<Vectors, T>(const T*, const T*, T*, float*, int64_t, int64_t, int64_t, float); \
  template void rms_norm_backward<Vectors, T>(const T*, const T*, const float*, const T*, T*, float*, int64_t, int64_t, int64_t); \
  template void silu_mul_forward<Vectors, T>(const T*, T*, int64_t, int64_t, int64_t); \
  template void silu_mul_backward<Vectors, T>(const T*, const T*, T*, int64_t, int64_t, int64_t); \
  template void rope_heads<Vectors, T>(const T*, int64_t, T*, int64_t, int64_t, int64_t, const float*, const float*, float); \
  template float log_sum_exp<Vectors, T>(const T*, int64_t); \
  template void scaled_softmax<Vectors, T>(const T*, float, float, T*, int64_t); \
  template double sum_of_squares_range<Vectors, T>(const T*, int64_t); \
  template void linear_rows<Vectors, T>(const T*, const T*, const T*, T*, int64_t, int64_t, int64_t, int64_t, int64_t); \
  template void adamw_range<Vectors, T, float, float>(T*, float*, const float*, float*, float*, int64_t, const AdamWFactors&); \
  template void adamw_range<Vectors, T, bf16, float>(T*, float*, const bf16*, float*, float*, int64_t, const AdamWFactors&); \
  template void adamw_range<Vectors, T, float, bf16>(T*, float*, const float*, bf16*, bf16*, int64_t, const AdamWFactors&); \
  template void adamw_range<Vectors, T, bf16, bf16>(T*, float*, const bf16*, bf16*, bf16*, int64_t, const AdamWFactors&);
MONOPASS_INSTANTIATE(float)
MONOPASS_INSTANTIATE(bf16)

}  // namespace monopass
