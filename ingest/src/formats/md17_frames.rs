//! The arrays of one molecule's npz: rMD17's names (`coords`, `energies`, …) or sGDML's (`R`, `E`, …), all of them or some.

use std::path::Path;

use crate::array::Array;
use crate::error::{IngestError, array_error, input_error};
use crate::npz::{Npz, NpzError};

/// What a file holds, without its large arrays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) atomic_numbers: Vec<u8>,
    /// Number of frames.
    pub(super) frames: usize,
    /// rMD17: the frames' numbers in MD17.
    pub(super) old_indices: Option<Vec<i64>>,
    /// Level of theory, if the file says it.
    pub(super) theory: Option<String>,
}

/// The arrays, `[frames, atoms, 3]` and `[frames]`, in the file's units.
pub(super) struct Frames {
    pub(super) positions: Array<'static>,
    pub(super) energies: Option<Vec<f64>>,
    pub(super) forces: Option<Array<'static>>,
}

/// An array by the names that it goes by.
const NUMBERS: [&str; 2] = ["nuclear_charges", "z"];
const POSITIONS: [&str; 2] = ["coords", "R"];
const ENERGIES: [&str; 2] = ["energies", "E"];
const FORCES: [&str; 2] = ["forces", "F"];
const OLD_INDICES: &str = "old_indices";

/// An open file.
struct Archive<'p> {
    path: &'p Path,
    npz: Npz,
    names: Vec<String>,
}

impl<'p> Archive<'p> {
    fn open(path: &'p Path) -> Result<Self, IngestError> {
        let npz = Npz::open(path).map_err(wrap(path))?;
        let names = npz.names();
        Ok(Self { path, npz, names })
    }

    fn name(&self, of: [&'static str; 2]) -> Option<&'static str> {
        of.into_iter().find(|name| self.names.iter().any(|n| n == name))
    }

    fn required(&self, of: [&'static str; 2]) -> Result<&'static str, IngestError> {
        self.name(of).ok_or_else(|| IngestError::Missing {
            path: self.path.to_path_buf(),
            place: "the archive".to_owned(),
            key: of.join("` or `"),
            known: self.names.clone(),
        })
    }

    fn array(&mut self, name: &str) -> Result<Array<'static>, IngestError> {
        self.npz.array(name).map_err(wrap(self.path))
    }

    fn integers(&mut self, name: &str) -> Result<Vec<i64>, IngestError> {
        let array = self.array(name)?;
        array.to_i64().map_err(array_error(self.path, "the archive", name))
    }

    /// Refuses an array of another shape; `M` frames, `N` atoms. Energies may be a column.
    fn check_shape(&mut self, name: &str, shapes: &[&[usize]]) -> Result<(), IngestError> {
        let info = self.npz.info(name).map_err(wrap(self.path))?;
        if shapes.contains(&info.shape.as_slice()) {
            return Ok(());
        }
        let expected: Vec<String> = shapes.iter().map(|s| format!("{s:?}")).collect();
        Err(IngestError::Malformed {
            path: self.path.to_path_buf(),
            place: "the archive".into(),
            key: name.into(),
            expected: format!("shape {} (frames, atoms, 3)", expected.join(" or ")),
            found: format!("{:?}", info.shape),
        })
    }

    /// Refuses units other than those of all published files.
    fn check_units(&mut self) -> Result<(), IngestError> {
        for (key, known) in [("r_unit", ["Ang", "Angstrom", "Å"]), ("e_unit", ["kcal/mol"; 3])] {
            let Some(found) = self.npz.text(key).map_err(wrap(self.path))? else { continue };
            if !known.iter().any(|k| k.eq_ignore_ascii_case(&found)) {
                return Err(IngestError::Malformed {
                    path: self.path.to_path_buf(),
                    place: "the archive".into(),
                    key: key.into(),
                    expected: known[0].to_owned(),
                    found: format!("{found:?}; write the frames as extxyz and give --units"),
                });
            }
        }
        Ok(())
    }
}

fn wrap(path: &Path) -> impl Fn(NpzError) -> IngestError + use<> {
    let path = path.to_path_buf();
    move |source| IngestError::Npz { path: path.clone(), source: Box::new(source) }
}

impl Contents {
    /// Reads the small arrays and checks the shapes of the large ones.
    pub(super) fn read(path: &Path) -> Result<Self, IngestError> {
        let mut archive = Archive::open(path)?;
        archive.check_units()?;
        let (numbers, positions) = (archive.required(NUMBERS)?, archive.required(POSITIONS)?);
        let charges = archive.integers(numbers)?;
        let known = |z: i64| u8::try_from(z).ok().filter(|z| (1..=118).contains(z));
        let atomic_numbers: Option<Vec<u8>> = charges.iter().map(|&z| known(z)).collect();
        let Some(atomic_numbers) = atomic_numbers.filter(|z| !z.is_empty()) else {
            let found: Vec<String> = charges.iter().take(30).map(i64::to_string).collect();
            let problem =
                format!("`{numbers}`: expected atomic numbers from 1 to 118, found {}", found.join(" "));
            return Err(input_error(path, problem));
        };
        let shape = archive.npz.info(positions).map_err(wrap(path))?.shape;
        let (frames, atoms) = (shape.first().copied().unwrap_or(0), atomic_numbers.len());
        if frames > u32::MAX as usize {
            return Err(input_error(
                path,
                format!("`{positions}`: {frames} frames are more than any file has"),
            ));
        }
        archive.check_shape(positions, &[&[frames, atoms, 3]])?;
        let (energies, forces) = (archive.name(ENERGIES), archive.name(FORCES));
        if energies.is_none() && forces.is_none() {
            archive.required(ENERGIES)?;
        }
        if let Some(energies) = energies {
            archive.check_shape(energies, &[&[frames], &[frames, 1]])?;
        }
        if let Some(forces) = forces {
            archive.check_shape(forces, &[&[frames, atoms, 3]])?;
        }
        let mut old_indices = None;
        if archive.names.iter().any(|n| n == OLD_INDICES) {
            archive.check_shape(OLD_INDICES, &[&[frames]])?;
            old_indices = Some(archive.integers(OLD_INDICES)?);
        }
        let theory = archive.npz.text("theory").map_err(wrap(path))?;
        Ok(Self { atomic_numbers, frames, old_indices, theory: theory.filter(|t| !t.is_empty()) })
    }
}

impl Frames {
    /// Reads the large arrays of a file whose shapes [`Contents::read`] has checked.
    pub(super) fn read(path: &Path, contents: &Contents) -> Result<Self, IngestError> {
        let mut archive = Archive::open(path)?;
        let positions = archive.required(POSITIONS)?;
        let positions = archive.array(positions)?;
        let energies = archive.name(ENERGIES).map(|name| archive.array(name)).transpose()?;
        let forces = archive.name(FORCES).map(|name| archive.array(name)).transpose()?;
        let size = 3 * contents.frames * contents.atomic_numbers.len();
        let same = positions.len() == size
            && energies.as_ref().is_none_or(|e| e.len() == contents.frames)
            && forces.as_ref().is_none_or(|f| f.len() == size);
        if !same {
            return Err(input_error(path, "changed while it was converted"));
        }
        Ok(Self { positions, energies: energies.map(|e| e.to_f64()), forces })
    }
}
