// Compiled several times, each with other -m flags and another KERNELS name. It must not include anything that defines
// inline functions with external linkage: the linker would keep one copy of them, perhaps that of a newer processor.
#include "kernels.h"

#include <cstring>

namespace jmp {
namespace {

// e^x, relative error about 1e-7, for |x| <= 87: Cody-Waite reduction and a polynomial of degree 6. Loops over it vectorise.
inline float exponential(float x) {
  const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  x = x < -87.0f ? -87.0f : (x > 87.0f ? 87.0f : x);
  const float t = x * 1.44269504088896341f + shift;
  const float n = t - shift;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  uint32_t bits;
  std::memcpy(&bits, &t, 4);
  bits = (bits - 0x4B400000u + 127u) << 23;
  float power;
  std::memcpy(&power, &bits, 4);
  return p * power;
}

constexpr float SCALE = 1.0f / 0.6f;

template <int order>
inline float sigma(float x) {
  const float s = 1.0f / (1.0f + exponential(-x));
  if (order == 0) return SCALE * x * s;
  const float d = s * (1.0f - s);
  if (order == 1) return SCALE * (s + x * d);
  if (order == 2) return SCALE * d * (2.0f + x * (1.0f - 2.0f * s));
  return SCALE * d * (3.0f * (1.0f - 2.0f * s) + x * (1.0f - 6.0f * d));
}

template <int order>
void activation_of(int64_t n, const float* g, const float* x, float scale, float* out) {
  if (g) {
    for (int64_t i = 0; i < n; i++) out[i] = scale * g[i] * sigma<order>(x[i]);
  } else {
    for (int64_t i = 0; i < n; i++) out[i] = scale * sigma<order>(x[i]);
  }
}

void activation(int order, int64_t n, const float* g, const float* x, float scale, float* out) {
  switch (order) {
    case 0: return activation_of<0>(n, g, x, scale, out);
    case 1: return activation_of<1>(n, g, x, scale, out);
    case 2: return activation_of<2>(n, g, x, scale, out);
    default: return activation_of<3>(n, g, x, scale, out);
  }
}

void residual(int64_t n, const float* x, const float* pre, float scale, float* out) {
  for (int64_t i = 0; i < n; i++) out[i] = scale * (x[i] + sigma<0>(pre[i]));
}

void sum(int64_t n, const float* a, const float* b, float scale, float* out) {
  for (int64_t i = 0; i < n; i++) out[i] = scale * (a[i] + b[i]);
}

void activated_sum(int64_t n, const float* a, const float* b, float scale, float* out) {
  for (int64_t i = 0; i < n; i++) out[i] = scale * (sigma<0>(a[i]) + sigma<0>(b[i]));
}

void gate_backward(int64_t n, const float* pre, float* __restrict g, float* __restrict gate, float* __restrict gated) {
  for (int64_t i = 0; i < n; i++) {
    const float x = pre[i], s = 1.0f / (1.0f + exponential(-x));
    const float y = SCALE * x * s, slope = SCALE * (s + x * s * (1.0f - s));
    const float gi = g[i], ga = gate[i];
    gated[i] = ga * y;
    g[i] = gi * ga * slope;
    gate[i] = gi * y;
  }
}

void add_product(int64_t n, const float* a, const float* b, float* __restrict out) {
  if (b) {
    for (int64_t i = 0; i < n; i++) out[i] += a[i] * b[i];
  } else {
    for (int64_t i = 0; i < n; i++) out[i] += a[i];
  }
}

void cross_product(int64_t n, const float* g, float* __restrict a, const float* b, float* __restrict gb) {
  for (int64_t i = 0; i < n; i++) {
    const float gi = g[i];
    gb[i] = gi * a[i];
    a[i] = gi * b[i];
  }
}

// Sixteen numbers; instruction sets with shorter registers use several.
typedef float Sixteen __attribute__((vector_size(64)));

inline Sixteen load(const float* x) {
  Sixteen v;
  std::memcpy(&v, x, sizeof v);
  return v;
}

// Rows [0, ROWS) of a panel: columns [0, WIDTH) of a b, with b packed to rows of WIDTH. Sums stay in registers.
template <int ROWS, int WIDTH>
inline void panel(int64_t k, const float* a, int64_t row, int64_t column, const float* b, int64_t n, int64_t ldc, float* c) {
  constexpr int VECTORS = WIDTH / 16;
  Sixteen sum[ROWS][VECTORS];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 16
    for (int v = 0; v < VECTORS; v++) sum[r][v] = Sixteen{};
  for (int64_t i = 0; i < k; i++, a += column, b += WIDTH) {
#pragma GCC unroll 16
    for (int v = 0; v < VECTORS; v++) {
      const Sixteen y = load(b + 16 * v);
#pragma GCC unroll 16
      for (int r = 0; r < ROWS; r++) sum[r][v] += a[r * row] * y;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++) {
    if (n == WIDTH) {
      std::memcpy(c + r * ldc, sum[r], sizeof sum[r]);
    } else {
      float whole[WIDTH];
      std::memcpy(whole, sum[r], sizeof whole);
      for (int64_t j = 0; j < n; j++) c[r * ldc + j] = whole[j];
    }
  }
}

template <int WIDTH>
void columns(int64_t m, int64_t k, int64_t n, const float* a, const int64_t* as, const float* b, const int64_t* bs,
             int64_t ldc, float* c, float* __restrict scratch) {
  if (bs[2] == 1 && n == WIDTH) {
    for (int64_t i = 0; i < k; i++) std::memcpy(scratch + i * WIDTH, b + i * bs[1], WIDTH * sizeof(float));
  } else {
    for (int64_t i = 0; i < k; i++) {
      for (int64_t j = 0; j < n; j++) scratch[i * WIDTH + j] = b[i * bs[1] + j * bs[2]];
      for (int64_t j = n; j < WIDTH; j++) scratch[i * WIDTH + j] = 0.0f;
    }
  }
  constexpr int ROWS = 4;
  int64_t r = 0;
  for (; r + ROWS <= m; r += ROWS) panel<ROWS, WIDTH>(k, a + r * as[1], as[1], as[2], scratch, n, ldc, c + r * ldc);
  for (; r < m; r++) panel<1, WIDTH>(k, a + r * as[1], as[1], as[2], scratch, n, ldc, c + r * ldc);
}

void batched_product(int64_t count, int64_t m, int64_t k, int64_t n, const float* a, const int64_t as[3], const float* b,
                     const int64_t bs[3], float* c, float* scratch) {
  constexpr int64_t PANEL = 64;
  for (int64_t i = 0; i < count; i++) {
    const float *ai = a + i * as[0], *bi = b + i * bs[0];
    float* ci = c + i * m * n;
    for (int64_t j = 0; j < n; j += PANEL) {
      const int64_t width = n - j < PANEL ? n - j : PANEL;
      const float* bj = bi + j * bs[2];
      if (width <= 16)
        columns<16>(m, k, width, ai, as, bj, bs, n, ci + j, scratch);
      else if (width <= 32)
        columns<32>(m, k, width, ai, as, bj, bs, n, ci + j, scratch);
      else
        columns<64>(m, k, width, ai, as, bj, bs, n, ci + j, scratch);
    }
  }
}

double sum_of_squares(int64_t n, const float* x) {
  constexpr int64_t LANES = 16, BLOCK = 4096;
  double total = 0.0;
  for (int64_t start = 0; start < n; start += BLOCK) {
    const int64_t end = start + BLOCK < n ? start + BLOCK : n;
    float lanes[LANES] = {};
    int64_t i = start;
    for (; i + LANES <= end; i += LANES)
      for (int64_t l = 0; l < LANES; l++) lanes[l] += x[i + l] * x[i + l];
    double block = 0.0;
    for (int64_t l = 0; l < LANES; l++) block += lanes[l];
    for (; i < end; i++) block += static_cast<double>(x[i]) * x[i];
    total += block;
  }
  return total;
}

template <bool averaged, bool limited>
void adamw_of(int64_t n, const AdamWRule& r, float* __restrict p, const float* __restrict g, float* __restrict m,
              float* __restrict v, float* __restrict average) {
  for (int64_t i = 0; i < n; i++) {
    float d = g[i] * r.gradient_scale;
    if (limited) d = d < -r.limit ? -r.limit : (d > r.limit ? r.limit : d);
    const float first = m[i] + r.first * (d - m[i]);
    const float second = v[i] + r.second * (d * d - v[i]);
    const float value = p[i] * r.decay - r.step * (first / (__builtin_sqrtf(second) * r.root + r.eps));
    m[i] = first;
    v[i] = second;
    p[i] = value;
    if (averaged) average[i] += r.average * (value - average[i]);
  }
}

void adamw(int64_t n, const AdamWRule& rule, float* p, const float* g, float* m, float* v, float* average) {
  const bool limited = rule.limit < __builtin_inff();
  if (average) return limited ? adamw_of<true, true>(n, rule, p, g, m, v, average) : adamw_of<true, false>(n, rule, p, g, m, v, average);
  return limited ? adamw_of<false, true>(n, rule, p, g, m, v, average) : adamw_of<false, false>(n, rule, p, g, m, v, average);
}

}  // namespace

#define TEXT(name) #name
#define NAME(name) TEXT(name)
extern const Kernels KERNELS;
const Kernels KERNELS = {NAME(KERNELS), activation, residual,      sum,           activated_sum,
                         gate_backward, add_product, cross_product, batched_product, sum_of_squares, adamw};

}  // namespace jmp
