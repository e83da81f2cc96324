use std::f64::consts::FRAC_1_SQRT_2;

use tch::{Tensor, nn};

use super::Init;
use crate::native;

/// `x Wᵀ`, optionally followed by the scaled activation; no bias anywhere in the backbone.
#[derive(Debug)]
pub struct Dense {
    /// `[out, in]`, named `linear.weight`.
    pub weight: Tensor,
    activation: bool,
}

impl Dense {
    /// A linear map.
    pub(crate) fn linear(path: &nn::Path, input: i64, output: i64, init: Init) -> Self {
        let weight = init.weight(&(path / "linear"), "weight", &[output, input]);
        Self { weight, activation: false }
    }

    /// A linear map and the activation.
    pub(crate) fn activated(path: &nn::Path, input: i64, output: i64, init: Init) -> Self {
        Self { activation: true, ..Self::linear(path, input, output, init) }
    }

    /// `x [.., in]` to `[.., out]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let y = self.linear_part(x);
        if self.activation { native::activation(&y) } else { y }
    }

    /// `x Wᵀ` without the activation.
    pub(crate) fn linear_part(&self, x: &Tensor) -> Tensor {
        native::linear(x, &self.weight)
    }
}

/// Dropout, on or off for one forward pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dropout {
    /// Share of elements set to zero in training.
    pub share: f64,
    /// Whether this pass is one of training.
    pub train: bool,
}

impl Dropout {
    fn is_on(self) -> bool {
        self.train && self.share > 0.0
    }

    fn apply(self, x: Tensor) -> Tensor {
        if self.is_on() { x.dropout(self.share, true) } else { x }
    }
}

/// `(x + D₂(D₁(x))) / √2` with activated layers `D`.
#[derive(Debug)]
pub struct Residual {
    first: Dense,
    second: Dense,
}

impl Residual {
    /// Two square layers under `dense_mlp.0` and `dense_mlp.1`.
    pub(crate) fn new(path: &nn::Path, units: i64, init: Init) -> Self {
        let path = path / "dense_mlp";
        let layer = |i: i64| Dense::activated(&(&path / i), units, units, init);
        Self { first: layer(0), second: layer(1) }
    }

    /// Keeps the shape.
    pub fn forward(&self, x: &Tensor, dropout: Dropout) -> Tensor {
        let first = self.first.linear_part(x);
        let second = native::activated_linear(&first, &self.second.weight, None);
        if dropout.is_on() {
            return (x + dropout.apply(native::activation(&second))) * FRAC_1_SQRT_2;
        }
        native::residual(x, &second)
    }
}

/// `count` residual blocks named `0`, `1`, … from `first`.
pub(crate) fn residuals(path: &nn::Path, first: i64, count: i64, units: i64, init: Init) -> Vec<Residual> {
    (first..first + count).map(|i| Residual::new(&(path / i), units, init)).collect()
}

/// Applies blocks in order.
pub(crate) fn chain(blocks: &[Residual], x: Tensor, dropout: Dropout) -> Tensor {
    blocks.iter().fold(x, |x, block| block.forward(&x, dropout))
}
