//! AdamW on the flat parameter buffer, with a state that can be saved and restored to the bit.

use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor, no_grad};

use crate::clip::Bound;
use crate::ema::Ema;
use crate::native::{AdamWFactors, AdamWStep};
use crate::parameters::{Parameters, piece_size, pieces, slice};

/// Settings of AdamW (Loshchilov & Hutter, arXiv:1711.05101).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamWRule {
    /// Decay of the first and of the second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment after bias correction.
    pub eps: f64,
    /// Decoupled weight decay, on every parameter.
    pub weight_decay: f64,
}

/// AdamW and its moments.
#[derive(Debug)]
pub struct AdamW {
    rule: AdamWRule,
    /// What the moments have seen: a step that is skipped or passed over is none, though the schedule counts it.
    updates: u64,
    first: Tensor,
    second: Tensor,
    /// Elements that tch's operations take at once.
    piece: i64,
}

impl AdamW {
    /// An optimiser before its first step.
    pub fn new(rule: AdamWRule, parameters: &Parameters) -> Self {
        let piece = piece_size(parameters.values().device());
        Self { rule, updates: 0, first: parameters.zeros(), second: parameters.zeros(), piece }
    }

    /// The optimiser as it was after `updates` updates; the moments are copied into [`Self::moments`] by the caller.
    pub fn restore(&mut self, updates: u64) {
        self.updates = updates;
    }

    /// Updates so far: the `t` of the bias corrections.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// First and second moment, each `[p]`.
    pub fn moments(&self) -> (&Tensor, &Tensor) {
        (&self.first, &self.second)
    }

    /// One step with the gradients as `bound` makes them, and of the average with it; `lrs` holds one learning rate per
    /// parameter group.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn step(
        &mut self,
        parameters: &mut Parameters,
        lrs: &[f64],
        bound: Bound,
        ema: Option<&Ema>,
    ) -> Result<(), TchError> {
        self.updates += 1;
        let flat = [parameters.values(), parameters.gradients(), &self.first, &self.second];
        let at_once = flat.into_iter().chain(ema.map(Ema::average)).all(AdamWStep::suits);
        for (group, lr) in parameters.groups().iter().zip(lrs) {
            let factors = self.factors(*lr, bound, ema);
            if at_once {
                let average = ema.map(|ema| slice(ema.average(), group));
                let [p, g, m, v] = flat.map(|flat| slice(flat, group));
                AdamWStep::new(&factors).apply([&p, &g, &m, &v], average.as_ref())?;
                continue;
            }
            for piece in pieces(group.clone(), self.piece) {
                let average = ema.map(|ema| slice(ema.average(), &piece));
                no_grad(|| update(flat.map(|flat| slice(flat, &piece)), average, &factors));
            }
        }
        Ok(())
    }

    fn factors(&self, lr: f64, bound: Bound, ema: Option<&Ema>) -> AdamWFactors {
        let AdamWRule { betas: (b1, b2), eps, weight_decay } = self.rule;
        let correction = |beta: f64| 1.0 - beta.powf(self.updates as f64);
        AdamWFactors {
            decay: 1.0 - lr * weight_decay,
            rates: (1.0 - b1, 1.0 - b2),
            step: lr / correction(b1),
            correction: correction(b2).sqrt(),
            eps,
            gradient_scale: bound.scale,
            limit: bound.limit,
            average: ema.map_or(0.0, |ema| 1.0 - ema.decay()),
        }
    }
}

/// `p ← p(1 − lr·wd)`, then `p ← p − lr·m̂/(√v̂ + ε)`, by tch's operations.
fn update(
    [mut value, gradient, mut first, mut second]: [Tensor; 4],
    average: Option<Tensor>,
    factors: &AdamWFactors,
) {
    let mut gradient = gradient * factors.gradient_scale;
    if let Some(limit) = factors.limit {
        let _ = gradient.clamp_(-limit, limit);
    }
    let _ = value.g_mul_scalar_(factors.decay);
    let _ = first.lerp_(&gradient, factors.rates.0);
    let _ = second.lerp_(&gradient.square(), factors.rates.1);
    let mut root = second.sqrt();
    let _ = root.g_div_scalar_(factors.correction).g_add_scalar_(factors.eps);
    let mut change = first.divide(&root);
    let _ = value.g_sub_(&change.g_mul_scalar_(factors.step));
    if let Some(mut average) = average {
        let _ = average.lerp_(&value, factors.average);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Clip;
    use tch::{Device, Kind, nn};

    /// The update rule in scalar arithmetic, written from the paper.
    fn by_hand(gradients: &[f64], rule: AdamWRule, lr: f64) -> f64 {
        let (mut p, mut m, mut v) = (1.0, 0.0, 0.0);
        for (t, g) in gradients.iter().enumerate() {
            let t = t as i32 + 1;
            m = rule.betas.0 * m + (1.0 - rule.betas.0) * g;
            v = rule.betas.1 * v + (1.0 - rule.betas.1) * g * g;
            let (mh, vh): (f64, f64) = (m / (1.0 - rule.betas.0.powi(t)), v / (1.0 - rule.betas.1.powi(t)));
            p = p - lr * rule.weight_decay * p - lr * mh / (vh.sqrt() + rule.eps);
        }
        p
    }

    /// Two weights of 1, each in a group of its own.
    fn two_weights() -> (Tensor, Tensor, Parameters) {
        let mut store = nn::VarStore::new(Device::Cpu);
        let (a, b) = (store.root().ones("a", &[1]), store.root().ones("b", &[1]));
        store.double();
        let parameters = Parameters::flatten(&store, 2, |name| usize::from(name == "b")).unwrap();
        (a, b, parameters)
    }

    const RULE: AdamWRule = AdamWRule { betas: (0.9, 0.95), eps: 1e-8, weight_decay: 0.1 };

    #[test]
    fn equals_scalar_arithmetic_with_a_rate_per_group() {
        let (a, b, mut parameters) = two_weights();
        let mut optimizer = AdamW::new(RULE, &parameters);
        let gradients = [0.3, -1.7, 0.02, 4.0];
        for g in gradients {
            parameters.zero_gradients();
            (&a * g).sum(Kind::Double).backward();
            optimizer.step(&mut parameters, &[1e-2, 3e-3], Clip::None.bound(0.0), None).unwrap();
        }
        assert!((a.double_value(&[0]) - by_hand(&gradients, RULE, 1e-2)).abs() < 1e-14);
        // No gradient at all: weight decay alone.
        assert!((b.double_value(&[0]) - (1.0_f64 - 3e-4).powi(4)).abs() < 1e-14);
    }

    /// The run is at its third step, of which the second was skipped: the third is the second update, also for an optimiser that
    /// a checkpoint gave the moments and the count.
    #[test]
    fn a_step_that_is_skipped_is_no_update_across_a_restart_either() {
        let (a, _, mut parameters) = two_weights();
        let mut before = AdamW::new(RULE, &parameters);
        let learn = |optimizer: &mut AdamW, parameters: &mut Parameters, g: f64| {
            parameters.zero_gradients();
            (&a * g).sum(Kind::Double).backward();
            optimizer.step(parameters, &[1e-2, 1e-2], Clip::None.bound(0.0), None).unwrap();
        };
        learn(&mut before, &mut parameters, 0.3);
        let mut after = AdamW::new(RULE, &parameters);
        for (mut to, from) in
            [(after.first.shallow_clone(), &before.first), (after.second.shallow_clone(), &before.second)]
        {
            to.copy_(from);
        }
        after.restore(before.updates());
        learn(&mut after, &mut parameters, -1.7);
        assert_eq!(after.updates(), 2);
        let wanted = by_hand(&[0.3, -1.7], RULE, 1e-2);
        assert!((a.double_value(&[0]) - wanted).abs() < 1e-14, "{} and {wanted}", a.double_value(&[0]));
    }

    #[test]
    fn the_size_of_pieces_changes_nothing() {
        let after_two_steps = |piece: i64| -> Vec<f64> {
            let mut store = nn::VarStore::new(Device::Cpu);
            let x = store.root().zeros("x", &[1000]);
            store.double();
            let mut parameters = Parameters::flatten(&store, 1, |_| 0).unwrap();
            let ema = Ema::new(0.9, &parameters);
            let mut optimizer = AdamW { piece, ..AdamW::new(RULE, &parameters) };
            let slopes = (Tensor::arange(1000, (Kind::Double, Device::Cpu)) * 0.37).sin();
            for _ in 0..2 {
                parameters.zero_gradients();
                (&x * &slopes).sum(Kind::Double).backward();
                optimizer.step(&mut parameters, &[1e-2], Clip::Value(0.5).bound(0.0), Some(&ema)).unwrap();
            }
            let all = [parameters.values(), ema.average(), &optimizer.first, &optimizer.second];
            Vec::try_from(Tensor::cat(&all, 0)).unwrap()
        };
        let whole = after_two_steps(1 << 25);
        assert!(whole.iter().filter(|x| **x != 0.0).count() > 3900);
        for piece in [7, 500, 999] {
            let cut = after_two_steps(piece);
            let apart = cut.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(apart < 1e-15, "pieces of {piece}: {apart:e} apart");
        }
    }
}
