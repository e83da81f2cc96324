//! Reduce-on-plateau: the third phase of the fine-tuning schedule (App. B.3), with PyTorch's rules.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::number::{Fraction, NonNegative};

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
    /// The learning rates are multiplied by this: a number above 0 and below 1.
    #[serde(deserialize_with = "reduction")]
    pub factor: f64,
    /// Validations without improvement that are tolerated.
    pub patience: u32,
    /// Relative improvement that counts as one.
    #[serde(deserialize_with = "checked::<Fraction, _>")]
    pub threshold: f64,
    /// Validations after a reduction during which none is counted as bad.
    pub cooldown: u32,
    /// No rate is reduced below this.
    #[serde(deserialize_with = "checked::<NonNegative, _>")]
    pub min_lr: f64,
    /// A reduction that is not larger than this is not made.
    #[serde(deserialize_with = "checked::<NonNegative, _>")]
    pub eps: f64,
}

/// Reads a number that its type has checked.
fn checked<'de, N: Deserialize<'de> + Into<f64>, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    N::deserialize(from).map(Into::into)
}

/// Reads a factor that makes a rate smaller and leaves it above 0.
fn reduction<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let factor = f64::deserialize(from)?;
    if factor > 0.0 && factor < 1.0 {
        return Ok(factor);
    }
    Err(D::Error::custom(format!("expected a number above 0 and below 1, found {factor}")))
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

/// `schedule.plateau`: the rule, or `"none"`, which also switches off what a template's other parts say.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum PlateauPhase {
    /// Rates stay as the phases before leave them.
    #[default]
    None,
    /// The phase, with its settings.
    Rule(PlateauRule),
}

impl PlateauPhase {
    /// The rule, if the phase is on.
    pub fn rule(&self) -> Option<&PlateauRule> {
        match self {
            Self::None => None,
            Self::Rule(rule) => Some(rule),
        }
    }

    /// Whether there is no such phase.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl Serialize for PlateauPhase {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => "none".serialize(to),
            Self::Rule(rule) => rule.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for PlateauPhase {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Words;

        impl<'de> Visitor<'de> for Words {
            type Value = PlateauPhase;

            fn expecting(&self, to: &mut fmt::Formatter) -> fmt::Result {
                to.write_str(
                    "settings of reduce-on-plateau, such as { patience = 5, factor = 0.1 }, or \"none\"",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<PlateauPhase, E> {
                if text == "none" {
                    Ok(PlateauPhase::None)
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PlateauPhase, A::Error> {
                PlateauRule::deserialize(MapAccessDeserializer::new(map)).map(PlateauPhase::Rule)
            }
        }

        // `deserialize_any` is what TOML's and JSON's readers offer for a value of either kind.
        from.deserialize_any(Words)
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
        match self.rule.mode {
            Better::Min => metric < self.best.unwrap_or(f64::INFINITY) * (1.0 - self.rule.threshold),
            Better::Max => metric > self.best.unwrap_or(f64::NEG_INFINITY) * (1.0 + self.rule.threshold),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_refused_with_their_line() {
        let refused = |setting: &str, words: &str| {
            let error = toml::from_str::<PlateauRule>(setting).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains(setting), "{setting}: {error}");
        };
        for factor in ["1.5", "1.0", "1", "0.0", "-0.1", "nan", "inf"] {
            refused(&format!("factor = {factor}"), "expected a number above 0 and below 1, found");
        }
        for threshold in ["-0.1", "1.0", "nan"] {
            refused(&format!("threshold = {threshold}"), "expected a number from 0 to below 1, found");
        }
        for number in ["-1e-9", "nan", "inf"] {
            refused(&format!("min_lr = {number}"), "expected a finite number, 0 or more, found");
            refused(&format!("eps = {number}"), "expected a finite number, 0 or more, found");
        }
        let rule: PlateauRule = toml::from_str("factor = 0.1\nthreshold = 0\neps = 0.0\n").unwrap();
        assert_eq!(rule, PlateauRule { factor: 0.1, threshold: 0.0, eps: 0.0, ..PlateauRule::default() });
    }
}
