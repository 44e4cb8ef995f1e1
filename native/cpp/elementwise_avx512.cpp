#include "elementwise_kernels.h"

#include "simd_avx512.h"

namespace monopass {

template <typename T>
void rms_norm_forward(const T* x, const T* weight, T* out, float* inverse_rms, int64_t begin, int64_t end, int64_t hidden, float eps) {
  for (int64_t r = begin; r < end; ++r) {
    const T* row = x + r * hidden;
    T* to = out + r * hidden;
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < hidden; i += 16) {
      const __m512 v = load(row + i, first_lanes(hidden - i));
      sum = _mm512_fmadd_ps(v, v, sum);
    }
    const float inverse = 1.f / __builtin_sqrtf(_mm512_reduce_add_ps(sum) / static_cast<float>(hidden) + eps);
    if (inverse_rms) inverse_rms[r] = inverse;
    const __m512 scale = _mm512_set1_ps(inverse);
    for (int64_t i = 0; i < hidden; i += 16) {
      const __mmask16 m = first_lanes(hidden - i);
      store(to + i, _mm512_mul_ps(rounded<T>(_mm512_mul_ps(load(row + i, m), scale)), load(weight + i, m)), m);
    }
  }
}

template <typename T>
void rms_norm_backward(
    const T* x, const T* weight, const float* inverse_rms, const T* grad, T* dx, float* dweight, int64_t begin, int64_t end, int64_t hidden) {
  for (int64_t r = begin; r < end; ++r) {
    const T *row = x + r * hidden, *g = grad + r * hidden;
    const __m512 inverse = _mm512_set1_ps(inverse_rms[r]);
    __m512 dot = _mm512_setzero_ps();
    for (int64_t i = 0; i < hidden; i += 16) {
      const __mmask16 m = first_lanes(hidden - i);
      const __m512 unit = _mm512_mul_ps(load(row + i, m), inverse), slope = load(g + i, m);
      dot = _mm512_fmadd_ps(_mm512_mul_ps(slope, load(weight + i, m)), unit, dot);
      if (dweight) store(dweight + i, _mm512_fmadd_ps(slope, rounded<T>(unit), load(dweight + i, m)), m);
    }
    if (!dx) continue;
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(dot) / static_cast<float>(hidden));
    for (int64_t i = 0; i < hidden; i += 16) {
      const __mmask16 m = first_lanes(hidden - i);
      const __m512 unit = _mm512_mul_ps(load(row + i, m), inverse);
      const __m512 inner = _mm512_fnmadd_ps(unit, mean, _mm512_mul_ps(load(g + i, m), load(weight + i, m)));
      store(dx + r * hidden + i, _mm512_mul_ps(inner, inverse), m);
    }
  }
}

template <typename T>
void silu_mul_forward(const T* gate_up, T* out, int64_t begin, int64_t end, int64_t width) {
  for (int64_t r = begin; r < end; ++r) {
    const T *gate = gate_up + 2 * r * width, *up = gate + width;
    for (int64_t i = 0; i < width; i += 16) {
      const __mmask16 m = first_lanes(width - i);
      const __m512 g = load(gate + i, m);
      store(out + r * width + i, _mm512_mul_ps(rounded<T>(_mm512_mul_ps(g, sigmoid(g))), load(up + i, m)), m);
    }
  }
}

template <typename T>
void silu_mul_backward(const T* gate_up, const T* grad, T* dgate_up, int64_t begin, int64_t end, int64_t width) {
  const __m512 one = _mm512_set1_ps(1.f);
  for (int64_t r = begin; r < end; ++r) {
    const T *gate = gate_up + 2 * r * width, *up = gate + width, *slope = grad + r * width;
    T *dgate = dgate_up + 2 * r * width, *dup = dgate + width;
    for (int64_t i = 0; i < width; i += 16) {
      const __mmask16 m = first_lanes(width - i);
      const __m512 g = load(gate + i, m), s = sigmoid(g), d = load(slope + i, m);
      // d silu / d gate = s (1 + g (1 - s))
      const __m512 turn = _mm512_mul_ps(s, _mm512_fmadd_ps(g, _mm512_sub_ps(one, s), one));
      store(dgate + i, _mm512_mul_ps(_mm512_mul_ps(d, load(up + i, m)), turn), m);
      store(dup + i, _mm512_mul_ps(d, _mm512_mul_ps(g, s)), m);
    }
  }
}

template <typename T>
void rope_heads(
    const T* x, int64_t x_stride, T* out, int64_t out_stride, int64_t heads, int64_t dim, const float* cos, const float* sin, float sign) {
  const int64_t half = dim / 2;
  const __m512 direction = _mm512_set1_ps(sign);
  for (int64_t i = 0; i < half; i += 16) {
    const __mmask16 m = first_lanes(half - i);
    const __m512 c = load(cos + i, m), s = _mm512_mul_ps(load(sin + i, m), direction);
    for (int64_t h = 0; h < heads; ++h) {
      const __m512 a = load(x + h * x_stride + i, m), b = load(x + h * x_stride + half + i, m);
      store(out + h * out_stride + i, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)), m);
      store(out + h * out_stride + half + i, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)), m);
    }
  }
}

template <typename T>
float log_sum_exp(const T* row, int64_t columns) {
  __m512 top = _mm512_set1_ps(-__builtin_inff());
  for (int64_t i = 0; i < columns; i += 16) {
    const __mmask16 m = first_lanes(columns - i);
    top = _mm512_mask_max_ps(top, m, top, load(row + i, m));
  }
  const float most = _mm512_reduce_max_ps(top);
  const __m512 shift = _mm512_set1_ps(most);
  __m512 sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < columns; i += 16) {
    const __mmask16 m = first_lanes(columns - i);
    sum = _mm512_mask_add_ps(sum, m, sum, exp_ps(_mm512_sub_ps(load(row + i, m), shift)));
  }
  return most + __builtin_logf(_mm512_reduce_add_ps(sum));
}

template <typename T>
void scaled_softmax(const T* row, float lse, float scale, T* out, int64_t columns) {
  const __m512 shift = _mm512_set1_ps(lse), factor = _mm512_set1_ps(scale);
  for (int64_t i = 0; i < columns; i += 16) {
    const __mmask16 m = first_lanes(columns - i);
    store(out + i, _mm512_mul_ps(exp_ps(_mm512_sub_ps(load(row + i, m), shift)), factor), m);
  }
}

template <typename P, typename G, typename M>
void adamw_range(P* param, float* master, const G* grad, M* mean, M* square, int64_t count, const AdamWFactors& f) {
  const __m512 decay = _mm512_set1_ps(f.decay), beta1 = _mm512_set1_ps(f.beta1), rest1 = _mm512_set1_ps(f.one_minus_beta1);
  const __m512 beta2 = _mm512_set1_ps(f.beta2), rest2 = _mm512_set1_ps(f.one_minus_beta2), step = _mm512_set1_ps(f.step_size);
  const __m512 root = _mm512_set1_ps(f.inverse_root_correction2), eps = _mm512_set1_ps(f.eps), scale = _mm512_set1_ps(f.grad_scale);
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 m = first_lanes(count - i);
    const __m512 g = _mm512_mul_ps(load(grad + i, m), scale);
    const __m512 first = _mm512_fmadd_ps(load(mean + i, m), beta1, _mm512_mul_ps(g, rest1));
    const __m512 second = _mm512_fmadd_ps(load(square + i, m), beta2, _mm512_mul_ps(_mm512_mul_ps(g, g), rest2));
    const __m512 denominator = _mm512_fmadd_ps(_mm512_sqrt_ps(second), root, eps);
    const __m512 old = master ? load(master + i, m) : load(param + i, m);
    const __m512 now = _mm512_fnmadd_ps(_mm512_div_ps(first, denominator), step, _mm512_mul_ps(old, decay));
    store(mean + i, first, m);
    store(square + i, second, m);
    if (master) store(master + i, now, m);
    store(param + i, now, m);
  }
}

template <typename T>
double sum_of_squares_range(const T* x, int64_t count) {
  double total = 0.0;
  // Short float32 sums, added in double.
  for (int64_t i = 0; i < count; i += 1024) {
    __m512 sum = _mm512_setzero_ps();
    for (int64_t j = i; j < min64(i + 1024, count); j += 16) {
      const __m512 v = load(x + j, first_lanes(count - j));
      sum = _mm512_fmadd_ps(v, v, sum);
    }
    total += _mm512_reduce_add_pd(_mm512_add_pd(
        _mm512_cvtps_pd(_mm512_castps512_ps256(sum)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(sum, 1))));
  }
  return total;
}

namespace {

inline __m512 operand(const float* p, int64_t left) { return _mm512_maskz_loadu_ps(first_lanes(left), p); }
inline __m512bh operand(const bf16* p, int64_t left) {
  const __mmask32 m = left >= 32 ? 0xffffffffu : (1u << left) - 1;
  return (__m512bh)_mm512_maskz_loadu_epi16(m, p);
}

// One weight row times R rows of x. The weights are read from front to back, one stream a thread: the processor's own prefetching then
// brings two thirds more bytes a second than four rows read side by side.
template <typename T, int R>
inline void linear_row(const T* x, const T* w, int64_t in, float* sums) {
  using L = Lane<T>;
  constexpr int64_t kStep = 16 * L::K;
  // Fewer than four rows are added up in several parts, so that no addition waits for the one before.
  constexpr int kParts = 4 / R;
  __m512 acc[R][kParts];
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < kParts; ++p) acc[r][p] = _mm512_setzero_ps();
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
    const auto a = operand(w + i, in - i);
    for (int r = 0; r < R; ++r) acc[r][0] = L::dot(acc[r][0], a, operand(x + r * in + i, in - i));
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    for (int p = 1; p < kParts; ++p) acc[r][0] = _mm512_add_ps(acc[r][0], acc[r][p]);
    sums[r] = _mm512_reduce_add_ps(acc[r][0]);
  }
}

// Four weight rows times R rows of x: from five rows on arithmetic takes longer than reading, and every value of x serves four products.
template <typename T, int R>
inline void linear_tile(const T* x, const T* weight, int64_t in, int outs, float* sums) {
  using L = Lane<T>;
  constexpr int64_t kStep = 16 * L::K;
  __m512 acc[4][R];
#pragma GCC unroll 4
  for (int o = 0; o < 4; ++o) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) acc[o][r] = _mm512_setzero_ps();
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
      const auto v = operand(x + r * in + dense, in - dense);
      for (int o = 0; o < 4; ++o) acc[o][r] = L::dot(acc[o][r], operand(w[o] + dense, in - dense), v);
    }
  }
#pragma GCC unroll 4
  for (int o = 0; o < 4; ++o) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) sums[o * 4 + r] = _mm512_reduce_add_ps(acc[o][r]);
  }
}

inline float number(float x) { return x; }
inline float number(bf16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
inline void put(float* to, float x) { *to = x; }
inline void put(bf16* to, float x) { store(to, _mm512_set1_ps(x), 1); }

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

template <typename T>
void linear_rows(const T* x, const T* weight, const T* bias, T* out, int64_t rows, int64_t in, int64_t outs, int64_t begin, int64_t end) {
  const auto kernel = rows <= kStreamed ? linear_streamed<T> : linear_tiled<T>;
  kernel(x, weight, bias, out, rows, in, outs, begin, end);
}

#define MONOPASS_INSTANTIATE(T)                                                                                                         \
  template void rms_norm_forward<T>(const T*, const T*, T*, float*, int64_t, int64_t, int64_t, float);                                  \
  template void rms_norm_backward<T>(const T*, const T*, const float*, const T*, T*, float*, int64_t, int64_t, int64_t);                \
  template void silu_mul_forward<T>(const T*, T*, int64_t, int64_t, int64_t);                                                           \
  template void silu_mul_backward<T>(const T*, const T*, T*, int64_t, int64_t, int64_t);                                                \
  template void rope_heads<T>(const T*, int64_t, T*, int64_t, int64_t, int64_t, const float*, const float*, float);                     \
  template float log_sum_exp<T>(const T*, int64_t);                                                                                     \
  template void scaled_softmax<T>(const T*, float, float, T*, int64_t);                                                                 \
  template double sum_of_squares_range<T>(const T*, int64_t);                                                                           \
  template void linear_rows<T>(const T*, const T*, const T*, T*, int64_t, int64_t, int64_t, int64_t, int64_t);                          \
  template void adamw_range<T, float, float>(T*, float*, const float*, float*, float*, int64_t, const AdamWFactors&);                   \
  template void adamw_range<T, bf16, float>(T*, float*, const bf16*, float*, float*, int64_t, const AdamWFactors&);                     \
  template void adamw_range<T, float, bf16>(T*, float*, const float*, bf16*, bf16*, int64_t, const AdamWFactors&);                      \
  template void adamw_range<T, bf16, bf16>(T*, float*, const bf16*, bf16*, bf16*, int64_t, const AdamWFactors&);
MONOPASS_INSTANTIATE(float)
MONOPASS_INSTANTIATE(bf16)

}  // namespace monopass
