use tch::{Kind, Tensor, nn};

use super::GemNetConfig;

/// `u(x) · exp(−|t_i| (x − o_i)²)` of the scaled distance `x = d / cutoff`, with the polynomial envelope
/// `u(x) = 1 − (p+1)(p+2)/2 xᵖ + p(p+2) xᵖ⁺¹ − p(p+1)/2 xᵖ⁺²` below 1 and 0 from there on.
#[derive(Debug)]
pub(crate) struct RadialBasis {
    offset: Tensor,
    temperature: Tensor,
    cutoff: f64,
    exponent: i32,
}

impl RadialBasis {
    /// Buffers `rbf.offset` and `rbf.temps` under `path`.
    pub(crate) fn new(path: &nn::Path, config: &GemNetConfig) -> Self {
        let (path, radial) = (path / "rbf", config.num_radial);
        let options = (path.kind(), path.device());
        let step = 1.0 / (radial - 1) as f64;
        // Centres and widths are made in double precision and rounded once.
        let offset = Tensor::linspace(0.0, 1.0, radial, (Kind::Double, path.device())).to_kind(options.0);
        let temperature = Tensor::full([radial], 0.5 / (step * step), options);
        Self {
            offset: path.add("offset", offset, false),
            temperature: path.add("temps", temperature, false),
            cutoff: config.absolute_rbf_cutoff,
            exponent: config.envelope_exponent,
        }
    }

    /// Distances `[e]` in double precision, Å, to `[e, r]` in the network's.
    pub(crate) fn forward(&self, distance: &Tensor) -> Tensor {
        let kind = self.offset.kind();
        let scaled = distance / self.cutoff;
        let envelope = self.envelope(&scaled).to_kind(kind).unsqueeze(1);
        let difference = scaled.to_kind(kind).unsqueeze(1) - &self.offset;
        envelope * (difference.square() * -self.temperature.abs()).exp()
    }

    fn envelope(&self, x: &Tensor) -> Tensor {
        let p = f64::from(self.exponent);
        let (a, b, c) = ((p + 1.0) * (p + 2.0) / 2.0, p * (p + 2.0), p * (p + 1.0) / 2.0);
        let inside: Tensor = 1.0 - x.pow_tensor_scalar(p) * ((x * x * c - x * b) + a);
        inside.where_self(&x.lt(1.0), &x.zeros_like())
    }
}
