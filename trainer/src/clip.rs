//! Gradient clipping: by total norm (pre-training) or element by element (fine-tuning).

use serde::{Deserialize, Serialize};

use crate::parameters::{Parameters, norm};

/// Added to the norm before dividing by it, as PyTorch does.
const NORM_EPS: f64 = 1e-6;

/// How gradients are bounded before the optimiser sees them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Clip {
    /// Scales all gradients so that their total L2 norm is at most this.
    Norm(f64),
    /// Cuts every element to ± this.
    Value(f64),
    /// Leaves them alone.
    None,
}

impl Clip {
    /// Clips in place and returns the total norm before.
    pub fn apply(self, parameters: &mut Parameters) -> f64 {
        let total = norm(parameters.gradients());
        let mut gradients = parameters.gradients().shallow_clone();
        match self {
            Self::Norm(limit) => {
                let factor = limit / (total + NORM_EPS);
                if factor < 1.0 {
                    let _ = gradients.g_mul_scalar_(factor);
                }
            }
            Self::Value(limit) => {
                let _ = gradients.clamp_(-limit, limit);
            }
            Self::None => {}
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, nn};

    fn gradients(values: &[f32], clip: Clip) -> (f64, Vec<f32>) {
        let store = nn::VarStore::new(Device::Cpu);
        let x = store.root().zeros("x", &[values.len() as i64]);
        let mut parameters = Parameters::flatten(&store, 1, |_| 0).unwrap();
        parameters.zero_gradients();
        (x * tch::Tensor::from_slice(values)).sum(Kind::Float).backward();
        let total = clip.apply(&mut parameters);
        (total, Vec::try_from(parameters.gradients()).unwrap())
    }

    #[test]
    fn by_norm_keeps_the_direction() {
        let (total, clipped) = gradients(&[3.0, -4.0], Clip::Norm(1.0));
        assert_eq!(total, 5.0);
        assert!((clipped[0] - 0.6).abs() < 1e-6 && (clipped[1] + 0.8).abs() < 1e-6);
        assert_eq!(gradients(&[0.3, -0.4], Clip::Norm(1.0)).1, [0.3, -0.4]);
    }

    #[test]
    fn by_value_keeps_small_elements() {
        assert_eq!(gradients(&[3.0, -4.0, 0.5], Clip::Value(1.0)).1, [1.0, -1.0, 0.5]);
    }
}
