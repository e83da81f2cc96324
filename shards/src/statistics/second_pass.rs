//! The second pass: moments about the means and references that the first has found, so that nothing cancels.

use super::first_pass::LabelSums;
use super::{LabelStatistics, ReferencedMoments};
use crate::exact_sum::ExactSum;
use crate::linear_reference::LinearReference;
use crate::reader::Block;

/// What the second pass subtracts.
pub(super) struct Pivot {
    pub(super) mean: f64,
    pub(super) reference: LinearReference,
    pub(super) table: [f64; 119],
}

pub(super) struct SecondPass {
    pub(super) labels: Vec<Moments>,
}

#[derive(Default)]
pub(super) struct Moments {
    squares: ExactSum,
    residual: ExactSum,
    residual_squares: ExactSum,
    residual_abs: ExactSum,
    residual_max: f64,
}

impl SecondPass {
    pub(super) fn new(labels: usize) -> Self {
        Self { labels: (0..labels).map(|_| Moments::default()).collect() }
    }

    pub(super) fn add(&mut self, pivots: &[Option<Pivot>], block: &Block, index: usize) {
        let row = block.row(index);
        for ((moments, pivot), value) in self.labels.iter_mut().zip(pivots).zip(row.labels()) {
            let (Some(pivot), Some(value)) = (pivot, value) else { continue };
            let reference: f64 = row.atomic_numbers.iter().map(|&z| pivot.table[z as usize]).sum();
            moments.add(value - pivot.mean, value - reference);
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.labels.iter_mut().zip(other.labels).for_each(|(a, b)| a.merge(&b));
    }
}

impl Moments {
    fn add(&mut self, centred: f64, residual: f64) {
        self.squares.add(centred * centred);
        self.residual.add(residual);
        self.residual_squares.add(residual * residual);
        self.residual_abs.add(residual.abs());
        self.residual_max = self.residual_max.max(residual.abs());
    }

    fn merge(&mut self, other: &Self) {
        self.squares.merge(other.squares);
        self.residual.merge(other.residual);
        self.residual_squares.merge(other.residual_squares);
        self.residual_abs.merge(other.residual_abs);
        self.residual_max = self.residual_max.max(other.residual_max);
    }

    pub(super) fn finish(&self, sums: &LabelSums, pivot: Pivot) -> LabelStatistics {
        let n = sums.count as f64;
        let mean = self.residual.value() / n;
        LabelStatistics {
            count: sums.count,
            mean: pivot.mean,
            std: (self.squares.value() / n).sqrt(),
            min: sums.min,
            max: sums.max,
            reference: pivot.reference,
            referenced: ReferencedMoments {
                mean,
                std: (self.residual_squares.value() / n - mean * mean).max(0.0).sqrt(),
                mae: self.residual_abs.value() / n,
                max_abs: self.residual_max,
            },
        }
    }
}
