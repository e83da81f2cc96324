// The three matrix products of a dense layer and its derivatives.
#pragma once
#include <ATen/ATen.h>

namespace jmp {

enum class Product : int64_t {
  NT,  // a b^T: forward, x W^T
  NN,  // a b:   gradient of the input, g W
  TN,  // a^T b: gradient of the weight, g^T x
};

// Values only; nothing is recorded.
at::Tensor product(Product kind, const at::Tensor& a, const at::Tensor& b);

}  // namespace jmp
