//! Reduce-on-plateau: the third phase of the fine-tuning schedule (App. B.3), with PyTorch's rules.

use serde::{Deserialize, Serialize};

/// Whether a metric is to fall or to rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Lower is better.
    #[default]
    Min,
    /// Higher is better.
    Max,
}

/// Settings of the rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlateauRule {
    /// Direction of the metric.
    pub mode: Better,
    /// The learning rates are multiplied by this.
    pub factor: f64,
    /// Validations without improvement that are tolerated.
    pub patience: u32,
    /// Relative improvement that counts as one.
    pub threshold: f64,
    /// Validations after a reduction during which none is counted as bad.
    pub cooldown: u32,
    /// No rate is reduced below this.
    pub min_lr: f64,
    /// A reduction smaller than this is not made.
    pub eps: f64,
}

impl Default for PlateauRule {
    /// The released settings: patience 3, factor 0.8.
    fn default() -> Self {
        Self {
            mode: Better::Min,
            factor: 0.8,
            patience: 3,
            threshold: 1e-4,
            cooldown: 0,
            min_lr: 0.0,
            eps: 1e-8,
        }
    }
}

/// The rule and what it remembers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    rule: PlateauRule,
    best: Option<f64>,
    bad: u32,
    cooling: u32,
}

impl Plateau {
    /// The rule before its first metric.
    pub fn new(rule: PlateauRule) -> Self {
        Self { rule, best: None, bad: 0, cooling: 0 }
    }

    /// Takes in one metric and reduces `lrs` in place when its patience is at an end.
    ///
    /// A group whose reduction would be at most `eps` keeps its rate; the count of bad validations restarts all the same.
    pub fn observe(&mut self, metric: f64, lrs: &mut [f64]) {
        if self.improves(metric) {
            self.best = Some(metric);
            self.bad = 0;
        } else {
            self.bad += 1;
        }
        if self.cooling > 0 {
            self.cooling -= 1;
            self.bad = 0;
        }
        if self.bad > self.rule.patience {
            for lr in lrs {
                let reduced = (*lr * self.rule.factor).max(self.rule.min_lr);
                if *lr - reduced > self.rule.eps {
                    *lr = reduced;
                }
            }
            self.bad = 0;
            self.cooling = self.rule.cooldown;
        }
    }

    fn improves(&self, metric: f64) -> bool {
        match (self.rule.mode, self.best) {
            (_, None) => !metric.is_nan(),
            (Better::Min, Some(best)) => metric < best * (1.0 - self.rule.threshold),
            (Better::Max, Some(best)) => metric > best * (1.0 + self.rule.threshold),
        }
    }

    /// Validations without improvement since the last one that improved or reduced.
    pub fn bad(&self) -> u32 {
        self.bad
    }

    /// Best metric so far.
    pub fn best(&self) -> Option<f64> {
        self.best
    }
}
