//! The second pass: moments about the means and references that the first has found, so that nothing cancels.

use std::collections::BTreeMap;

use super::first_pass::LabelSums;
use super::{LabelStatistics, ReferencedMoments};
use crate::checks::outliers::{Residuals, per_atom};
use crate::exact_sum::ExactSum;
use crate::linear_reference::LinearReference;
use crate::reader::Block;

/// What the second pass subtracts.
pub(super) struct Pivot {
    pub(super) mean: f64,
    /// About the mean after the reference: a given one may leave much, which squares must not swallow.
    pub(super) residual: f64,
    pub(super) reference: LinearReference,
    pub(super) table: [f64; 119],
}

pub(super) struct SecondPass {
    pub(super) labels: Vec<Moments>,
    /// Energies for each atom after the reference, of every k-th row.
    sample: Vec<f64>,
    /// First row of a row group → least and largest of them.
    extremes: BTreeMap<u64, (f64, f64)>,
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
        Self {
            labels: (0..labels).map(|_| Moments::default()).collect(),
            sample: Vec::new(),
            extremes: BTreeMap::new(),
        }
    }

    /// Keeps the energy after the reference for the search for outliers.
    pub(super) fn add_residual(
        &mut self,
        pivots: &[Option<Pivot>],
        block: &Block,
        index: usize,
        stride: u64,
    ) {
        let row = block.row(index);
        let (Some(Some(pivot)), Some(energy)) = (pivots.first(), row.energy) else { return };
        let value = per_atom(energy, row.atomic_numbers, &pivot.table);
        let first = block.first_row();
        if (first + index as u64).is_multiple_of(stride) {
            self.sample.push(value);
        }
        let extreme = self.extremes.entry(first).or_insert((value, value));
        *extreme = (extreme.0.min(value), extreme.1.max(value));
    }

    pub(super) fn residuals(&self, pivots: &[Option<Pivot>]) -> Option<Residuals> {
        let table = pivots.first()?.as_ref()?.table;
        Some(Residuals { sample: self.sample.clone(), extremes: self.extremes.clone(), table })
    }

    pub(super) fn add(&mut self, pivots: &[Option<Pivot>], block: &Block, index: usize) {
        let row = block.row(index);
        for ((moments, pivot), value) in self.labels.iter_mut().zip(pivots).zip(row.labels()) {
            let (Some(pivot), Some(value)) = (pivot, value) else { continue };
            let reference: f64 = row.atomic_numbers.iter().map(|&z| pivot.table[z as usize]).sum();
            moments.add(value - pivot.mean, value - reference, pivot.residual);
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.labels.iter_mut().zip(other.labels).for_each(|(a, b)| a.merge(&b));
        self.sample.extend(other.sample);
        for (first, (low, high)) in other.extremes {
            let extreme = self.extremes.entry(first).or_insert((low, high));
            *extreme = (extreme.0.min(low), extreme.1.max(high));
        }
    }
}

impl Moments {
    fn add(&mut self, centred: f64, residual: f64, pivot: f64) {
        self.squares.add(centred * centred);
        self.residual.add(residual);
        self.residual_squares.add((residual - pivot) * (residual - pivot));
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
        let beyond = mean - pivot.residual;
        LabelStatistics {
            count: sums.count,
            mean: pivot.mean,
            std: (self.squares.value() / n).sqrt(),
            min: sums.min,
            max: sums.max,
            reference: pivot.reference,
            referenced: ReferencedMoments {
                mean,
                std: (self.residual_squares.value() / n - beyond * beyond).max(0.0).sqrt(),
                mae: self.residual_abs.value() / n,
                max_abs: self.residual_max,
            },
        }
    }
}
