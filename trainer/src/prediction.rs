//! What a model says about a batch.

use tch::{Kind, Tensor};

/// Predictions in normalised units, each structure's by the heads of its own task.
#[derive(Debug)]
pub struct Prediction {
    /// Energies or the property that was learnt (a class's logit, where classes were), `[g]`.
    pub energy: Tensor,
    /// Forces, `[n, 3]`, unless the model gives none.
    pub forces: Option<Tensor>,
}

/// Predictions in normalised units on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostPrediction {
    /// Energies or the property that was learnt, `[g]`.
    pub energy: Vec<f64>,
    /// Forces, flat `[3n]`.
    pub forces: Option<Vec<f64>>,
}

impl Prediction {
    /// Copies the values to the host.
    pub fn to_host(&self) -> Result<HostPrediction, tch::TchError> {
        let host = |t: &Tensor| Vec::<f64>::try_from(t.detach().to_kind(Kind::Double).flatten(0, -1));
        Ok(HostPrediction {
            energy: host(&self.energy)?,
            forces: self.forces.as_ref().map(host).transpose()?,
        })
    }
}
