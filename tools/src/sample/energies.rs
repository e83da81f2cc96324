//! Energies before and after the linear reference, and what the reference leaves of each element and composition.

use std::collections::BTreeMap;

use serde::Serialize;
use shards::element;

use crate::distribution::RealDistribution;

/// Compositions listed: those that the reference fits worst.
const LISTED: usize = 20;

/// Energies of the sample, eV.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Energies {
    /// Total energies as the source defines their zero.
    pub total: RealDistribution,
    /// Structures with an element that the reference does not have; they are left out below.
    pub unreferenced: u64,
    /// E − Σ coefficient.
    pub referenced: Option<RealDistribution>,
    /// (E − Σ coefficient) / N.
    pub referenced_per_atom: Option<RealDistribution>,
    /// What is left for each atom in structures with an element, by atomic number.
    pub by_element: Vec<ElementResidual>,
    /// The compositions with the largest mean of what is left.
    pub by_composition: Vec<CompositionResidual>,
}

/// What the reference leaves in structures with an element, eV for each of their atoms.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ElementResidual {
    /// Chemical symbol.
    pub symbol: String,
    /// Atomic number.
    pub atomic_number: u8,
    /// Structures with it.
    pub structures: u64,
    /// Mean.
    pub mean: f64,
    /// Population standard deviation.
    pub std: f64,
}

/// What the reference leaves in structures of one composition, eV for each of their atoms.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompositionResidual {
    /// The formula in Hill order.
    pub formula: String,
    /// Structures of it.
    pub structures: u64,
    /// Mean.
    pub mean: f64,
}

/// What is counted while structures go by.
#[derive(Default)]
pub(super) struct EnergyTally {
    total: Vec<f64>,
    unreferenced: u64,
    referenced: Vec<f64>,
    per_atom: Vec<f64>,
    by_element: BTreeMap<u8, Sums>,
    by_composition: BTreeMap<String, Sums>,
}

#[derive(Default, Clone, Copy)]
struct Sums {
    count: u64,
    sum: f64,
    squares: f64,
}

impl Sums {
    fn add(&mut self, value: f64) {
        self.merge(Self { count: 1, sum: value, squares: value * value });
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    fn std(&self) -> f64 {
        (self.squares / self.count as f64 - self.mean().powi(2)).max(0.0).sqrt()
    }
}

impl EnergyTally {
    pub(super) fn add(&mut self, atomic_numbers: &[u8], energy: f64, table: Option<&[f64; 119]>) {
        self.total.push(energy);
        let Some(table) = table else { return };
        let zero: f64 = atomic_numbers.iter().map(|&z| table[z as usize]).sum();
        if zero.is_nan() {
            self.unreferenced += 1;
            return;
        }
        let rest = (energy - zero) / atomic_numbers.len() as f64;
        self.referenced.push(energy - zero);
        self.per_atom.push(rest);
        for (z, _) in shards::statistics::element_counts(atomic_numbers) {
            self.by_element.entry(z).or_default().add(rest);
        }
        self.by_composition.entry(element::hill_formula(atomic_numbers)).or_default().add(rest);
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.total.extend(other.total);
        self.unreferenced += other.unreferenced;
        self.referenced.extend(other.referenced);
        self.per_atom.extend(other.per_atom);
        for (z, sums) in other.by_element {
            self.by_element.entry(z).or_default().merge(sums);
        }
        for (formula, sums) in other.by_composition {
            self.by_composition.entry(formula).or_default().merge(sums);
        }
    }

    /// `None` where no structure has an energy.
    pub(super) fn finish(self) -> Option<Energies> {
        let element = |(z, sums): (u8, Sums)| ElementResidual {
            symbol: element::symbol(z).into(),
            atomic_number: z,
            structures: sums.count,
            mean: sums.mean(),
            std: sums.std(),
        };
        let composition = |(formula, sums): (String, Sums)| CompositionResidual {
            formula,
            structures: sums.count,
            mean: sums.mean(),
        };
        let mut by_composition: Vec<_> = self.by_composition.into_iter().map(composition).collect();
        // Stable: equal ones stay in the order of their formulas.
        by_composition.sort_by(|a, b| b.mean.abs().total_cmp(&a.mean.abs()));
        by_composition.truncate(LISTED);
        Some(Energies {
            total: RealDistribution::of(self.total)?,
            unreferenced: self.unreferenced,
            referenced: RealDistribution::of(self.referenced),
            referenced_per_atom: RealDistribution::of(self.per_atom),
            by_element: self.by_element.into_iter().map(element).collect(),
            by_composition,
        })
    }
}
