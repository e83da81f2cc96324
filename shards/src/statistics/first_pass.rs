//! The first pass: counts, extremes, sums of forces, and what the least-squares fit needs.

use std::collections::BTreeMap;

use super::second_pass::{Pivot, SecondPass};
use super::{ATOMS_BIN, ElementCount, ForceStatistics, SplitStatistics, element_counts};
use crate::error::ShardError;
use crate::exact_sum::ExactSum;
use crate::linear_reference::{GivenReference, ReferenceFit};
use crate::reader::Block;

pub(super) struct FirstPass {
    structures: u64,
    atoms: u64,
    atoms_min: u32,
    atoms_max: u32,
    atoms_histogram: BTreeMap<u32, u64>,
    elements: BTreeMap<u8, ElementCount>,
    pub(super) labels: Vec<LabelSums>,
    forces: ForceSums,
}

#[derive(Default)]
pub(super) struct LabelSums {
    pub(super) count: u64,
    sum: ExactSum,
    pub(super) min: f64,
    pub(super) max: f64,
    fit: ReferenceFit,
}

#[derive(Default)]
struct ForceSums {
    structures: u64,
    atoms: u64,
    squares: ExactSum,
    norms: ExactSum,
    max_norm: f64,
    histogram: BTreeMap<i32, u64>,
}

impl FirstPass {
    pub(super) fn new(labels: &[String]) -> Self {
        let label = || LabelSums { min: f64::INFINITY, max: f64::NEG_INFINITY, ..LabelSums::default() };
        Self {
            structures: 0,
            atoms: 0,
            atoms_min: u32::MAX,
            atoms_max: 0,
            atoms_histogram: BTreeMap::new(),
            elements: BTreeMap::new(),
            labels: labels.iter().map(|_| label()).collect(),
            forces: ForceSums::default(),
        }
    }

    pub(super) fn add(&mut self, _split: usize, block: &Block, index: usize) {
        let row = block.row(index);
        let n = row.atomic_numbers.len() as u32;
        self.structures += 1;
        self.atoms += u64::from(n);
        self.atoms_min = self.atoms_min.min(n);
        self.atoms_max = self.atoms_max.max(n);
        *self.atoms_histogram.entry(n / ATOMS_BIN * ATOMS_BIN).or_default() += 1;
        let counts = element_counts(row.atomic_numbers);
        for &(z, count) in &counts {
            let entry = self.elements.entry(z).or_default();
            entry.structures += 1;
            entry.atoms += u64::from(count);
        }
        for (label, value) in self.labels.iter_mut().zip(row.labels()) {
            if let Some(value) = value {
                label.add(&counts, value);
            }
        }
        if let Some(forces) = row.forces {
            self.forces.add(forces.iter());
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.structures += other.structures;
        self.atoms += other.atoms;
        self.atoms_min = self.atoms_min.min(other.atoms_min);
        self.atoms_max = self.atoms_max.max(other.atoms_max);
        add_counts(&mut self.atoms_histogram, other.atoms_histogram);
        for (z, count) in other.elements {
            let entry = self.elements.entry(z).or_default();
            entry.structures += count.structures;
            entry.atoms += count.atoms;
        }
        self.labels.iter_mut().zip(&other.labels).for_each(|(a, b)| a.merge(b));
        self.forces.merge(other.forces);
    }

    pub(super) fn finish(
        self,
        names: &[String],
        second: &SecondPass,
        pivots: Vec<Option<Pivot>>,
    ) -> SplitStatistics {
        let labels = names
            .iter()
            .zip(&self.labels)
            .zip(&second.labels)
            .zip(pivots)
            .filter_map(|(((name, sums), moments), pivot)| {
                pivot.map(|pivot| (name.clone(), moments.finish(sums, pivot)))
            })
            .collect();
        SplitStatistics {
            structures: self.structures,
            atoms: self.atoms,
            atoms_min: if self.structures == 0 { 0 } else { self.atoms_min },
            atoms_max: self.atoms_max,
            atoms_histogram: self.atoms_histogram,
            elements: self.elements,
            labels,
            forces: self.forces.finish(),
        }
    }
}

impl LabelSums {
    fn add(&mut self, counts: &[(u8, u32)], value: f64) {
        self.count += 1;
        self.sum.add(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.fit.add(counts, value);
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum.merge(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.fit.merge(&other.fit);
    }

    /// What the second pass subtracts: the given reference, else the fit. `None` without structures.
    pub(super) fn pivot(
        &self,
        split: &str,
        given: Option<&GivenReference>,
    ) -> Result<Option<Pivot>, ShardError> {
        let reference = match given {
            Some(given) if self.fit.structures() > 0 => {
                Some(given.applied(split, self.fit.structures(), &self.fit.elements())?)
            }
            _ => self.fit.solve(split),
        };
        let n = self.count as f64;
        Ok(reference.map(|reference| Pivot {
            mean: self.sum.value() / n,
            residual: (self.sum.value() - self.fit.total(&reference)) / n,
            table: reference.table(),
            reference,
        }))
    }
}

impl ForceSums {
    fn add(&mut self, forces: impl Iterator<Item = [f64; 3]>) {
        self.structures += 1;
        for [x, y, z] in forces {
            let square = x * x + y * y + z * z;
            let norm = square.sqrt();
            self.atoms += 1;
            self.squares.add(square);
            self.norms.add(norm);
            self.max_norm = self.max_norm.max(norm);
            let bin = if norm > 0.0 { (norm.log10() * 4.0).floor().max(-40.0) as i32 } else { -40 };
            *self.histogram.entry(bin).or_default() += 1;
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.structures += other.structures;
        self.atoms += other.atoms;
        self.squares.merge(other.squares);
        self.norms.merge(other.norms);
        self.max_norm = self.max_norm.max(other.max_norm);
        add_counts(&mut self.histogram, other.histogram);
    }

    fn finish(self) -> Option<ForceStatistics> {
        let atoms = self.atoms as f64;
        (self.atoms > 0).then(|| ForceStatistics {
            structures: self.structures,
            atoms: self.atoms,
            rms: (self.squares.value() / (3.0 * atoms)).sqrt(),
            mean_norm: self.norms.value() / atoms,
            max_norm: self.max_norm,
            log_norm_histogram: self.histogram,
        })
    }
}

fn add_counts<K: Ord>(into: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
    for (key, count) in from {
        *into.entry(key).or_default() += count;
    }
}
