// What the functions are built from: operations that are closed under differentiation.
#pragma once
#include <ATen/ATen.h>

#include <optional>

#include "functions.h"
#include "product.h"

namespace jmp {

// A tensor argument that may be missing; libtorch takes no undefined tensors as arguments of a function.
using Maybe = std::optional<Tensor>;
inline Maybe maybe(const Tensor& x) { return x.defined() ? Maybe(x) : std::nullopt; }
inline Tensor or_none(const Maybe& x) { return x ? *x : Tensor(); }

constexpr double HALF = 0.70710678118654752440;
// Elements that one thread should have at least.
constexpr int64_t GRAIN = 1 << 14;

// Whether the loops of kernels.h serve; elsewhere libtorch's own operations do.
inline bool quick(const Tensor& x) { return x.device().is_cpu() && x.scalar_type() == at::kFloat; }
inline const float* in(const Tensor& x) {
  TORCH_CHECK(x.is_contiguous(), "a contiguous tensor is needed");
  return x.const_data_ptr<float>();
}
inline float* out(const Tensor& x) {
  TORCH_CHECK(x.is_contiguous(), "a contiguous tensor is needed");
  return x.mutable_data_ptr<float>();
}
// `count` numbers in [0, rows).
const int64_t* indices(const Tensor& index, int64_t count, int64_t rows);

// Values only, nothing is recorded:
// sigma^(order)(x) by libtorch's operations
Tensor sigma(const Tensor& x, int64_t order);
// scale * [g *] sigma^(order)(x); writes over g if it may
Tensor activate(const Tensor& g, const Tensor& x, int64_t order, double scale, bool over_g = false);
// a_i b_i for each i
Tensor batched_values(const Tensor& a, const Tensor& b);
// out[index[e]] += a[e] * b[e], b may be undefined
Tensor scatter_values(const Tensor& a, const Tensor& b, const Tensor& index, int64_t rows);

// Differentiable, to any order (the activation to its third derivative):
// scale * g * sigma^(order)(x)
Tensor slope(const Tensor& g, const Tensor& x, int64_t order = 1, double scale = 1.0);
// The three products of product.h
Tensor nt(const Tensor& a, const Tensor& b);
Tensor nn(const Tensor& a, const Tensor& b);
Tensor tn(const Tensor& a, const Tensor& b);

}  // namespace jmp
