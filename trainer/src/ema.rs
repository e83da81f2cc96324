//! Exponential moving average of the weights.

use tch::{Tensor, no_grad};

use crate::parameters::Parameters;

/// `average ← decay·average + (1 − decay)·weights` after each optimiser step.
///
/// It starts as a copy of the weights before the first step; the decay is not warmed up and no bias is corrected.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    average: Tensor,
}

impl Ema {
    /// The average before the first optimiser step.
    pub fn new(decay: f64, parameters: &Parameters) -> Self {
        Self { decay, average: no_grad(|| parameters.values().copy()) }
    }

    /// Share of the old average that each step keeps.
    pub fn decay(&self) -> f64 {
        self.decay
    }

    /// The average, `[p]`.
    pub fn average(&self) -> &Tensor {
        &self.average
    }

    /// Runs `work` with the average in the place of the weights, and puts the weights back.
    pub fn with_average<T>(&self, parameters: &mut Parameters, work: impl FnOnce() -> T) -> T {
        let mut values = parameters.values().shallow_clone();
        let kept = no_grad(|| values.copy());
        no_grad(|| values.copy_(&self.average));
        let result = work();
        no_grad(|| values.copy_(&kept));
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Clip;
    use crate::optim::{AdamW, AdamWRule};
    use tch::{Device, Kind, nn};

    /// Weights and average after a step that moves the weights from 0 to −1, in the given precision.
    fn after_a_step(kind: Kind) -> (f64, f64, f64) {
        let mut store = nn::VarStore::new(Device::Cpu);
        store.set_kind(kind);
        let x = store.root().zeros("x", &[2]);
        let mut parameters = Parameters::flatten(&store, 1, |_| 0).unwrap();
        let ema = Ema::new(0.9, &parameters);
        let rule = AdamWRule { betas: (0.9, 0.95), eps: 0.0, weight_decay: 0.0 };
        let mut optimizer = AdamW::new(rule, &parameters);
        parameters.zero_gradients();
        x.sum(kind).backward();
        optimizer.step(&mut parameters, &[1.0], Clip::None.bound(1.0), Some(&ema)).unwrap();
        let moved = x.double_value(&[0]);
        let inside = ema.with_average(&mut parameters, || x.double_value(&[0]));
        (moved, inside, x.double_value(&[0]))
    }

    #[test]
    fn the_first_step_already_moves_it_and_the_weights_come_back() {
        for kind in [Kind::Double, Kind::Float] {
            let (moved, inside, back) = after_a_step(kind);
            assert!((moved + 1.0).abs() < 1e-6 && (inside + 0.1).abs() < 1e-6, "{kind:?} {moved} {inside}");
            assert_eq!(back, moved);
        }
    }
}
