//! One pass over all parameters.

use tch::{Device, Kind, Tensor};

use super::ffi;

/// One AdamW step with clipping and the average of the weights, in one pass over memory.
#[derive(Debug, Clone, Copy)]
pub struct AdamWStep(ffi::Rule);

/// What the step does, in the terms of [`crate::optim`].
#[derive(Debug, Clone, Copy)]
pub struct AdamWFactors {
    /// `1 − lr·weight decay`.
    pub decay: f64,
    /// `1 − β₁` and `1 − β₂`.
    pub rates: (f64, f64),
    /// `lr / (1 − β₁ᵗ)`.
    pub step: f64,
    /// `√(1 − β₂ᵗ)`.
    pub correction: f64,
    /// Added to the root.
    pub eps: f64,
    /// What the gradient is multiplied by.
    pub gradient_scale: f64,
    /// Bound of each element of the gradient.
    pub limit: Option<f64>,
    /// `1 − decay` of the average.
    pub average: f64,
}

impl AdamWStep {
    /// The step, rounded to single precision.
    pub fn new(factors: &AdamWFactors) -> Self {
        Self(ffi::Rule {
            decay: factors.decay as f32,
            first: factors.rates.0 as f32,
            second: factors.rates.1 as f32,
            step: factors.step as f32,
            root: (1.0 / factors.correction) as f32,
            eps: factors.eps as f32,
            gradient_scale: factors.gradient_scale as f32,
            limit: factors.limit.unwrap_or(f64::INFINITY) as f32,
            average: factors.average as f32,
        })
    }

    /// Whether these tensors can be stepped in one pass: contiguous, single precision, on the CPU.
    pub fn suits(tensor: &Tensor) -> bool {
        is_plain(tensor)
    }

    /// Steps `[value, gradient, first moment, second moment]`, and the average if there is one; all of one length.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn apply(&self, tensors: [&Tensor; 4], average: Option<&Tensor>) -> Result<(), tch::TchError> {
        assert!(tensors.into_iter().chain(average).all(|t| is_plain(t) && t.numel() == tensors[0].numel()));
        ffi::adamw(tensors, average, &self.0).map_err(tch::TchError::Torch)
    }
}

fn is_plain(tensor: &Tensor) -> bool {
    tensor.device() == Device::Cpu && tensor.kind() == Kind::Float && tensor.is_contiguous()
}

/// `Σ x²` in double precision, the same for any number of threads; `None` for tensors that only libtorch can sum.
pub fn sum_of_squares(tensor: &Tensor) -> Option<f64> {
    is_plain(tensor).then(|| ffi::sum_of_squares(tensor).ok()).flatten()
}
