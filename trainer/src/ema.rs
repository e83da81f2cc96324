//! Exponential moving average of the weights.

use tch::{Tensor, no_grad};

use crate::parameters::{Parameters, chunks, slice};

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

    /// Takes in the weights after an optimiser step.
    pub fn update(&mut self, parameters: &Parameters) {
        for piece in chunks(0..parameters.len()) {
            let mut average = slice(&self.average, &piece);
            let _ = no_grad(|| average.lerp_(&slice(parameters.values(), &piece), 1.0 - self.decay));
        }
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
    use tch::{Device, nn};

    #[test]
    fn the_first_step_already_moves_it_and_the_weights_come_back() {
        let mut store = nn::VarStore::new(Device::Cpu);
        let x = store.root().zeros("x", &[2]);
        store.double();
        let mut parameters = Parameters::flatten(&store, 1, |_| 0).unwrap();
        let mut ema = Ema::new(0.9, &parameters);
        let _ = no_grad(|| parameters.values().shallow_clone().fill_(1.0));
        ema.update(&parameters);
        let inside = ema.with_average(&mut parameters, || x.double_value(&[0]));
        assert!((inside - 0.1).abs() < 1e-15);
        assert_eq!(x.double_value(&[0]), 1.0);
    }
}
