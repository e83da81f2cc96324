use std::cell::RefCell;

use tch::{Kind, Tensor, nn, no_grad};

/// Sums that [`ScaleFactor::fitted`] is computed from.
#[derive(Debug, Clone, Copy, Default)]
struct Observed {
    output: f64,
    reference: f64,
    samples: f64,
}

/// A fitted constant that keeps the variance of activations; 0 in its buffer means "not fitted", which acts as 1.
///
/// Multiplying an activation by it equals multiplying the small weight before: so it is applied to weights.
#[derive(Debug)]
pub struct ScaleFactor {
    /// Full name of the buffer.
    pub name: String,
    value: Tensor,
    observed: RefCell<Option<Observed>>,
}

impl ScaleFactor {
    /// A scalar buffer `scale_factor` under `path`, unfitted.
    pub fn new(path: &nn::Path) -> Self {
        let zero = Tensor::zeros([], (path.kind(), path.device()));
        let name = path.components().chain(["scale_factor"]).collect::<Vec<_>>().join(".");
        Self { name, value: path.add("scale_factor", zero, false), observed: RefCell::new(None) }
    }

    /// The weight times the factor, or the weight itself while the factor is not fitted.
    pub(crate) fn fold(&self, weight: &Tensor) -> Tensor {
        let unfitted = self.value.eq(0.0);
        weight * self.value.masked_fill(&unfitted, 1.0)
    }

    /// Whether the buffer holds a fitted value.
    pub fn is_fitted(&self) -> bool {
        self.value.double_value(&[]) != 0.0
    }

    /// Stores a value.
    pub fn set(&self, value: f64) {
        no_grad(|| {
            let _ = self.value.shallow_clone().fill_(value);
        });
    }

    /// Whether outputs are watched now.
    pub(crate) fn is_watched(&self) -> bool {
        self.observed.borrow().is_some()
    }

    /// Starts watching the outputs that the factor scales.
    pub fn observe(&self) {
        *self.observed.borrow_mut() = Some(Observed::default());
    }

    /// Ends watching; the factor that brings the output's variance to the reference's, if anything was seen.
    ///
    /// GemNet's rule (arXiv:2106.08903, App. D): `√(target variance / observed variance)`.
    pub fn fitted(&self) -> Option<f64> {
        let seen = self.observed.borrow_mut().take()?;
        (seen.samples > 0.0 && seen.output > 0.0).then(|| (seen.reference / seen.output).sqrt())
    }

    /// Notes the variances of a scaled output and of its reference, each weighed by its number of rows.
    pub(crate) fn see(&self, output: &Tensor, reference: &Tensor) {
        if let Some(seen) = self.observed.borrow_mut().as_mut() {
            let rows = output.size()[0] as f64;
            if rows > 1.0 && reference.size()[0] > 1 {
                let variance = |x: &Tensor| {
                    no_grad(|| x.to_kind(Kind::Double).var_dim(0, true, false).mean(Kind::Double))
                };
                seen.output += variance(output).double_value(&[]) * rows;
                seen.reference += variance(reference).double_value(&[]) * rows;
                seen.samples += rows;
            }
        }
    }
}
