#include "functions.h"

#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels.h"
#include "product.h"

namespace jmp {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// A tensor argument that may be missing; libtorch takes no undefined tensors as arguments of a function.
using Maybe = std::optional<Tensor>;
Maybe maybe(const Tensor& x) { return x.defined() ? Maybe(x) : std::nullopt; }
Tensor or_none(const Maybe& x) { return x ? *x : Tensor(); }

constexpr double SCALE = 1.0 / 0.6;
constexpr double HALF = 0.70710678118654752440;
// Elements that one thread should have at least.
constexpr int64_t GRAIN = 1 << 14;

bool quick(const Tensor& x) { return x.device().is_cpu() && x.scalar_type() == at::kFloat; }
const float* in(const Tensor& x) { return x.const_data_ptr<float>(); }
float* out(const Tensor& x) { return x.mutable_data_ptr<float>(); }

// Derivatives of sigma by libtorch's operations: other precisions and devices.
Tensor sigma(const Tensor& x, int64_t order) {
  const Tensor s = x.sigmoid();
  if (order == 0) return x * s * SCALE;
  const Tensor d = s * (1.0 - s);
  if (order == 1) return (s + x * d) * SCALE;
  if (order == 2) return d * (2.0 + x * (1.0 - 2.0 * s)) * SCALE;
  TORCH_CHECK(order == 3, "the activation has derivatives up to the third");
  return d * (3.0 * (1.0 - 2.0 * s) + x * (1.0 - 6.0 * d)) * SCALE;
}

// scale * [g *] sigma^(order)(x); writes over g if it may.
Tensor activate(const Tensor& g, const Tensor& x, int64_t order, double scale, bool over_g = false) {
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

// scale * g * sigma^(order)(x)
Tensor slope(const Tensor& g, const Tensor& x, int64_t order = 1, double scale = 1.0) {
  return Activation::apply(Maybe(g), x, order, scale);
}

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

Tensor nt(const Tensor& a, const Tensor& b) { return ProductFunction::of(Product::NT, a, b); }
Tensor nn(const Tensor& a, const Tensor& b) { return ProductFunction::of(Product::NN, a, b); }
Tensor tn(const Tensor& a, const Tensor& b) { return ProductFunction::of(Product::TN, a, b); }

// Products of many small matrices, any strides: libtorch's bmm spends most of its time between them.
Tensor batched_values(const Tensor& a, const Tensor& b) {
  RECORD_FUNCTION("jmp::batched", std::vector<c10::IValue>({a, b}));
  // Large matrices are libtorch's business.
  constexpr int64_t LARGE = 128 * 1024;
  const int64_t count = a.size(0), m = a.size(1), k = a.size(2), n = b.size(2);
  if (!quick(a) || m * k > LARGE || k * n > LARGE || k == 0) return a.bmm(b);
  const Tensor c = at::empty({count, m, n}, a.options());
  const float *ap = in(a), *bp = in(b);
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
  const int64_t* to = index.const_data_ptr<int64_t>();
  const int64_t grain = std::max<int64_t>(16, GRAIN / std::max<int64_t>(edges, 1));
  at::parallel_for(0, width, grain, [&](int64_t begin, int64_t end) {
    for (int64_t e = 0; e < edges; e++) {
      const int64_t from = e * width + begin;
      kernels().add_product(end - begin, ap + from, bp ? bp + from : nullptr, sp + to[e] * width + begin);
    }
  });
  return sum;
}

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

struct ActivatedLinear : Function<ActivatedLinear> {
  static Tensor forward(AutogradContext* ctx, const Tensor& pre, const Tensor& weight, const Maybe& bias) {
    ctx->save_for_backward({pre, weight});
    ctx->saved_data["bias"] = bias.has_value();
    Tensor y = product(Product::NT, activate(Tensor(), pre, 0, 1.0), weight);
    return bias ? y.add_(*bias) : y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &pre = saved[0], &weight = saved[1], &g = grads[0];
    Tensor dpre, dweight, dbias;
    if (ctx->needs_input_grad(1)) dweight = tn(g, jmp::activation(pre));
    if (ctx->needs_input_grad(0)) {
      const Tensor ga = nn(g, weight);
      dpre = at::GradMode::is_enabled() ? slope(ga, pre) : activate(ga, pre, 1, 1.0, true);
    }
    if (ctx->saved_data["bias"].toBool() && ctx->needs_input_grad(2)) dbias = g.sum(0);
    return {dpre, dweight, dbias};
  }
};

Tensor rows_at(const Tensor& x, const Tensor& index) { return index.defined() ? gather(x, index) : x; }

struct GatedLinear : Function<GatedLinear> {
  static Tensor forward(AutogradContext* ctx, const Tensor& pre, const Maybe& maybe_index, const Tensor& radial,
                        const Tensor& radial_weight, const Tensor& weight, bool activated) {
    const Tensor index = or_none(maybe_index);
    ctx->save_for_backward({pre, index, radial, radial_weight, weight});
    ctx->saved_data["activated"] = activated;
    Tensor gate = product(Product::NT, radial, radial_weight);
    const Tensor rows = index.defined() ? pre.index_select(0, index) : pre;
    gate = activated ? activate(gate, rows, 0, 1.0, true) : gate.mul_(rows);
    return product(Product::NT, gate, weight);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &pre = saved[0], &index = saved[1], &radial = saved[2], &radial_weight = saved[3], &weight = saved[4];
    const Tensor& g = grads[0];
    const bool activated = ctx->saved_data["activated"].toBool();
    const Tensor rows = rows_at(pre, index);
    Tensor gate = nt(radial, radial_weight), inner = nn(g, weight), gated;
    if (activated && !at::GradMode::is_enabled() && quick(rows)) {
      gated = at::empty_like(gate);
      const Tensor x = rows.contiguous();
      const float* xp = in(x);
      float *ip = out(inner), *gp = out(gate), *op = out(gated);
      at::parallel_for(0, x.numel(), GRAIN, [&](int64_t begin, int64_t end) {
        kernels().gate_backward(end - begin, xp + begin, ip + begin, gp + begin, op + begin);
      });
    } else {
      const Tensor x = activated ? jmp::activation(rows) : rows;
      gated = x * gate;
      const Tensor dgate = inner * x;
      inner = activated ? slope(inner * gate, rows) : inner * gate;
      gate = dgate;
    }
    // From here inner is the gradient of the rows and gate that of the gate.
    Tensor dpre, dradial, dradial_weight, dweight;
    const size_t edge = index.defined() ? 2 : 1;
    if (ctx->needs_input_grad(edge + 2)) dweight = tn(g, gated);
    if (ctx->needs_input_grad(edge + 1)) dradial_weight = tn(gate, radial);
    if (ctx->needs_input_grad(edge)) dradial = nn(gate, radial_weight);
    if (ctx->needs_input_grad(0)) dpre = index.defined() ? scatter(inner, index, pre.size(0)) : inner;
    return {dpre, Tensor(), dradial, dradial_weight, dweight, Tensor()};
  }
};

struct GatedSum : Function<GatedSum> {
  static Tensor forward(AutogradContext* ctx, const Tensor& m, const Tensor& radial, const Tensor& radial_weight,
                        const Tensor& target, int64_t rows) {
    ctx->save_for_backward({m, radial, radial_weight, target});
    return scatter_values(m, product(Product::NT, radial, radial_weight), target, rows);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &m = saved[0], &radial = saved[1], &radial_weight = saved[2], &target = saved[3];
    Tensor gate = nt(radial, radial_weight), dgate;
    const Tensor g = gather(grads[0], target);
    if (!at::GradMode::is_enabled() && quick(m)) {
      dgate = at::empty_like(gate);
      const Tensor mc = m.contiguous();
      const float *gp = in(g), *mp = in(mc);
      float *ap = out(gate), *bp = out(dgate);
      // gate <- g * m ... exchanged so that dgate ends as g * gate: the gradient of m.
      at::parallel_for(0, mc.numel(), GRAIN, [&](int64_t begin, int64_t end) {
        kernels().cross_product(end - begin, gp + begin, ap + begin, mp + begin, bp + begin);
      });
      std::swap(gate, dgate);
    } else {
      dgate = g * m;
      gate = g * gate;
    }
    // From here gate is the gradient of m, dgate that of the gate.
    Tensor dradial, dradial_weight;
    if (ctx->needs_input_grad(1)) dradial = nn(dgate, radial_weight);
    if (ctx->needs_input_grad(2)) dradial_weight = tn(dgate, radial);
    return {gate, dradial, dradial_weight, Tensor(), Tensor()};
  }
};

struct Bilinear : Function<Bilinear> {
  static Tensor flat(const Tensor& received) { return received.reshape({received.size(0), received.size(1) * received.size(2)}); }
  static Tensor forward(AutogradContext* ctx, const Tensor& circular, const Tensor& sums, const Tensor& weight) {
    ctx->save_for_backward({circular, sums, weight});
    return product(Product::NT, flat(batched_values(circular, sums)), weight);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &circular = saved[0], &sums = saved[1], &weight = saved[2], &g = grads[0];
    Tensor dcircular, dsums, dweight;
    if (ctx->needs_input_grad(2)) dweight = tn(g, flat(batched(circular, sums)));
    if (ctx->needs_input_grad(0) || ctx->needs_input_grad(1)) {
      const Tensor inner = nn(g, weight).view({circular.size(0), circular.size(1), sums.size(2)});
      if (ctx->needs_input_grad(0)) dcircular = batched(inner, sums.transpose(1, 2));
      if (ctx->needs_input_grad(1)) dsums = batched(circular.transpose(1, 2), inner);
    }
    return {dcircular, dsums, dweight};
  }
};

// scale * loop(a, b) over all elements
template <class Loop>
Tensor combine(const Tensor& a, const Tensor& b, Loop loop) {
  const Tensor ac = a.contiguous(), bc = b.contiguous(), y = at::empty_like(ac);
  const float *ap = in(ac), *bp = in(bc);
  float* yp = out(y);
  at::parallel_for(0, ac.numel(), GRAIN, [&](int64_t begin, int64_t end) {
    loop(end - begin, ap + begin, bp + begin, static_cast<float>(HALF), yp + begin);
  });
  return y;
}

struct Residual : Function<Residual> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& pre) {
    ctx->save_for_backward({pre});
    return quick(x) ? combine(x, pre, kernels().residual) : (x + sigma(pre, 0)) * HALF;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    return {grads[0] * HALF, slope(grads[0], saved[0], 1, HALF)};
  }
};

struct HalfSum : Function<HalfSum> {
  static Tensor forward(AutogradContext*, const Tensor& a, const Tensor& b) {
    return quick(a) ? combine(a, b, kernels().sum) : (a + b) * HALF;
  }
  static variable_list backward(AutogradContext*, variable_list grads) {
    const Tensor g = grads[0] * HALF;
    return {g, g};
  }
};

struct SymmetricUpdate : Function<SymmetricUpdate> {
  static Tensor forward(AutogradContext* ctx, const Tensor& s, const Tensor& a, const Tensor& b, const Tensor& reverse) {
    ctx->save_for_backward({s, a, b, reverse});
    const Tensor own = product(Product::NT, s, a), other = product(Product::NT, s.index_select(0, reverse), b);
    return quick(s) ? combine(own, other, kernels().activated_sum) : (sigma(own, 0) + sigma(other, 0)) * HALF;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &s = saved[0], &a = saved[1], &b = saved[2], &reverse = saved[3], &g = grads[0];
    const Tensor reversed = gather(s, reverse);
    const Tensor own = slope(g, nt(s, a), 1, HALF), other = slope(g, nt(reversed, b), 1, HALF);
    Tensor ds, da, db;
    // reverse is its own inverse: what was gathered by it is scattered by gathering again.
    if (ctx->needs_input_grad(0)) ds = nn(own, a) + gather(nn(other, b), reverse);
    if (ctx->needs_input_grad(1)) da = tn(own, s);
    if (ctx->needs_input_grad(2)) db = tn(other, reversed);
    return {ds, da, db, Tensor()};
  }
};

// x + a[source] + b[target]
struct EdgeSum : Function<EdgeSum> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& a, const Tensor& source, const Tensor& b,
                        const Tensor& target) {
    ctx->save_for_backward({source, target});
    ctx->saved_data["rows"] = a.size(0);
    if (!quick(x)) return x + a.index_select(0, source) + b.index_select(0, target);
    const Tensor y = x.clone(), ac = a.contiguous(), bc = b.contiguous();
    const float *ap = in(ac), *bp = in(bc);
    float* yp = out(y);
    const int64_t width = x.size(1);
    const int64_t *s = source.const_data_ptr<int64_t>(), *t = target.const_data_ptr<int64_t>();
    at::parallel_for(0, x.size(0), std::max<int64_t>(1, GRAIN / width), [&](int64_t begin, int64_t end) {
      for (int64_t e = begin; e < end; e++) {
        kernels().add_product(width, ap + s[e] * width, nullptr, yp + e * width);
        kernels().add_product(width, bp + t[e] * width, nullptr, yp + e * width);
      }
    });
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const int64_t rows = ctx->saved_data["rows"].toInt();
    return {grads[0], scatter(grads[0], saved[0], rows), Tensor(), scatter(grads[0], saved[1], rows), Tensor()};
  }
};

}  // namespace

Tensor activation(const Tensor& x) { return Activation::apply(Maybe(), x, 0, 1.0); }
Tensor linear(const Tensor& x, const Tensor& weight) { return nt(x, weight); }
Tensor activated_linear(const Tensor& pre, const Tensor& weight, const Tensor& bias) {
  return ActivatedLinear::apply(pre, weight, maybe(bias));
}
Tensor gated_linear(const Tensor& pre, const Tensor& index, const Tensor& radial, const Tensor& radial_weight,
                    const Tensor& weight, bool activated) {
  return GatedLinear::apply(pre, maybe(index), radial, radial_weight, weight, activated);
}
Tensor gated_sum(const Tensor& m, const Tensor& radial, const Tensor& radial_weight, const Tensor& target, int64_t rows) {
  return GatedSum::apply(m, radial, radial_weight, target, rows);
}
Tensor batched(const Tensor& a, const Tensor& b) { return Batched::apply(a, b); }
Tensor bilinear(const Tensor& circular, const Tensor& sums, const Tensor& weight) {
  return Bilinear::apply(circular, sums, weight);
}
Tensor residual(const Tensor& x, const Tensor& pre) { return Residual::apply(x, pre); }
Tensor half_sum(const Tensor& a, const Tensor& b) { return HalfSum::apply(a, b); }
Tensor symmetric_update(const Tensor& s, const Tensor& a, const Tensor& b, const Tensor& reverse) {
  return SymmetricUpdate::apply(s, a, b, reverse);
}
Tensor edge_sum(const Tensor& x, const Tensor& a, const Tensor& source, const Tensor& b, const Tensor& target) {
  return activation(EdgeSum::apply(x, a, source, b, target));
}
Tensor gather(const Tensor& x, const Tensor& index) { return Gather::apply(x, index); }
Tensor scatter(const Tensor& x, const Tensor& index, int64_t rows) { return Scatter::apply(x, index, rows); }

}  // namespace jmp
