//! Learning rates as pure functions of how far training has come.
//!
//! Pre-training (App. D.1): linear warm-up counted in optimiser steps, then a cosine counted in samples consumed.
//! Fine-tuning (App. B.3): the same two phases for each parameter group with its own start, a common floor, and
//! from there on reduce-on-plateau.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::plateau::{Plateau, PlateauRule};

/// Linear rise from `start` at step 0 to `peak` at step `steps − 1`.
///
/// The released code divides by `steps − 1`, so the peak is used twice: by the last warm-up step and by the first
/// step of the cosine.
fn warm_up(step: u64, steps: u64, start: f64, peak: f64) -> f64 {
    if steps <= 1 {
        return peak;
    }
    start + (peak - start) * step as f64 / (steps - 1) as f64
}

/// Half a cosine from `peak` (progress 0) to `floor` (progress 1); it stays at `floor` afterwards.
fn half_cosine(progress: f64, peak: f64, floor: f64) -> f64 {
    floor + (peak - floor) / 2.0 * (1.0 + (PI * progress.clamp(0.0, 1.0)).cos())
}

/// Where a run stands: what every schedule is a function of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Optimiser steps done, which is also the index of the next one.
    pub step: u64,
    /// Structures consumed, over all ranks and micro-batches.
    pub samples: u64,
}

/// Warm-up in optimiser steps, cosine in samples consumed (App. D.1).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WarmupCosine {
    /// Peak learning rate.
    pub lr: f64,
    /// Optimiser steps of warm-up.
    pub warmup_steps: u64,
    /// Learning rate of step 0, as a share of the peak.
    pub warmup_factor: f64,
    /// Learning rate at the end, as a share of the peak.
    pub final_factor: f64,
    /// Structures of a full global batch; places the end of the warm-up on the axis of samples.
    pub batch: u64,
    /// Structures at which the cosine ends. The released schedule would rise again after it; this one stays.
    pub total_samples: u64,
}

impl WarmupCosine {
    /// Learning rate used by the step at `at`.
    pub fn lr(&self, at: Position) -> f64 {
        if at.step < self.warmup_steps {
            return warm_up(at.step, self.warmup_steps, self.warmup_factor * self.lr, self.lr);
        }
        let begin = self.warmup_steps.saturating_mul(self.batch);
        let length = self.total_samples.saturating_sub(begin).max(1);
        let progress = at.samples.saturating_sub(begin) as f64 / length as f64;
        half_cosine(progress, self.lr, self.final_factor * self.lr)
    }
}

/// Peak and floor of one parameter group of a fine-tuning run (layer-wise decay, Table 18).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GroupRate {
    /// Peak learning rate: the base rate times the layer's factor.
    pub lr: f64,
    /// Learning rate at the end of the cosine.
    pub floor: f64,
}

impl GroupRate {
    /// The group whose layer factor is `scale`: peak `base·scale`, floor `base·final_factor`, so that all groups end
    /// at one rate. The share of the peak that the floor is gets clamped to 0.01–0.99 as in the released code.
    pub fn new(base: f64, scale: f64, final_factor: f64) -> Self {
        let lr = base * scale;
        Self { lr, floor: lr * (final_factor / scale).clamp(0.01, 0.99) }
    }
}

/// Fine-tuning schedule: its fixed part. Each phase can be left out (Table 13).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FineTuneRates {
    /// One entry per parameter group.
    pub groups: Vec<GroupRate>,
    /// Optimiser steps of warm-up; 0 leaves the phase out.
    pub warmup_steps: u64,
    /// Learning rate of step 0, as a share of the group's peak.
    pub warmup_factor: f64,
    /// Step at which the cosine, counted from step 0, has reached the floor; 0 leaves the phase out.
    pub cosine_steps: u64,
    /// The plateau rule, if the last phase is wanted.
    pub plateau: Option<PlateauRule>,
}

/// Fine-tuning schedule with what it remembers. Serialised whole into checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FineTuneSchedule {
    rates: FineTuneRates,
    plateau: Option<Plateau>,
    /// Rates after the cosine, which only the plateau rule changes.
    held: Vec<f64>,
}

impl FineTuneSchedule {
    /// A schedule before its first step.
    pub fn new(rates: FineTuneRates) -> Self {
        let held = match rates.cosine_steps {
            0 => rates.groups.iter().map(|g| g.lr).collect(),
            _ => rates.groups.iter().map(|g| g.floor).collect(),
        };
        let plateau = rates.plateau.clone().map(Plateau::new);
        Self { rates, plateau, held }
    }

    /// Learning rate of each group used by optimiser step `step`.
    pub fn lrs(&self, step: u64) -> Vec<f64> {
        let FineTuneRates { warmup_steps, warmup_factor, cosine_steps, .. } = self.rates;
        let rate = |(group, held): (&GroupRate, &f64)| {
            if step < warmup_steps {
                warm_up(step, warmup_steps, warmup_factor * group.lr, group.lr)
            } else if step < cosine_steps {
                let progress = (step - warmup_steps) as f64 / (cosine_steps - warmup_steps) as f64;
                half_cosine(progress, group.lr, group.floor)
            } else {
                *held
            }
        };
        self.rates.groups.iter().zip(&self.held).map(rate).collect()
    }

    /// Tells the schedule the validation metric reached after `steps_done` optimiser steps (lower is better).
    ///
    /// Metrics from before the end of the cosine never enter the plateau rule's history. Returns whether the rule was
    /// applied.
    pub fn validated(&mut self, steps_done: u64, metric: f64) -> bool {
        let fixed_part = self.rates.cosine_steps.max(self.rates.warmup_steps);
        match &mut self.plateau {
            Some(plateau) if steps_done >= fixed_part => {
                plateau.observe(metric, &mut self.held);
                true
            }
            _ => false,
        }
    }

    /// The plateau rule's state, if that phase is on.
    pub fn plateau(&self) -> Option<&Plateau> {
        self.plateau.as_ref()
    }

    /// Whether the fixed phases are over and every group's rate lies below `rate`.
    pub fn below(&self, step: u64, rate: f64) -> bool {
        step >= self.rates.cosine_steps.max(self.rates.warmup_steps) && self.held.iter().all(|lr| *lr < rate)
    }
}

/// The schedule of a run of either kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// One rate for all parameters.
    Pretrain(WarmupCosine),
    /// A rate for each parameter group.
    Finetune(FineTuneSchedule),
}

impl Schedule {
    /// Learning rate of each parameter group for the step at `at`.
    pub fn lrs(&self, at: Position) -> Vec<f64> {
        match self {
            Self::Pretrain(rule) => vec![rule.lr(at)],
            Self::Finetune(rule) => rule.lrs(at.step),
        }
    }

    /// Passes a validation metric on to the plateau rule, where there is one.
    pub fn validated(&mut self, steps_done: u64, metric: f64) -> bool {
        match self {
            Self::Pretrain(_) => false,
            Self::Finetune(rule) => rule.validated(steps_done, metric),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_of_one_step_starts_at_the_peak() {
        assert_eq!(warm_up(0, 1, 0.1, 1.0), 1.0);
        assert_eq!(warm_up(0, 3, 0.2, 1.0), 0.2);
        assert!((warm_up(1, 3, 0.2, 1.0) - 0.6).abs() < 1e-15);
    }

    #[test]
    fn cosine_counts_samples_not_steps() {
        let rule = WarmupCosine {
            lr: 1.0,
            warmup_steps: 10,
            warmup_factor: 0.2,
            final_factor: 0.1,
            batch: 8,
            total_samples: 8 * 110,
        };
        // The same number of samples in twice as many steps gives the same rate.
        let full = rule.lr(Position { step: 60, samples: 480 });
        let halves = rule.lr(Position { step: 110, samples: 480 });
        assert_eq!(full, halves);
        assert!((full - 0.55).abs() < 1e-12, "half-way between peak and floor, got {full}");
    }

    #[test]
    fn all_groups_end_at_one_floor() {
        let groups = [0.3, 0.55, 1.0].map(|scale| GroupRate::new(8e-5, scale, 0.1));
        for group in groups {
            assert!((group.floor - 8e-6).abs() < 1e-18);
        }
    }

    #[test]
    fn without_cosine_the_peak_is_held_until_the_plateau_rule_acts() {
        let rates = FineTuneRates {
            groups: vec![GroupRate::new(1e-3, 1.0, 0.1)],
            warmup_steps: 0,
            warmup_factor: 0.1,
            cosine_steps: 0,
            plateau: Some(PlateauRule { patience: 0, factor: 0.5, ..PlateauRule::default() }),
        };
        let mut schedule = FineTuneSchedule::new(rates);
        assert_eq!(schedule.lrs(0), [1e-3]);
        assert!(schedule.validated(5, 1.0) && schedule.validated(10, 1.0));
        assert_eq!(schedule.lrs(11), [5e-4]);
    }
}
