//! `--linear-reference FILE.npz`: published coefficients, as JMP and fairchem store them.

use std::collections::BTreeMap;
use std::path::Path;

use shards::element::MAX_ATOMIC_NUMBER;
use shards::linear_reference::GivenReference;
use shards::verify::hash_file;

use crate::error::{IngestError, input_error};
use crate::npz::{Npz, NpzError};

/// The array that holds them.
const KEY: &str = "coeff";

/// Reads `coeff`, eV by atomic number from 0; of a two-dimensional one the first row. Elements with 0 count as absent.
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
    let mut coefficients = BTreeMap::new();
    for (z, value) in values.into_iter().enumerate().filter(|(_, value)| *value != 0.0) {
        match u8::try_from(z) {
            Ok(z) if (1..=MAX_ATOMIC_NUMBER).contains(&z) && value.is_finite() && value.abs() < 1e7 => {
                coefficients.insert(z, value);
            }
            _ => {
                let problem = format!(
                    "`{KEY}`: element {z} is {value}; expected energies in eV at the places 1 to {MAX_ATOMIC_NUMBER}"
                );
                return Err(input_error(path, problem));
            }
        }
    }
    if coefficients.is_empty() {
        return Err(input_error(path, format!("`{KEY}`: no element has a value")));
    }
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(GivenReference { file, blake3: hash_file(path)?, coefficients })
}
