//! `--linear-reference FILE.npz`: published coefficients, as JMP and fairchem store them.

use std::collections::BTreeMap;
use std::path::Path;

use shards::checks::energy_range;
use shards::element::MAX_ATOMIC_NUMBER;
use shards::linear_reference::GivenReference;
use shards::verify::hash_file;

use crate::error::{IngestError, input_error};
use crate::npz::{Npz, NpzError};

/// The array that holds them.
const KEY: &str = "coeff";

/// Reads `coeff`, eV by atomic number from 0; of a two-dimensional one the first row. Elements without a usable value are
/// absent, see [`usable`].
///
/// # Errors
/// When the file is no npz, lacks the array, or holds numbers that no reference has.
pub fn read(path: &Path) -> Result<GivenReference, IngestError> {
    let wrap = |source: NpzError| IngestError::Npz { path: path.to_path_buf(), source: Box::new(source) };
    let mut npz = Npz::open(path).map_err(wrap)?;
    let array = npz.array(KEY).map_err(wrap)?;
    let values = match array.shape() {
        [_] => array.to_f64(),
        [rows, width] if *rows > 0 => {
            let mut all = array.to_f64();
            all.truncate(*width);
            all
        }
        shape => {
            let problem =
                format!("`{KEY}`: expected one value for each atomic number, found shape {shape:?}");
            return Err(input_error(path, problem));
        }
    };
    let coefficients = usable(&values);
    if coefficients.is_empty() {
        return Err(input_error(path, format!("`{KEY}`: no element has a value")));
    }
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(GivenReference { file, blake3: hash_file(path)?, coefficients })
}

/// Where the typical coefficient is below this, eV, it is that of a pseudopotential or an atomisation.
const VALENCE_ONLY: f64 = 50.0;
/// How much larger than the typical one such a coefficient can be.
const SPREAD: f64 = 30.0;

/// The coefficients that are energies of atoms.
///
/// Published vectors hold 0 where the fit had no such element, or what a singular fit leaves there, up to 10¹² eV: that is
/// beyond all electrons of the atom, or far beyond the other coefficients where these are of valence electrons only. Place 0
/// is no element.
fn usable(values: &[f64]) -> BTreeMap<u8, f64> {
    let possible = |z: u8, value: f64| {
        let (low, high) = energy_range(&[z]);
        value != 0.0 && value >= low && value <= high
    };
    let numbered = values.iter().enumerate().skip(1).take(usize::from(MAX_ATOMIC_NUMBER));
    let mut coefficients: BTreeMap<u8, f64> =
        numbered.map(|(z, &value)| (z as u8, value)).filter(|&(z, value)| possible(z, value)).collect();
    let mut sizes: Vec<f64> = coefficients.values().map(|c| c.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    if let Some(&typical) = sizes.get(sizes.len() / 2)
        && typical < VALENCE_ONLY
    {
        coefficients.retain(|_, c| c.abs() <= SPREAD * typical);
    }
    coefficients
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_singular_fit_leaves_is_no_coefficient() {
        let mut valence = vec![0.0; 100];
        let sane = [(1, -3.4), (6, -7.4), (8, -6.7), (22, -11.8), (29, -2.7), (78, -4.1), (80, 1.2)];
        let garbage = [(0, 8e5), (2, -5.8e10), (5, 1.2e9), (35, -23_300.0), (36, -4690.0), (43, 156.0)];
        for (z, value) in sane.into_iter().chain(garbage) {
            valence[z] = value;
        }
        let expected: BTreeMap<u8, f64> = sane.iter().map(|&(z, value)| (z as u8, value)).collect();
        assert_eq!(usable(&valence), expected);
        let all_electrons = [0.0, -13.6, 4e11, 0.0, 0.0, 0.0, -1029.4, -1484.9, -2041.8, f64::NAN];
        assert_eq!(usable(&all_electrons).into_keys().collect::<Vec<_>>(), [1, 6, 7, 8]);
    }
}
