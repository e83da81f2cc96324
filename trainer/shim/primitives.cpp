#include "primitives.h"

#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels.h"

namespace jmp {

Tensor sigma(const Tensor& x, int64_t order) {
  constexpr double SCALE = 1.0 / 0.6;
  const Tensor s = x.sigmoid();
  if (order == 0) return x * s * SCALE;
  const Tensor d = s * (1.0 - s);
  if (order == 1) return (s + x * d) * SCALE;
  if (order == 2) return d * (2.0 + x * (1.0 - 2.0 * s)) * SCALE;
  TORCH_CHECK(order == 3, "the activation has derivatives up to the third");
  return d * (3.0 * (1.0 - 2.0 * s) + x * (1.0 - 6.0 * d)) * SCALE;
}

Tensor activate(const Tensor& g, const Tensor& x, int64_t order, double scale, bool over_g) {
  if (!quick(x)) {
    Tensor y = sigma(x, order);
    if (g.defined()) y = y * g;
    return scale == 1.0 ? y : y * scale;
  }
  TORCH_CHECK(order <= 3, "the activation has derivatives up to the third");
  const Tensor xc = x.contiguous(), gc = g.defined() ? g.contiguous() : g;
  const Tensor y = over_g ? gc : at::empty_like(xc);
  const float* gp = gc.defined() ? in(gc) : nullptr;
  float* yp = out(y);
  const float* xp = in(xc);
  at::parallel_for(0, xc.numel(), GRAIN, [&](int64_t begin, int64_t end) {
    kernels().activation(static_cast<int>(order), end - begin, gp ? gp + begin : nullptr, xp + begin,
                         static_cast<float>(scale), yp + begin);
  });
  return y;
}

// Products of many small matrices, any strides: libtorch's bmm spends most of its time between them.
Tensor batched_values(const Tensor& a, const Tensor& b) {
  // Large matrices are libtorch's business.
  constexpr int64_t LARGE = 128 * 1024;
  TORCH_CHECK(a.dim() == 3 && b.dim() == 3 && a.size(0) == b.size(0) && a.size(2) == b.size(1), "batched: shapes ",
              a.sizes(), " and ", b.sizes());
  const int64_t count = a.size(0), m = a.size(1), k = a.size(2), n = b.size(2);
  if (!quick(a) || m * k > LARGE || k * n > LARGE || k == 0) return a.bmm(b);
  RECORD_FUNCTION("jmp::batched", std::vector<c10::IValue>({a, b}));
  const Tensor c = at::empty({count, m, n}, a.options());
  // Any strides will do.
  const float *ap = a.const_data_ptr<float>(), *bp = b.const_data_ptr<float>();
  float* cp = out(c);
  const auto as = a.strides(), bs = b.strides();
  at::parallel_for(0, count, std::max<int64_t>(1, 8 * GRAIN / std::max<int64_t>(m * k * n, 1)),
                   [&](int64_t begin, int64_t end) {
                     std::vector<float> scratch(k * 64);
                     kernels().batched_product(end - begin, m, k, n, ap + begin * as[0], as.data(), bp + begin * bs[0],
                                               bs.data(), cp + begin * m * n, scratch.data());
                   });
  return c;
}

// out[index[e]] += a[e] * b[e], b may be undefined. Threads share columns, so that sums have one order.
Tensor scatter_values(const Tensor& a, const Tensor& b, const Tensor& index, int64_t rows) {
  auto size = a.sizes().vec();
  size[0] = rows;
  Tensor sum = at::zeros(size, a.options());
  if (!quick(a)) return sum.index_add_(0, index, b.defined() ? a * b : a);
  const Tensor ac = a.contiguous(), bc = b.defined() ? b.contiguous() : b;
  const int64_t edges = a.size(0), width = edges ? ac.numel() / edges : 0;
  const float *ap = in(ac), *bp = bc.defined() ? in(bc) : nullptr;
  float* sp = out(sum);
  TORCH_CHECK(!b.defined() || b.sizes() == a.sizes(), "scatter: shapes ", a.sizes(), " and ", b.sizes());
  const int64_t* to = indices(index, edges, rows);
  const int64_t grain = std::max<int64_t>(16, GRAIN / std::max<int64_t>(edges, 1));
  at::parallel_for(0, width, grain, [&](int64_t begin, int64_t end) {
    for (int64_t e = 0; e < edges; e++) {
      const int64_t from = e * width + begin;
      kernels().add_product(end - begin, ap + from, bp ? bp + from : nullptr, sp + to[e] * width + begin);
    }
  });
  return sum;
}

const int64_t* indices(const Tensor& index, int64_t count, int64_t rows) {
  TORCH_CHECK(index.scalar_type() == at::kLong && index.is_contiguous() && index.numel() == count, "an index of ",
              index.sizes(), " for ", count, " rows");
  const int64_t* at = index.const_data_ptr<int64_t>();
  bool inside = true;
  for (int64_t i = 0; i < count; i++) inside &= at[i] >= 0 && at[i] < rows;
  TORCH_CHECK(inside, "an index beyond ", rows, " rows");
  return at;
}

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

struct Activation : Function<Activation> {
  static Tensor forward(AutogradContext* ctx, const Maybe& maybe_g, const Tensor& x, int64_t order, double scale) {
    const Tensor g = or_none(maybe_g);
    ctx->save_for_backward({g, x});
    ctx->saved_data["order"] = order;
    ctx->saved_data["scale"] = scale;
    return activate(g, x, order, scale);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &g = saved[0], &x = saved[1], &h = grads[0];
    const int64_t order = ctx->saved_data["order"].toInt();
    const double scale = ctx->saved_data["scale"].toDouble();
    Tensor dg, dx;
    // Edges are counted over the tensors that are there.
    if (g.defined() && ctx->needs_input_grad(0)) dg = apply(Maybe(h), x, order, scale);
    if (ctx->needs_input_grad(g.defined())) dx = apply(Maybe(g.defined() ? h * g : h), x, order + 1, scale);
    return {dg, dx, Tensor(), Tensor()};
  }
};

struct ProductFunction : Function<ProductFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& a, const Tensor& b, int64_t kind) {
    // Each is kept for the other's gradient only.
    ctx->save_for_backward({b.requires_grad() ? a : Tensor(), a.requires_grad() ? b : Tensor()});
    ctx->saved_data["kind"] = kind;
    return product(static_cast<Product>(kind), a, b);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &a = saved[0], &b = saved[1], &g = grads[0];
    const bool first = ctx->needs_input_grad(0), second = ctx->needs_input_grad(1);
    Tensor da, db;
    switch (static_cast<Product>(ctx->saved_data["kind"].toInt())) {
      case Product::NT:
        if (first) da = of(Product::NN, g, b);
        if (second) db = of(Product::TN, g, a);
        break;
      case Product::NN:
        if (first) da = of(Product::NT, g, b);
        if (second) db = of(Product::TN, a, g);
        break;
      case Product::TN:
        if (first) da = of(Product::NT, b, g);
        if (second) db = of(Product::NN, a, g);
        break;
    }
    return {da, db, Tensor()};
  }
  static Tensor of(Product kind, const Tensor& a, const Tensor& b) { return apply(a, b, static_cast<int64_t>(kind)); }
};

struct Batched : Function<Batched> {
  static Tensor forward(AutogradContext* ctx, const Tensor& a, const Tensor& b) {
    // Each is kept for the other's gradient only.
    ctx->save_for_backward({b.requires_grad() ? a : Tensor(), a.requires_grad() ? b : Tensor()});
    return batched_values(a, b);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    Tensor da, db;
    if (ctx->needs_input_grad(0)) da = apply(grads[0], saved[1].transpose(1, 2));
    if (ctx->needs_input_grad(1)) db = apply(saved[0].transpose(1, 2), grads[0]);
    return {da, db};
  }
};

struct Gather : Function<Gather> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& index) {
    ctx->save_for_backward({index});
    ctx->saved_data["rows"] = x.size(0);
    return x.index_select(0, index);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    return {scatter(grads[0], saved[0], ctx->saved_data["rows"].toInt()), Tensor()};
  }
};

struct Scatter : Function<Scatter> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& index, int64_t rows) {
    ctx->save_for_backward({index});
    return scatter_values(x, Tensor(), index, rows);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    return {gather(grads[0], saved[0]), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor activation(const Tensor& x) { return Activation::apply(Maybe(), x, 0, 1.0); }
Tensor slope(const Tensor& g, const Tensor& x, int64_t order, double scale) {
  return Activation::apply(Maybe(g), x, order, scale);
}
Tensor nt(const Tensor& a, const Tensor& b) { return ProductFunction::of(Product::NT, a, b); }
Tensor nn(const Tensor& a, const Tensor& b) { return ProductFunction::of(Product::NN, a, b); }
Tensor tn(const Tensor& a, const Tensor& b) { return ProductFunction::of(Product::TN, a, b); }
Tensor batched(const Tensor& a, const Tensor& b) { return Batched::apply(a, b); }
Tensor gather(const Tensor& x, const Tensor& index) { return Gather::apply(x, index); }
Tensor scatter(const Tensor& x, const Tensor& index, int64_t rows) { return Scatter::apply(x, index, rows); }

}  // namespace jmp
