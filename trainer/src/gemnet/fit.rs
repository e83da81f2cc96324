use tch::no_grad;

use super::{Backbone, ScaleFactor};

/// What fitting did to one scale factor.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedScale {
    /// Name of its buffer.
    pub name: String,
    /// The value set; `None` where no batch reached the factor (no quadruplets, say), which stays unfitted.
    pub value: Option<f64>,
}

/// Fits every unfitted scale factor in the order in which a forward pass meets them; fitted ones are kept.
///
/// GemNet's procedure (arXiv:2106.08903, App. D): each factor brings the variance of what it scales to that of its
/// reference, given the factors before it. So `forward` is called once a factor and must run the same batches each
/// time; a few hundred structures are enough.
///
/// # Errors
/// The first error of `forward`.
pub fn fit_scale_factors<E>(
    backbone: &Backbone,
    mut forward: impl FnMut(&Backbone) -> Result<(), E>,
) -> Result<Vec<FittedScale>, E> {
    let unfitted = backbone.scale_factors().into_iter().filter(|factor| !factor.is_fitted());
    unfitted
        .map(|factor: &ScaleFactor| {
            factor.observe();
            no_grad(|| forward(backbone))?;
            let value = factor.fitted();
            if let Some(value) = value {
                factor.set(value);
            }
            Ok(FittedScale { name: factor.name.clone(), value })
        })
        .collect()
}
