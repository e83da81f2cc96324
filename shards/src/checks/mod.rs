//! Physics of what is stored: suspicions that are counted and listed, and never change a row.
//!
//! Broken data (NaN, unknown elements, wrong tags, a flat cell) are rejects, see [`crate::structure::Fault`]. What is looked at
//! here can be stored and read, but is unlikely to be what the source meant.

mod consistency;
mod distance;
pub(crate) mod keys;
pub(crate) mod outliers;

use std::collections::BTreeMap;

pub use consistency::Consistency;
pub(crate) use consistency::{ConsistencySums, Previous};
pub use distance::closest_pair;
pub use keys::structure_hash;
use serde::{Deserialize, Serialize};

use crate::structure::{Structure, cell_volume};

/// Two atoms closer than this are suspicious, Å: the shortest bond there is, H–H, has 0.74 Å.
pub const CLOSE: f64 = 0.5;
/// Two atoms closer than this count as one on top of the other, Å; graphs have no edge between them.
pub const OVERLAP: f64 = 0.01;
/// Net force of an isolated molecule that is put down to grids and rounding, eV/Å. (Transition-1x reaches 0.024.)
pub const NET_FORCE: f64 = 0.1;
/// Least volume of a periodic cell for each atom, Å³; in diamond, the densest in atoms, it is 5.7.
pub const ATOM_VOLUME: f64 = 1.5;
/// Largest energy for each atom above the separated parts, eV.
pub const HIGHEST_ENERGY: f64 = 10.0;
/// Robust z-score, |x − median| / (1.4826 · MAD), beyond which a value is an outlier.
pub const OUTLIER_SCORE: f64 = 20.0;
/// Structures that are listed for each check; the counts go on.
pub const LISTED: usize = 1000;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Two atoms closer than [`CLOSE`].
    CloseAtoms,
    /// Two atoms closer than [`OVERLAP`].
    OverlappingAtoms,
    /// The forces on an isolated molecule without fixed atoms do not add up to zero within [`NET_FORCE`].
    NetForce,
    /// The energy lies below what all electrons of all atoms can give, or above [`HIGHEST_ENERGY`] for each atom: a wrong unit.
    EnergyRange,
    /// The cell has less than [`ATOM_VOLUME`] for each atom.
    CellVolume,
    /// The cell vectors are a left-handed set.
    LeftHandedCell,
    /// The energy for each atom after the linear reference is far from the dataset's median.
    EnergyOutlier,
    /// The largest force is far from the dataset's median.
    ForceOutlier,
    /// The same atoms at the same places (to 10⁻³ Å, shifted or not) as in an earlier row.
    DuplicateStructure,
    /// The id of an earlier row.
    DuplicateId,
}

impl Check {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::CloseAtoms,
        Self::OverlappingAtoms,
        Self::NetForce,
        Self::EnergyRange,
        Self::CellVolume,
        Self::LeftHandedCell,
        Self::EnergyOutlier,
        Self::ForceOutlier,
        Self::DuplicateStructure,
        Self::DuplicateId,
    ];

    /// The name that suspicions are counted by.
    pub fn code(self) -> &'static str {
        match self {
            Self::CloseAtoms => "close_atoms",
            Self::OverlappingAtoms => "overlapping_atoms",
            Self::NetForce => "net_force",
            Self::EnergyRange => "energy_range",
            Self::CellVolume => "cell_volume",
            Self::LeftHandedCell => "left_handed_cell",
            Self::EnergyOutlier => "energy_outlier",
            Self::ForceOutlier => "force_outlier",
            Self::DuplicateStructure => "duplicate_structure",
            Self::DuplicateId => "duplicate_id",
        }
    }

    /// What it means, for a person.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::CloseAtoms => "two atoms are closer than 0.5 Å",
            Self::OverlappingAtoms => "two atoms lie on top of one another (closer than 0.01 Å)",
            Self::NetForce => "the forces on an isolated molecule do not add up to zero (0.1 eV/Å)",
            Self::EnergyRange => "the energy is none that these atoms can have in eV: a wrong unit or sign",
            Self::CellVolume => "the cell has less than 1.5 Å³ for each atom",
            Self::LeftHandedCell => "the cell vectors are left-handed",
            Self::EnergyOutlier => "the energy after the linear reference is an outlier",
            Self::ForceOutlier => "the largest force is an outlier",
            Self::DuplicateStructure => "the same atoms at the same places as an earlier row",
            Self::DuplicateId => "the id of an earlier row",
        }
    }

    /// Whether one structure alone tells, so that [`examine`] sees it.
    pub fn is_local(self) -> bool {
        self <= Self::LeftHandedCell
    }
}

/// What one structure is suspected of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Suspicion {
    /// Which check.
    pub check: Check,
    /// What was found: Å, eV/Å, eV or Å³ by check.
    pub value: f64,
    /// The bound that it passes.
    pub limit: f64,
}

/// A line of `outliers.parquet`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suspect {
    /// Row of the dataset (in a unit's record: of the part).
    pub row: u64,
    /// Its id.
    pub id: String,
    /// Which check.
    pub check: Check,
    /// What was found.
    pub value: f64,
    /// The bound that it passes; for duplicates the earlier row.
    pub limit: f64,
}

/// What the checks found in a dataset, as the manifest tells it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckSummary {
    /// Structures by check; every check that was made is here, with 0 where it found nothing.
    pub counts: BTreeMap<String, u64>,
    /// Energies for each atom after the linear reference over all rows, eV.
    pub energy: Option<Spread>,
    /// Largest force of each structure, eV/Å.
    pub forces: Option<Spread>,
    /// Energies against forces along trajectories.
    pub consistency: Option<Consistency>,
    /// BLAKE3 of `outliers.parquet`; `None`: nothing is listed and there is no such file.
    pub outliers_blake3: Option<String>,
}

/// Where a value's bulk lies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// Median.
    pub median: f64,
    /// Median absolute deviation from it.
    pub mad: f64,
    /// Structures it was taken from: every k-th row.
    pub sample: u64,
}

/// Looks at one structure. Nothing suspicious costs no allocation.
pub fn examine(structure: &Structure) -> Vec<Suspicion> {
    let mut found = Vec::new();
    let mut note = |check, value, limit| found.push(Suspicion { check, value, limit });
    if let Some(distance) = closest_pair(structure, CLOSE) {
        note(Check::CloseAtoms, distance, CLOSE);
        if distance < OVERLAP {
            note(Check::OverlappingAtoms, distance, OVERLAP);
        }
    }
    if let Some(net) = net_force(structure).filter(|&f| f > NET_FORCE) {
        note(Check::NetForce, net, NET_FORCE);
    }
    if let Some(energy) = structure.energy {
        let (low, high) = energy_range(&structure.atomic_numbers);
        if energy < low {
            note(Check::EnergyRange, energy, low);
        } else if energy > high {
            note(Check::EnergyRange, energy, high);
        }
    }
    if let Some(cell) = &structure.cell {
        let volume = cell_volume(cell);
        let least = ATOM_VOLUME * structure.atoms() as f64;
        if structure.pbc == [true; 3] && volume.abs() < least {
            note(Check::CellVolume, volume.abs(), least);
        }
        if volume < 0.0 {
            note(Check::LeftHandedCell, volume, 0.0);
        }
    }
    found
}

/// Length of the sum of the forces on an isolated molecule, eV/Å. `None`: periodic, held by fixed atoms, or without forces.
pub fn net_force(structure: &Structure) -> Option<f64> {
    if structure.pbc.contains(&true) || structure.fixed.as_ref().is_some_and(|f| f.contains(&true)) {
        return None;
    }
    let forces = structure.forces.as_ref()?;
    let mut sum = [0.0f64; 3];
    for (i, f) in forces.iter().enumerate() {
        sum[i % 3] += f;
    }
    Some((sum[0] * sum[0] + sum[1] * sum[1] + sum[2] * sum[2]).sqrt())
}

/// Length of the largest force, eV/Å.
pub fn largest_force(structure: &Structure) -> Option<f64> {
    let forces = structure.forces.as_ref()?;
    let square = |i: usize| (0..3).map(|k| forces.get(3 * i + k).powi(2)).sum::<f64>();
    Some((0..forces.len() / 3).map(square).fold(0.0, f64::max).sqrt())
}

/// Energies that atoms can have, eV: from all their electrons bound, by the Thomas–Fermi law −20.9 Z^(7/3) eV with a fifth
/// to spare (it lies below the true energies), to [`HIGHEST_ENERGY`] for each. Any other zero (pseudopotentials, atomisation,
/// adsorption) lies in between; hartree or kcal/mol per mole taken for eV often do not.
pub fn energy_range(atomic_numbers: &[u8]) -> (f64, f64) {
    let electrons: f64 = atomic_numbers.iter().map(|&z| f64::from(z).powf(7.0 / 3.0)).sum();
    (-1.2 * 20.92 * electrons, HIGHEST_ENERGY * atomic_numbers.len() as f64)
}

#[cfg(test)]
mod tests;
