// Differentiable operations that libtorch lacks, or keeps more in memory for than is needed.
//
// Each is built from a few others that are closed under differentiation (products, derivatives of the activation,
// gather and scatter), so that derivatives of any order exist (of the activation: up to the third). What can be computed again cheaply is not kept.
#pragma once
#include <ATen/ATen.h>

namespace jmp {

using at::Tensor;

// sigma(x) = silu(x) / 0.6
Tensor activation(const Tensor& x);
// x W^T: [i, in], [out, in] -> [i, out]
Tensor linear(const Tensor& x, const Tensor& weight);
// sigma(pre) W^T + b; b may be undefined
Tensor activated_linear(const Tensor& pre, const Tensor& weight, const Tensor& bias);
// (sigma(pre)[index] * radial Wr^T) W^T; without index all rows, without activation pre itself
Tensor gated_linear(const Tensor& pre, const Tensor& index, const Tensor& radial, const Tensor& radial_weight,
                    const Tensor& weight, bool activated);
// sum over rows e with target[e] = a of m[e] * (radial Wr^T)[e]: [e, m] -> [rows, m]
Tensor gated_sum(const Tensor& m, const Tensor& radial, const Tensor& radial_weight, const Tensor& target, int64_t rows);
// a_i b_i for each i: [i, m, k], [i, k, n] -> [i, m, n]
Tensor batched(const Tensor& a, const Tensor& b);
// (circular x sums) W^T: [i, c, s], [i, s, d], [out, c*d] -> [i, out]
Tensor bilinear(const Tensor& circular, const Tensor& sums, const Tensor& weight);
// (x + sigma(pre)) / sqrt 2
Tensor residual(const Tensor& x, const Tensor& pre);
// (a + b) / sqrt 2
Tensor half_sum(const Tensor& a, const Tensor& b);
// (sigma(s A^T) + sigma(s B^T)[reverse]) / sqrt 2, where reverse is its own inverse
Tensor symmetric_update(const Tensor& s, const Tensor& a, const Tensor& b, const Tensor& reverse);
// sigma(x + a[source] + b[target])
Tensor edge_sum(const Tensor& x, const Tensor& a, const Tensor& source, const Tensor& b, const Tensor& target);
// x[index]
Tensor gather(const Tensor& x, const Tensor& index);
// out[index[e]] += x[e], in the order of e: [e, ...] -> [rows, ...]
Tensor scatter(const Tensor& x, const Tensor& index, int64_t rows);

}  // namespace jmp
