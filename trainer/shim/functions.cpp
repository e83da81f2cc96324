#include "functions.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels.h"
#include "primitives.h"

namespace jmp {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

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
      TORCH_CHECK(x.sizes() == gate.sizes() && inner.sizes() == gate.sizes(), "gated_linear: shapes ", x.sizes(), " and ",
                  gate.sizes());
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
      TORCH_CHECK(mc.sizes() == gate.sizes() && g.sizes() == gate.sizes(), "gated_sum: shapes ", mc.sizes(), " and ", gate.sizes());
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
  TORCH_CHECK(a.sizes() == b.sizes(), "shapes ", a.sizes(), " and ", b.sizes());
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
    TORCH_CHECK(a.size(1) == width && b.size(1) == width, "edge_sum: widths ", width, ", ", a.size(1), ", ", b.size(1));
    const int64_t *s = indices(source, x.size(0), a.size(0)), *t = indices(target, x.size(0), b.size(0));
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

}  // namespace jmp
