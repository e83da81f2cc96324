#include "product.h"

#include <ATen/Context.h>

namespace jmp {
namespace {

using at::Tensor;

// Smallest number of rows, and of a weight's columns and rows, from which oneDNN's product is the quicker one.
constexpr int64_t MANY = 64;
constexpr int64_t WIDE = 16;
// oneDNN is slower for the weight's gradient where the number of rows is no multiple of this.
constexpr int64_t BLOCK = 4;
// A dilation means nothing to a kernel of one pixel; without it libtorch leaves oneDNN out on a single thread.
constexpr int64_t DILATION = 2;

// libtorch's products call MKL, which keeps to AVX2 on processors that are not Intel's. oneDNN uses AVX-512 on all of them
// and is about twice as fast there; libtorch reaches it in single precision through convolutions alone. A row of x is a
// pixel's channels, so the product is a convolution with a kernel of one pixel over an image that is i pixels wide (a
// high one is slower), channels last.
bool suits(const Tensor& rows, int64_t a, int64_t b) {
  return rows.size(0) >= MANY && a >= WIDE && b >= WIDE && rows.device().is_cpu() && rows.scalar_type() == at::kFloat &&
         at::globalContext().userEnabledMkldnn() && at::hasMKLDNN();
}

Tensor image(const Tensor& x) { return x.contiguous().view({1, 1, x.size(0), x.size(1)}).permute({0, 3, 1, 2}); }
Tensor rows_of(const Tensor& image) {
  return image.permute({0, 2, 3, 1}).reshape({image.size(3), image.size(1)});
}
Tensor kernel(const Tensor& weight) { return weight.contiguous().view({weight.size(0), weight.size(1), 1, 1}); }

Tensor backward(const Tensor& g, const Tensor& x, const Tensor& weight, std::array<bool, 3> mask) {
  auto out = at::convolution_backward(g, x, weight, at::OptionalIntArrayRef(), {1, 1}, {0, 0}, {DILATION, DILATION}, false,
                                      {0, 0}, 1, mask);
  return mask[0] ? std::get<0>(out) : std::get<1>(out);
}

Tensor forward(const Tensor& x, const Tensor& weight) {
  if (!suits(x, weight.size(0), weight.size(1))) return at::mm(x, weight.t());
  return rows_of(at::mkldnn_convolution(image(x), kernel(weight), std::nullopt, {0, 0}, {1, 1}, {DILATION, DILATION}, 1));
}

Tensor input_gradient(const Tensor& g, const Tensor& weight) {
  if (!suits(g, weight.size(0), weight.size(1))) return at::mm(g, weight);
  // The convolution's own input is asked for its shape only.
  const Tensor input = at::empty({1, 1, g.size(0), weight.size(1)}, g.options()).permute({0, 3, 1, 2});
  return rows_of(backward(image(g), input, kernel(weight), {true, false, false}));
}

Tensor weight_gradient(const Tensor& g, const Tensor& x) {
  const int64_t rows = g.size(0) / BLOCK * BLOCK, out = g.size(1), in = x.size(1);
  if (!suits(g, out, in)) return at::mm(g.t(), x);
  const Tensor weight = at::empty({out, in, 1, 1}, g.options());
  Tensor sum = backward(image(g.narrow(0, 0, rows)), image(x.narrow(0, 0, rows)), weight, {false, true, false})
                   .reshape({out, in});
  const int64_t rest = g.size(0) - rows;
  if (rest) sum.addmm_(g.narrow(0, rows, rest).t(), x.narrow(0, rows, rest));
  return sum;
}

}  // namespace

// Weights stay in single precision where activations have 16 bits: the first operand, always an activation or its
// gradient, decides.
Tensor product(Product kind, const Tensor& a, const Tensor& any) {
  const Tensor b = any.scalar_type() == a.scalar_type() ? any : any.to(a.scalar_type());
  switch (kind) {
    case Product::NT: return forward(a, b);
    case Product::NN: return input_gradient(a, b);
    default: return weight_gradient(a, b);
  }
}

}  // namespace jmp
