//! A periodic structure as materials databases write it, before it has labels.

use shards::structure::cell_volume;
use shards::{FloatWidth, Floats, Structure, element};
use thiserror::Error;

/// Atoms and cell in Å. Left-handed cells occur and are kept as they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Crystal {
    /// Atomic numbers, `[atoms]`.
    pub atomic_numbers: Vec<u8>,
    /// Cartesian positions, flat `[3 · atoms]`; they may lie outside the cell.
    pub positions: Vec<f64>,
    /// Cell vectors as rows.
    pub cell: [f64; 9],
    /// Which cell vectors are periodic.
    pub pbc: [bool; 3],
    /// Total charge, e, where it is given.
    pub charge: Option<f64>,
}

/// Why a description is no structure that can be stored.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum CrystalFault {
    /// It does not parse.
    #[error("{0}")]
    Malformed(String),
    /// A site is shared by elements, or not always occupied.
    #[error("site {site} is disordered: {occupation}; only whole atoms can be stored")]
    Disordered {
        /// Which site, from 0.
        site: usize,
        /// What is on it.
        occupation: String,
    },
    /// A symbol that is no element.
    #[error("site {site}: `{symbol}` is no chemical element")]
    UnknownElement {
        /// Which site, from 0.
        site: usize,
        /// The symbol.
        symbol: String,
    },
    /// Parts of the description contradict each other.
    #[error("{what}: stated {stated}, but the other numbers give {found}")]
    Contradiction {
        /// Which quantity.
        what: String,
        /// As it is stated.
        stated: String,
        /// As it follows from the rest.
        found: String,
    },
}

impl CrystalFault {
    /// A short name to count rejects by.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Disordered { .. } => "disordered",
            Self::UnknownElement { .. } => "unknown_element",
            Self::Contradiction { .. } => "contradiction",
        }
    }
}

/// Stated volumes are rounded, at worst to a few digits.
const VOLUME_TOLERANCE: f64 = 1e-3;

impl Crystal {
    /// The structure with scalar targets and without a total energy.
    pub fn into_structure(
        self,
        id: String,
        float: FloatWidth,
        energy: Option<f64>,
        targets: Vec<Option<f64>>,
    ) -> Structure {
        let positions = match float {
            FloatWidth::F64 => Floats::F64(self.positions),
            FloatWidth::F32 => Floats::F32(self.positions.iter().map(|&x| x as f32).collect()),
        };
        Structure {
            cell: Some(self.cell),
            pbc: self.pbc,
            charge: self.charge,
            energy,
            targets,
            ..Structure::new(id, reduced_formula(&self.atomic_numbers), self.atomic_numbers, positions)
        }
    }

    /// Compares a stated volume with the cell's.
    ///
    /// # Errors
    /// When it is negative or another one.
    pub(crate) fn check_volume(cell: &[f64; 9], stated: f64) -> Result<(), CrystalFault> {
        let found = cell_volume(cell).abs();
        let fits = (stated - found).abs() <= VOLUME_TOLERANCE * found.max(1.0);
        if fits {
            return Ok(());
        }
        let what = "the cell's volume in Å³".to_owned();
        Err(CrystalFault::Contradiction { what, stated: format!("{stated}"), found: format!("{found:.6}") })
    }
}

/// The atomic number of a symbol; deuterium and tritium are hydrogen.
pub(crate) fn atomic_number(site: usize, symbol: &str) -> Result<u8, CrystalFault> {
    match symbol {
        "D" | "T" => Ok(1),
        _ => element::atomic_number(symbol)
            .ok_or_else(|| CrystalFault::UnknownElement { site, symbol: symbol.to_owned() }),
    }
}

/// `positions · cell`, for positions in fractions of the cell vectors.
pub(crate) fn cartesian(cell: &[f64; 9], fraction: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|k| (0..3).map(|row| fraction[row] * cell[3 * row + k]).sum())
}

/// Composition in Hill order, divided by its greatest common divisor: the same for every cell of one compound.
pub(crate) fn reduced_formula(atomic_numbers: &[u8]) -> String {
    let mut counts = [0usize; 256];
    for &z in atomic_numbers {
        counts[usize::from(z)] += 1;
    }
    let divisor = counts.iter().copied().fold(0, gcd).max(1);
    let reduced: Vec<u8> =
        (1..=u8::MAX).flat_map(|z| std::iter::repeat_n(z, counts[usize::from(z)] / divisor)).collect();
    element::hill_formula(&reduced)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_do_not_depend_on_the_cell() {
        assert_eq!(reduced_formula(&[22, 8, 8]), "O2Ti");
        assert_eq!(reduced_formula(&[8, 22, 8, 8, 22, 8]), "O2Ti");
        assert_eq!(reduced_formula(&[14, 14]), "Si");
        assert_eq!(reduced_formula(&[]), "");
    }

    #[test]
    fn isotopes_are_elements_and_vacancies_are_not() {
        assert_eq!(atomic_number(0, "D"), Ok(1));
        assert_eq!(atomic_number(0, "Fe"), Ok(26));
        let error = atomic_number(3, "X").unwrap_err();
        assert_eq!(error.to_string(), "site 3: `X` is no chemical element");
    }
}
