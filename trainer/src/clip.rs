//! Gradient clipping: by total norm (pre-training) or element by element (fine-tuning).

use serde::{Deserialize, Serialize};

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

/// What clipping does to each element of a gradient: it is multiplied, then cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// Multiplies the gradient; 1 leaves it as it is.
    pub scale: f64,
    /// Cuts every element to ± this.
    pub limit: Option<f64>,
}

impl Clip {
    /// The bound for a gradient whose total L2 norm is `norm`.
    pub fn bound(self, norm: f64) -> Bound {
        let scale = match self {
            Self::Norm(limit) => (limit / (norm + NORM_EPS)).min(1.0),
            Self::Value(_) | Self::None => 1.0,
        };
        Bound { scale, limit: if let Self::Value(limit) = self { Some(limit) } else { None } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_norm_keeps_the_direction() {
        let Bound { scale, limit } = Clip::Norm(1.0).bound(5.0);
        assert!((scale - 0.2).abs() < 1e-6 && limit.is_none());
        assert_eq!(Clip::Norm(1.0).bound(0.5).scale, 1.0);
    }

    #[test]
    fn by_value_cuts_elements() {
        assert_eq!(Clip::Value(1.0).bound(5.0), Bound { scale: 1.0, limit: Some(1.0) });
        assert_eq!(Clip::None.bound(5.0), Bound { scale: 1.0, limit: None });
    }
}
