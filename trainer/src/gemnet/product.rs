use tch::{Device, Kind, Tensor};

use super::GemNetConfig;

/// Sides of a weight from which oneDNN's product repays the copies into and out of its layout.
const WIDE: i64 = 128;

/// Which library multiplies wide single-precision matrices on a CPU.
///
/// libtorch's own `linear` calls MKL, which keeps to AVX2 on processors that are not Intel's; oneDNN uses AVX-512 there
/// and is about twice as fast. Its product has a first derivative but no second one in libtorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Product {
    /// libtorch's choice; differentiable any number of times.
    Libtorch,
    /// oneDNN where it is quicker; differentiable once.
    OneDnn,
}

impl Product {
    /// oneDNN if forces are an output of the network, not its derivative, and libtorch was built with it.
    pub(crate) fn of(config: &GemNetConfig) -> Self {
        if config.direct_forces && tch::utils::has_mkldnn() { Self::OneDnn } else { Self::Libtorch }
    }

    /// `x Wᵀ + b`: `[i, in]`, `[out, in]`, `[out]` to `[i, out]`.
    pub(crate) fn linear(self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        if self == Self::OneDnn && suits(x, weight) {
            x.to_mkldnn().mkldnn_linear(weight, bias).to_dense(None::<Kind>, false)
        } else {
            x.linear(weight, bias)
        }
    }
}

fn suits(x: &Tensor, weight: &Tensor) -> bool {
    let size = x.size();
    size.len() == 2
        && size[0] > 0
        && weight.size().iter().all(|side| *side >= WIDE)
        && x.device() == Device::Cpu
        && x.kind() == Kind::Float
        && weight.kind() == Kind::Float
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values and first derivatives of both products agree to rounding.
    #[test]
    fn both_products_agree() {
        tch::manual_seed(1);
        let random = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let (x, weight, bias) = (random(&[37, 160]), random(&[129, 160]), random(&[129]));
        let wanted = random(&[37, 129]).detach();
        let run = |product: Product| {
            let y = product.linear(&x, &weight, Some(&bias));
            let loss = (&y * &wanted).sum(Kind::Float);
            let mut all = Tensor::run_backward(&[loss], &[&x, &weight, &bias], false, false);
            all.push(y.detach());
            all
        };
        for (plain, fast) in run(Product::Libtorch).iter().zip(run(Product::OneDnn)) {
            let error = (plain - fast).abs().max().double_value(&[]);
            assert!(error < 1e-4, "off by {error}");
        }
    }
}
