//! What is measured about the rows of a split: counts, elements, moments, references and normalisation.
//!
//! Two passes over few columns. The first gathers counts, extremes, force sums and the least-squares statistics; the second,
//! knowing means and references, gathers the moments about them, so that nothing cancels. All sums are exact, so the result
//! does not depend on the order or the partition of the rows.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::ShardError;
use crate::exact_sum::ExactSum;
use crate::linear_reference::{LinearReference, ReferenceFit};
use crate::reader::{Block, Columns, Dataset};
use crate::row_set::RowSet;

/// The label that every dataset may have.
pub const ENERGY: &str = "energy";

/// Everything measured about one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitStatistics {
    /// Rows.
    pub structures: u64,
    /// Atoms over all rows.
    pub atoms: u64,
    /// Fewest atoms of a structure.
    pub atoms_min: u32,
    /// Most atoms of a structure.
    pub atoms_max: u32,
    /// Structures by number of atoms, in bins of [`ATOMS_BIN`].
    pub atoms_histogram: BTreeMap<u32, u64>,
    /// Atomic number → occurrence.
    pub elements: BTreeMap<u8, ElementCount>,
    /// Label (`energy` or a target's name) → its moments and reference.
    pub labels: BTreeMap<String, LabelStatistics>,
    /// Forces, where any structure has them.
    pub forces: Option<ForceStatistics>,
}

/// Width of the bins of [`SplitStatistics::atoms_histogram`].
pub const ATOMS_BIN: u32 = 5;

/// How often an element occurs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElementCount {
    /// Structures with it.
    pub structures: u64,
    /// Atoms of it.
    pub atoms: u64,
}

/// A scalar label's distribution, in its own unit, before and after its linear reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelStatistics {
    /// Structures that have it.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Population standard deviation.
    pub std: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Least squares over element counts.
    pub reference: LinearReference,
    /// Moments after subtraction of the reference.
    pub referenced: ReferencedMoments,
}

/// Moments of a referenced label.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferencedMoments {
    /// Mean residual.
    pub mean: f64,
    /// Population standard deviation of the residual.
    pub std: f64,
    /// Mean absolute residual.
    pub mae: f64,
    /// Largest absolute residual.
    pub max_abs: f64,
}

/// Force components of a split, eV/Å.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForceStatistics {
    /// Structures with forces.
    pub structures: u64,
    /// Atoms with forces.
    pub atoms: u64,
    /// Root mean square of the components: the normalisation of forces.
    pub rms: f64,
    /// Mean length of the atoms' force.
    pub mean_norm: f64,
    /// Largest length.
    pub max_norm: f64,
    /// Atoms by force length: bin `k` holds lengths in `[10^(k/4), 10^((k+1)/4))`; zero length is in the lowest bin, −40.
    pub log_norm_histogram: BTreeMap<i32, u64>,
}

/// Measures several splits at once; rows are decoded once a pass, whatever the number of splits.
pub fn measure(dataset: &Dataset, splits: &[(String, RowSet)]) -> Result<Vec<SplitStatistics>, ShardError> {
    let labels = label_names(dataset);
    let first = fold(
        dataset,
        Columns::labels(),
        splits,
        || FirstPass::new(&labels),
        FirstPass::add,
        FirstPass::merge,
    )?;
    let fitted: Vec<Vec<Option<Pivot>>> = first
        .iter()
        .zip(splits)
        .map(|(pass, (name, _))| pass.labels.iter().map(|l| l.pivot(name)).collect())
        .collect();
    let second = fold(
        dataset,
        Columns::energies(),
        splits,
        || SecondPass::new(labels.len()),
        |pass, split, block, index| pass.add(&fitted[split], block, index),
        SecondPass::merge,
    )?;
    Ok(first
        .into_iter()
        .zip(second)
        .zip(fitted)
        .map(|((first, second), pivots)| first.finish(&labels, &second, pivots))
        .collect())
}

fn label_names(dataset: &Dataset) -> Vec<String> {
    let targets = dataset.layout().targets.iter().map(|t| t.name.clone());
    std::iter::once(ENERGY.to_string()).chain(targets).collect()
}

/// Runs `add` over the rows of every split, parts in parallel, and merges the accumulators.
fn fold<A: Send>(
    dataset: &Dataset,
    columns: Columns,
    splits: &[(String, RowSet)],
    new: impl Fn() -> A + Sync,
    add: impl Fn(&mut A, usize, &Block, usize) + Sync,
    merge: impl Fn(&mut A, A) + Sync,
) -> Result<Vec<A>, ShardError> {
    let fresh = || -> Vec<A> { splits.iter().map(|_| new()).collect() };
    dataset
        .row_groups()
        .par_iter()
        .try_fold(fresh, |mut all, group| {
            let wanted = splits.iter().any(|(_, rows)| rows.within(group.rows.clone()).next().is_some());
            if wanted {
                let block = dataset.read(group, columns)?;
                for (split, (_, rows)) in splits.iter().enumerate() {
                    for row in rows.within(group.rows.clone()) {
                        add(&mut all[split], split, &block, (row - group.rows.start) as usize);
                    }
                }
            }
            Ok(all)
        })
        .try_reduce(fresh, |mut left, right| {
            left.iter_mut().zip(right).for_each(|(a, b)| merge(a, b));
            Ok(left)
        })
}

struct FirstPass {
    structures: u64,
    atoms: u64,
    atoms_min: u32,
    atoms_max: u32,
    atoms_histogram: BTreeMap<u32, u64>,
    elements: BTreeMap<u8, ElementCount>,
    labels: Vec<LabelSums>,
    forces: ForceSums,
}

#[derive(Default)]
struct LabelSums {
    count: u64,
    sum: ExactSum,
    min: f64,
    max: f64,
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

/// What the second pass subtracts.
struct Pivot {
    mean: f64,
    reference: LinearReference,
    table: [f64; 119],
}

impl FirstPass {
    fn new(labels: &[String]) -> Self {
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

    fn add(&mut self, _split: usize, block: &Block, index: usize) {
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

    fn merge(&mut self, other: Self) {
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

    fn finish(self, names: &[String], second: &SecondPass, pivots: Vec<Option<Pivot>>) -> SplitStatistics {
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

    fn pivot(&self, split: &str) -> Option<Pivot> {
        let reference = self.fit.solve(split)?;
        let table = reference.table();
        Some(Pivot { mean: self.sum.value() / self.count as f64, reference, table })
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

    fn merge(&mut self, other: Self) {
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

struct SecondPass {
    labels: Vec<Moments>,
}

#[derive(Default)]
struct Moments {
    squares: ExactSum,
    residual: ExactSum,
    residual_squares: ExactSum,
    residual_abs: ExactSum,
    residual_max: f64,
}

impl SecondPass {
    fn new(labels: usize) -> Self {
        Self { labels: (0..labels).map(|_| Moments::default()).collect() }
    }

    fn add(&mut self, pivots: &[Option<Pivot>], block: &Block, index: usize) {
        let row = block.row(index);
        for ((moments, pivot), value) in self.labels.iter_mut().zip(pivots).zip(row.labels()) {
            let (Some(pivot), Some(value)) = (pivot, value) else { continue };
            let reference: f64 = row.atomic_numbers.iter().map(|&z| pivot.table[z as usize]).sum();
            moments.add(value - pivot.mean, value - reference);
        }
    }

    fn merge(&mut self, other: Self) {
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

    fn finish(&self, sums: &LabelSums, pivot: Pivot) -> LabelStatistics {
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

fn add_counts<K: Ord>(into: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
    for (key, count) in from {
        *into.entry(key).or_default() += count;
    }
}

/// `(atomic number, count)` pairs of a structure, ascending.
pub fn element_counts(atomic_numbers: &[u8]) -> Vec<(u8, u32)> {
    let mut sorted = atomic_numbers.to_vec();
    sorted.sort_unstable();
    sorted.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u32)).collect()
}
