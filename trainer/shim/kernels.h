// Loops over contiguous single-precision arrays, compiled once for each instruction set. No libtorch in here.
#pragma once
#include <cstdint>

namespace jmp {

// How AdamW moves the weights; see operators.cpp.
struct AdamWRule {
  float decay;          // 1 - lr * weight_decay
  float first;          // 1 - beta_1
  float second;         // 1 - beta_2
  float step;           // lr / (1 - beta_1^t)
  float root;           // 1 / sqrt(1 - beta_2^t)
  float eps;
  float gradient_scale; // what clipping multiplies the gradient by
  float limit;          // clipping by value, or infinity
  float average;        // 1 - decay of the average; used if there is one
};

// sigma(x) = silu(x) / 0.6 throughout. Every loop covers elements [0, n).
struct Kernels {
  const char* name;
  // out = scale * g * d^order sigma(x); g may be null (ones) and may be out.
  void (*activation)(int order, int64_t n, const float* g, const float* x, float scale, float* out);
  // out = scale * (x + sigma(pre))
  void (*residual)(int64_t n, const float* x, const float* pre, float scale, float* out);
  // out = scale * (a + b)
  void (*sum)(int64_t n, const float* a, const float* b, float scale, float* out);
  // out = scale * (sigma(a) + sigma(b))
  void (*activated_sum)(int64_t n, const float* a, const float* b, float scale, float* out);
  // gate <- g * sigma(pre), g <- g * gate * sigma'(pre), gated = gate * sigma(pre)
  void (*gate_backward)(int64_t n, const float* pre, float* g, float* gate, float* gated);
  // out += a * b, or out += a where b is null
  void (*add_product)(int64_t n, const float* a, const float* b, float* out);
  // ga = g * a, gb = g * b, both in place of a and b exchanged: a <- g * b, b <- g * a
  void (*cross_product)(int64_t n, const float* g, float* a, const float* b, float* gb);
  // c_i = a_i b_i for `count` small matrices [m, k] and [k, n] with any strides; c is contiguous. `scratch` holds k * 64.
  void (*batched_product)(int64_t count, int64_t m, int64_t k, int64_t n, const float* a, const int64_t a_strides[3],
                          const float* b, const int64_t b_strides[3], float* c, float* scratch);
  double (*sum_of_squares)(int64_t n, const float* x);
  // average may be null
  void (*adamw)(int64_t n, const AdamWRule& rule, float* p, const float* g, float* m, float* v, float* average);
};

const Kernels& kernels();

}  // namespace jmp
