//! One atomistic structure and its labels, in Å, eV and eV/Å.

use serde::{Deserialize, Serialize};

use crate::element;

/// Width of a dataset's positions and forces: that of its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FloatWidth {
    /// 32 bits.
    F32,
    /// 64 bits.
    F64,
}

/// Numbers of either width.
#[derive(Debug, Clone, PartialEq)]
pub enum Floats {
    /// 32 bits.
    F32(Vec<f32>),
    /// 64 bits.
    F64(Vec<f64>),
}

impl Floats {
    /// How many numbers there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number at `index`, widened.
    pub fn get(&self, index: usize) -> f64 {
        match self {
            Self::F32(v) => f64::from(v[index]),
            Self::F64(v) => v[index],
        }
    }

    /// All numbers, widened.
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Self::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Self::F64(v) => v.clone(),
        }
    }

    /// Multiplies by a unit factor in f64 and rounds back to the own width.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        match self {
            Self::F32(mut v) => {
                v.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
                Self::F32(v)
            }
            Self::F64(mut v) => {
                v.iter_mut().for_each(|x| *x *= factor);
                Self::F64(v)
            }
        }
    }

    /// All numbers in turn, widened.
    pub fn iter(&self) -> impl Iterator<Item = f64> + '_ {
        (0..self.len()).map(|index| self.get(index))
    }
}

/// A structure with its labels. Absent labels are `None`, never 0 or NaN.
#[derive(Debug, Clone, PartialEq)]
pub struct Structure {
    /// Identity at the source, for example `random123/frame45`. Unique within a dataset.
    pub id: String,
    /// What must not be split apart: formula, reaction, relaxation.
    pub group: String,
    /// Atomic numbers, `[atoms]`, each in 1..=118.
    pub atomic_numbers: Vec<u8>,
    /// Positions in Å, flat `[3 · atoms]`.
    pub positions: Floats,
    /// Cell vectors as rows, Å.
    pub cell: Option<[f64; 9]>,
    /// Which cell vectors are periodic.
    pub pbc: [bool; 3],
    /// 0 sub-surface, 1 surface, 2 adsorbate. `None` acts as 2 everywhere.
    pub tags: Option<Vec<u8>>,
    /// Atoms held in place by the calculation. `None`: none.
    pub fixed: Option<Vec<bool>>,
    /// Total charge, e.
    pub charge: Option<f64>,
    /// Spin multiplicity 2S + 1.
    pub spin: Option<f64>,
    /// Total energy as the source defines its zero, eV.
    pub energy: Option<f64>,
    /// `−∂E/∂r`, eV/Å, flat `[3 · atoms]`.
    pub forces: Option<Floats>,
    /// Voigt order xx yy zz yz xz xy, eV/Å³.
    pub stress: Option<[f64; 6]>,
    /// Scalar targets, aligned with the layout's.
    pub targets: Vec<Option<f64>>,
}

/// A broken rule of a structure.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// No atoms.
    #[error("there are no atoms")]
    Empty,
    /// An array has another length than the atoms ask for.
    #[error("`{key}`: expected {expected} values, found {found}")]
    Length {
        /// Which array.
        key: &'static str,
        /// Its proper length.
        expected: usize,
        /// Its length.
        found: usize,
    },
    /// A number that is none.
    #[error("`{key}`: value {index} is NaN or infinite")]
    NonFinite {
        /// Which array.
        key: &'static str,
        /// Where in it.
        index: usize,
    },
    /// A number that no calculation gives: a fill value or a wrong unit.
    #[error("`{key}`: value {index} is {found:e}, beyond ±{limit:e}: a fill value, or a wrong unit")]
    OutOfRange {
        /// Which array.
        key: &'static str,
        /// Where in it.
        index: usize,
        /// The number.
        found: f64,
        /// The largest magnitude accepted.
        limit: f64,
    },
    /// Other scalar targets than the dataset has.
    #[error("{found} scalar targets; the dataset has {expected}")]
    Targets {
        /// How many the layout has.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// An atomic number outside the periodic table.
    #[error("atom {index} has atomic number {found}; known are 1 to 118")]
    UnknownElement {
        /// Which atom.
        index: usize,
        /// Its number.
        found: u8,
    },
    /// A tag that means nothing.
    #[error("atom {index} has tag {found}; known are 0, 1 and 2")]
    UnknownTag {
        /// Which atom.
        index: usize,
        /// Its tag.
        found: u8,
    },
    /// Periodic without a cell.
    #[error("periodic along some direction, but there is no cell")]
    NoCell,
    /// The cell of a periodic structure spans no volume.
    #[error("the cell's volume is {volume:e} Å³; a periodic structure needs a cell that spans a volume")]
    FlatCell {
        /// Its volume.
        volume: f64,
    },
    /// More atoms than a neighbour index can name.
    #[error("{atoms} atoms; the format stores at most 65535")]
    TooLarge {
        /// How many.
        atoms: usize,
    },
}

impl Fault {
    /// A short name to count rejects by.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Length { .. } => "length",
            Self::NonFinite { .. } => "non_finite",
            Self::OutOfRange { .. } => "out_of_range",
            Self::Targets { .. } => "targets",
            Self::UnknownElement { .. } => "unknown_element",
            Self::UnknownTag { .. } => "unknown_tag",
            Self::NoCell | Self::FlatCell { .. } => "cell",
            Self::TooLarge { .. } => "too_large",
        }
    }
}

impl Structure {
    /// A structure in empty space without any label; the rest is filled in by struct update.
    pub fn new(id: String, group: String, atomic_numbers: Vec<u8>, positions: Floats) -> Self {
        Self {
            id,
            group,
            atomic_numbers,
            positions,
            cell: None,
            pbc: [false; 3],
            tags: None,
            fixed: None,
            charge: None,
            spin: None,
            energy: None,
            forces: None,
            stress: None,
            targets: vec![],
        }
    }

    /// How many atoms there are.
    pub fn atoms(&self) -> usize {
        self.atomic_numbers.len()
    }

    /// Checks every rule of the format that one structure alone can break.
    pub fn check(&self) -> Result<(), Fault> {
        let n = self.atoms();
        match n {
            0 => return Err(Fault::Empty),
            1..=65_535 => {}
            atoms => return Err(Fault::TooLarge { atoms }),
        }
        length("positions", 3 * n, self.positions.len())?;
        within("positions", LARGEST_POSITION, self.positions.iter())?;
        for (index, &found) in self.atomic_numbers.iter().enumerate() {
            if found == 0 || found > element::MAX_ATOMIC_NUMBER {
                return Err(Fault::UnknownElement { index, found });
            }
        }
        self.check_cell()?;
        if let Some(tags) = &self.tags {
            length("tags", n, tags.len())?;
            if let Some(index) = tags.iter().position(|&tag| tag > 2) {
                return Err(Fault::UnknownTag { index, found: tags[index] });
            }
        }
        if let Some(fixed) = &self.fixed {
            length("fixed", n, fixed.len())?;
        }
        self.check_labels()
    }

    fn check_cell(&self) -> Result<(), Fault> {
        let Some(cell) = &self.cell else {
            return if self.pbc.contains(&true) { Err(Fault::NoCell) } else { Ok(()) };
        };
        within("cell", LARGEST_POSITION, cell.iter().copied())?;
        let volume = cell_volume(cell).abs();
        if self.pbc == [true; 3] && volume < 1e-6 {
            return Err(Fault::FlatCell { volume });
        }
        Ok(())
    }

    fn check_labels(&self) -> Result<(), Fault> {
        within("energy", LARGEST_SCALAR, self.energy.into_iter())?;
        within("charge", LARGEST_SCALAR, self.charge.into_iter())?;
        within("spin", LARGEST_SCALAR, self.spin.into_iter())?;
        if let Some(forces) = &self.forces {
            length("forces", 3 * self.atoms(), forces.len())?;
            within("forces", LARGEST_FORCE, forces.iter())?;
        }
        if let Some(stress) = &self.stress {
            within("stress", LARGEST_FORCE, stress.iter().copied())?;
        }
        within("targets", LARGEST_SCALAR, self.targets.iter().map(|t| t.unwrap_or(0.0)))
    }
}

/// Signed volume of a cell given by rows, Å³; negative for left-handed cells.
pub fn cell_volume(cell: &[f64; 9]) -> f64 {
    let [ax, ay, az, bx, by, bz, cx, cy, cz] = *cell;
    ax * (by * cz - bz * cy) - ay * (bx * cz - bz * cx) + az * (bx * cy - by * cx)
}

fn length(key: &'static str, expected: usize, found: usize) -> Result<(), Fault> {
    if expected == found { Ok(()) } else { Err(Fault::Length { key, expected, found }) }
}

/// Å.
const LARGEST_POSITION: f64 = 1e7;
/// eV/Å, eV/Å³. Sums of squares of 10¹⁰ such components still fit [`crate::exact_sum`].
const LARGEST_FORCE: f64 = 1e6;
/// eV and units of targets; an all-electron total energy of a thousand uranium atoms is below 10⁹ eV.
const LARGEST_SCALAR: f64 = 1e10;

fn within(key: &'static str, limit: f64, values: impl Iterator<Item = f64>) -> Result<(), Fault> {
    for (index, found) in values.enumerate() {
        if !found.is_finite() {
            return Err(Fault::NonFinite { key, index });
        }
        if found.abs() > limit {
            return Err(Fault::OutOfRange { key, index, found, limit });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn water() -> Structure {
        Structure {
            id: "water".into(),
            group: "H2O".into(),
            atomic_numbers: vec![8, 1, 1],
            positions: Floats::F64(vec![0.0, 0.0, 0.0, 0.96, 0.0, 0.0, -0.24, 0.93, 0.0]),
            cell: None,
            pbc: [false; 3],
            tags: None,
            fixed: None,
            charge: None,
            spin: None,
            energy: Some(-2081.0),
            forces: None,
            stress: None,
            targets: vec![],
        }
    }

    #[test]
    fn each_rule_is_told_by_name() {
        assert_eq!(water().check(), Ok(()));
        let check = |change: fn(&mut Structure)| {
            let mut s = water();
            change(&mut s);
            s.check().unwrap_err().to_string()
        };
        assert_eq!(
            check(|s| s.positions = Floats::F32(vec![0.0; 8])),
            "`positions`: expected 9 values, found 8"
        );
        assert_eq!(check(|s| s.energy = Some(f64::NAN)), "`energy`: value 0 is NaN or infinite");
        assert!(
            check(|s| s.forces = Some(Floats::F64(vec![1e20; 9]))).contains("value 0 is 1e20, beyond ±1e6")
        );
        assert_eq!(check(|s| s.spin = Some(f64::INFINITY)), "`spin`: value 0 is NaN or infinite");
        assert_eq!(check(|s| s.atomic_numbers[1] = 119), "atom 1 has atomic number 119; known are 1 to 118");
        assert_eq!(check(|s| s.tags = Some(vec![0, 3, 1])), "atom 1 has tag 3; known are 0, 1 and 2");
        assert_eq!(check(|s| s.pbc[2] = true), "periodic along some direction, but there is no cell");
        assert!(
            check(|s| {
                s.pbc = [true; 3];
                s.cell = Some([1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
            })
            .contains("volume is 0e0")
        );
    }

    #[test]
    fn units_are_applied_in_f64() {
        let third = 1.0_f32 / 3.0;
        let Floats::F32(v) = Floats::F32(vec![third]).scaled(27.211_386) else { unreachable!() };
        assert_eq!(v[0], (f64::from(third) * 27.211_386) as f32);
    }
}
