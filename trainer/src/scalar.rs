//! Scalar properties of structures: what is learnt, by which loss, and how well.

use serde::{Deserialize, Serialize};
use shards::batch::HostBatch;

use crate::heads::Pooling;
use crate::metrics::bits;
use crate::prediction::HostPrediction;

/// A property that a model predicts in place of energies and forces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScalarTarget {
    /// The dataset's column.
    pub name: String,
    /// Unit in which errors are told.
    pub unit: String,
    /// What 1 in the column is in that unit.
    pub factor: f64,
    /// How atoms' numbers become the structure's.
    pub pooling: Pooling,
    /// What is made small.
    pub loss: ScalarLoss,
}

/// What is made small in learning a property.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScalarLoss {
    /// |error| of the normalised value (App. D.2).
    #[default]
    L1,
    /// Two classes, 0 and 1: cross-entropy of the logit; the number weighs the structures of class 1.
    CrossEntropy(f64),
}

impl ScalarTarget {
    /// Whether it is a class, 0 or 1.
    pub fn is_class(&self) -> bool {
        matches!(self.loss, ScalarLoss::CrossEntropy(_))
    }

    /// Unit of the dataset's column.
    pub fn column_unit(&self) -> &str {
        if self.factor == MILLI { self.unit.strip_prefix('m').unwrap_or(&self.unit) } else { &self.unit }
    }
}

/// What one of a unit is in the same with m (milli) before it.
const MILLI: f64 = 1e3;

/// What one of a column's units is in `told`: the unit itself, or it with m (milli) before it. `None` for any other.
pub fn factor(unit: &str, told: &str) -> Option<f64> {
    if told == unit {
        return Some(1.0);
    }
    (told.strip_prefix('m') == Some(unit)).then_some(MILLI)
}

/// Errors of one property over some structures. Absent where there is nothing to tell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ScalarErrors {
    /// The property.
    pub target: String,
    /// Unit of the errors.
    pub unit: String,
    /// Mean |error|.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mae: Option<f64>,
    /// Root of the mean squared error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rmse: Option<f64>,
    /// What `mae` would be for a model whose output is always 0: the mean (and reference) of the training split alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mae_of_zero: Option<f64>,
    /// Mean −ln of the probability given to the true class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_entropy: Option<f64>,
    /// Share of structures whose class has the larger probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Mean of the accuracies on either class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balanced_accuracy: Option<f64>,
    /// Probability that a structure of class 1 has a larger logit than one of class 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roc_auc: Option<f64>,
}

impl ScalarErrors {
    /// What checkpoints are chosen by, lower is better: the mean |error|, or the cross-entropy of classes. `None` where no
    /// structure had the property.
    pub fn metric(&self) -> Option<f64> {
        self.mae.or(self.cross_entropy)
    }

    /// The errors in words.
    pub fn text(&self) -> String {
        let name = &self.target;
        if let (Some(mae), Some(zero)) = (self.mae, self.mae_of_zero) {
            return format!("{name} MAE {mae:.4} {} (of the mean alone {zero:.4})", self.unit);
        }
        let known = [
            ("ROC-AUC", self.roc_auc),
            ("accuracy", self.accuracy),
            ("balanced", self.balanced_accuracy),
            ("cross-entropy", self.cross_entropy),
        ];
        let parts: Vec<String> =
            known.iter().filter_map(|(what, value)| Some(format!("{what} {:.4}", (*value)?))).collect();
        if parts.is_empty() {
            return format!("{name}: nothing to judge");
        }
        format!("{name} {}", parts.join(", "))
    }
}

/// Output and label of one structure in normalised units. Between ranks all their bits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// What the model says.
    #[serde(with = "bits")]
    pub output: f64,
    /// What is true.
    #[serde(with = "bits")]
    pub label: f64,
}

/// What is gathered over any number of batches.
#[derive(Debug, Clone)]
pub struct ScalarSums {
    target: ScalarTarget,
    std: f64,
    count: u64,
    absolute: f64,
    square: f64,
    zero: f64,
    scores: Vec<(f64, bool)>,
}

impl ScalarSums {
    /// Nothing yet; `std` is the scale of the label.
    pub fn new(target: &ScalarTarget, std: f64) -> Self {
        let target = target.clone();
        Self { target, std, count: 0, absolute: 0.0, square: 0.0, zero: 0.0, scores: Vec::new() }
    }

    /// Output and label of each structure of a batch that has the label, in normalised units.
    pub fn pairs(batch: &HostBatch, prediction: &HostPrediction) -> Vec<Pair> {
        let labelled = batch.has_energy.iter().enumerate().filter(|(_, has)| **has);
        labelled.map(|(g, _)| Pair { output: prediction.energy[g], label: batch.energy[g] }).collect()
    }

    /// Takes in one structure.
    pub fn add(&mut self, Pair { output, label }: Pair) {
        self.count += 1;
        if self.target.is_class() {
            self.scores.push((output, label > 0.5));
            return;
        }
        let scale = self.std * self.target.factor;
        let error = (output - label) * scale;
        self.absolute += error.abs();
        self.square += error * error;
        self.zero += (label * scale).abs();
    }

    /// Structures taken in.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The errors so far.
    pub fn errors(&self) -> ScalarErrors {
        let named = ScalarErrors {
            target: self.target.name.clone(),
            unit: self.target.unit.clone(),
            ..ScalarErrors::default()
        };
        if self.count == 0 {
            return named;
        }
        let n = self.count as f64;
        if !self.target.is_class() {
            return ScalarErrors {
                mae: Some(self.absolute / n),
                rmse: Some((self.square / n).sqrt()),
                mae_of_zero: Some(self.zero / n),
                ..named
            };
        }
        let right = |class: bool| {
            let of_class: Vec<f64> = self.scores.iter().filter(|s| s.1 == class).map(|s| s.0).collect();
            let right = of_class.iter().filter(|score| (**score > 0.0) == class).count();
            (right, of_class.len())
        };
        let ((right_0, zeros), (right_1, ones)) = (right(false), right(true));
        let both = zeros > 0 && ones > 0;
        let balanced = 0.5 * (right_0 as f64 / zeros as f64 + right_1 as f64 / ones as f64);
        ScalarErrors {
            cross_entropy: Some(self.scores.iter().map(|s| cross_entropy(s.0, s.1)).sum::<f64>() / n),
            accuracy: Some((right_0 + right_1) as f64 / n),
            balanced_accuracy: both.then_some(balanced),
            roc_auc: both.then(|| roc_auc(&self.scores)),
            ..named
        }
    }
}

/// −ln of the probability that a logit gives to a class.
fn cross_entropy(logit: f64, class: bool) -> f64 {
    let towards = if class { -logit } else { logit };
    towards.max(0.0) + (-towards.abs()).exp().ln_1p()
}

/// Area under the curve of true against false positives (Mann–Whitney): ties count half.
fn roc_auc(scores: &[(f64, bool)]) -> f64 {
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut ranks, mut before) = (0.0, 0.0);
    for tied in sorted.chunk_by(|a, b| a.0 == b.0) {
        // Ranks of a tie are their mean; counted from 1.
        let rank = before + f64::midpoint(tied.len() as f64, 1.0);
        ranks += rank * tied.iter().filter(|s| s.1).count() as f64;
        before += tied.len() as f64;
    }
    let ones = scores.iter().filter(|s| s.1).count() as f64;
    let zeros = scores.len() as f64 - ones;
    (ranks - ones * (ones + 1.0) / 2.0) / (ones * zeros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(loss: ScalarLoss) -> ScalarTarget {
        let pooling = Pooling::Mean;
        ScalarTarget { name: "gap".into(), unit: "meV".into(), factor: 1e3, pooling, loss }
    }

    #[test]
    fn errors_are_told_in_the_unit_asked_for() {
        assert_eq!(factor("eV/atom", "meV/atom"), Some(1e3));
        assert_eq!(factor("Debye", "Debye"), Some(1.0));
        assert_eq!(factor("eV", "kcal/mol"), None);
        let mut sums = ScalarSums::new(&target(ScalarLoss::L1), 0.5);
        sums.add(Pair { output: 1.0, label: 0.0 });
        sums.add(Pair { output: -1.0, label: 2.0 });
        let errors = sums.errors();
        assert_eq!(errors.mae, Some(1000.0));
        assert_eq!(errors.mae_of_zero, Some(500.0));
        assert!((errors.rmse.unwrap() - (1.25e6_f64).sqrt()).abs() < 1e-9);
    }

    /// The area by its definition, pair by pair.
    #[test]
    fn classes_are_judged_by_pairs_and_counts() {
        let scores = [(0.3, true), (-1.0, false), (0.3, false), (2.0, true), (-0.5, true), (0.1, false)];
        let mut sums = ScalarSums::new(&target(ScalarLoss::CrossEntropy(1.0)), 1.0);
        let pair =
            |(output, class): &(f64, bool)| Pair { output: *output, label: f64::from(u8::from(*class)) };
        scores.iter().for_each(|score| sums.add(pair(score)));
        let (mut area, mut pairs) = (0.0, 0.0);
        for one in scores.iter().filter(|s| s.1) {
            for zero in scores.iter().filter(|s| !s.1) {
                area += if one.0 > zero.0 { 1.0 } else { 0.5 * f64::from(u8::from(one.0 == zero.0)) };
                pairs += 1.0;
            }
        }
        let errors = sums.errors();
        assert!((errors.roc_auc.unwrap() - area / pairs).abs() < 1e-15);
        assert_eq!(errors.accuracy, Some(3.0 / 6.0));
        assert_eq!(errors.balanced_accuracy, Some(0.5 * (1.0 / 3.0 + 2.0 / 3.0)));
        let probability = |score: f64| 1.0 / (1.0 + (-score).exp());
        let by_hand: f64 = scores
            .iter()
            .map(|(s, class)| -(if *class { probability(*s) } else { 1.0 - probability(*s) }).ln())
            .sum();
        assert!((errors.cross_entropy.unwrap() - by_hand / 6.0).abs() < 1e-12);
    }

    #[test]
    fn one_class_alone_has_no_curve() {
        let mut sums = ScalarSums::new(&target(ScalarLoss::CrossEntropy(1.0)), 1.0);
        sums.add(Pair { output: 3.0, label: 1.0 });
        assert_eq!(sums.errors().roc_auc, None);
        assert_eq!(sums.errors().accuracy, Some(1.0));
    }
}
