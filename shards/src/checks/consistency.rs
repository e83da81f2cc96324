use serde::{Deserialize, Serialize};

use crate::exact_sum::ExactSum;
use crate::structure::Structure;

/// Largest displacement of an atom between two frames that are compared, Å.
const STEP: f64 = 0.2;
/// Fewest pairs that allow a judgement.
const PAIRS: u64 = 10;

/// How energies follow the forces along trajectories: ΔE regressed on `−½ (F₁ + F₂) · Δr` of neighbouring frames.
///
/// Right signs and units give a slope of 1; gradients taken for forces −1; hartree/Å beside eV 27.2 or its inverse.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consistency {
    /// Pairs of rows of the same atoms, one after the other, no atom moved by more than 0.2 Å.
    pub pairs: u64,
    /// ΔE over its prediction, least squares through the origin.
    pub slope: f64,
    /// Σ ΔE·p / √(Σ ΔE² · Σ p²): how far energies follow forces at all.
    pub correlation: f64,
}

impl Consistency {
    /// What is wrong with signs or units, if that can be told.
    pub fn fault(&self) -> Option<String> {
        if self.pairs < PAIRS || self.correlation.abs() < 0.7 || (0.67..1.5).contains(&self.slope) {
            return None;
        }
        let text = format!(
            "along trajectories the energy changes by {:.3} times what the forces predict ({} pairs of frames)",
            self.slope, self.pairs
        );
        let hint =
            if self.slope < 0.0 { "the forces look like gradients" } else { "a unit is probably wrong" };
        Some(format!("{text}: {hint}"))
    }
}

/// Exact sums of the regression.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConsistencySums {
    pairs: u64,
    product: ExactSum,
    predicted: ExactSum,
    found: ExactSum,
}

impl ConsistencySums {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.pairs += other.pairs;
        self.product.merge(other.product);
        self.predicted.merge(other.predicted);
        self.found.merge(other.found);
    }

    /// `None` without a pair, or when nothing moved.
    pub(crate) fn finish(&self) -> Option<Consistency> {
        let (product, predicted, found) = (self.product.value(), self.predicted.value(), self.found.value());
        (self.pairs > 0 && predicted > 0.0 && found > 0.0).then(|| Consistency {
            pairs: self.pairs,
            slope: product / predicted,
            correlation: product / (predicted.sqrt() * found.sqrt()),
        })
    }

    fn add(&mut self, predicted: f64, found: f64) {
        self.pairs += 1;
        self.product.add(predicted * found);
        self.predicted.add(predicted * predicted);
        self.found.add(found * found);
    }
}

/// The frame before, kept in buffers that are used again.
#[derive(Debug, Default)]
pub(crate) struct Previous {
    comparable: bool,
    atomic_numbers: Vec<u8>,
    cell: Option<[f64; 9]>,
    charge: Option<f64>,
    spin: Option<f64>,
    positions: Vec<f64>,
    forces: Vec<f64>,
    energy: f64,
}

impl Previous {
    /// Compares a frame with the one before it and takes its place.
    pub(crate) fn follow(&mut self, structure: &Structure, sums: &mut ConsistencySums) {
        let (Some(energy), Some(forces)) = (structure.energy, &structure.forces) else {
            self.comparable = false;
            return;
        };
        let same = self.comparable
            && self.charge == structure.charge
            && self.spin == structure.spin
            && self.atomic_numbers == structure.atomic_numbers
            && self.cell == structure.cell;
        if same {
            let (mut work, mut step) = (0.0, 0.0f64);
            for (i, (x, f)) in structure.positions.iter().zip(forces.iter()).enumerate() {
                let d = x - self.positions[i];
                step = step.max(d.abs());
                work += 0.5 * (f + self.forces[i]) * d;
            }
            let found = energy - self.energy;
            // Steps that large, or energies so far apart, would only swamp the others.
            if step > 1e-6 && step <= STEP && work.abs() < 1e3 && found.abs() < 1e5 {
                sums.add(-work, found);
            }
        } else {
            self.comparable = true;
            (self.charge, self.spin) = (structure.charge, structure.spin);
            self.atomic_numbers.clone_from(&structure.atomic_numbers);
            self.cell = structure.cell;
        }
        self.energy = energy;
        self.positions.clear();
        self.positions.extend(structure.positions.iter());
        self.forces.clear();
        self.forces.extend(forces.iter());
    }
}
