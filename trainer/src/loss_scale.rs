//! The factor that keeps gradients of 16-bit activations from vanishing.

use serde::{Deserialize, Serialize};

/// Steps without overflow after which the scale grows.
const PATIENCE: u32 = 2000;
/// Largest scale.
const LARGEST: f64 = 16_777_216.0;

/// A loss scale that halves when gradients overflow and doubles when they have not for a while, as PyTorch's
/// `GradScaler` does with its defaults.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    #[serde(deserialize_with = "in_range")]
    scale: f64,
    good_steps: u32,
}

fn in_range<'de, D: serde::Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let scale = f64::deserialize(from)?;
    if (1.0..=LARGEST).contains(&scale) {
        return Ok(scale);
    }
    Err(serde::de::Error::custom(format!("loss scale {scale}: expected 1 to {LARGEST}")))
}

impl Default for LossScale {
    fn default() -> Self {
        Self { scale: 65_536.0, good_steps: 0 }
    }
}

impl LossScale {
    /// What the loss is multiplied by before the backward pass.
    pub fn get(self) -> f64 {
        self.scale
    }

    /// The scale after a step whose gradient was finite or not.
    #[must_use]
    pub fn after(self, finite: bool) -> Self {
        if !finite {
            return Self { scale: (self.scale / 2.0).max(1.0), good_steps: 0 };
        }
        if self.good_steps + 1 < PATIENCE {
            return Self { good_steps: self.good_steps + 1, ..self };
        }
        Self { scale: (self.scale * 2.0).min(LARGEST), good_steps: 0 }
    }

    /// Whether an overflow can still be answered by a smaller scale.
    pub fn can_shrink(self) -> bool {
        self.scale > 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_at_once_and_doubles_after_two_thousand_steps() {
        let shrunk = LossScale::default().after(false);
        assert_eq!(shrunk.get(), 32_768.0);
        let grown = (0..1999).fold(shrunk, |scale, _| scale.after(true));
        assert_eq!(grown.get(), 32_768.0);
        assert_eq!(grown.after(true).get(), 65_536.0);
        let least = (0..40).fold(shrunk, |scale, _| scale.after(false));
        assert_eq!((least.get(), least.can_shrink()), (1.0, false));
    }
}
