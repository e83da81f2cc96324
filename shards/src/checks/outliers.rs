//! Values far from a dataset's bulk, by median and median absolute deviation, which the outliers themselves do not move.

use std::collections::BTreeMap;

use super::keys::KeyFiles;
use super::{Check, LISTED, OUTLIER_SCORE, Spread, Suspect};
use crate::error::ShardError;
use crate::reader::{Columns, Dataset};

/// Rows that medians are taken from at most.
const SAMPLE: u64 = 1 << 20;
/// Scales a median absolute deviation to the standard deviation of a normal distribution.
const NORMAL: f64 = 1.4826;
/// Below this, eV/Å, no force is an outlier: converged relaxations make a median that first frames exceed by far.
const USUAL_FORCE: f64 = 10.0;
/// Below this, eV for each atom from the median, no energy is an outlier: heat and relaxation do as much.
const USUAL_ENERGY: f64 = 0.1;

/// Every how many rows one is taken.
pub(crate) fn stride(rows: u64) -> u64 {
    rows.div_ceil(SAMPLE).max(1)
}

/// Energies for each atom after the linear reference, over all rows.
#[derive(Debug, Clone)]
pub(crate) struct Residuals {
    /// Of every k-th row.
    pub(crate) sample: Vec<f64>,
    /// First row of a row group → least and largest value in it.
    pub(crate) extremes: BTreeMap<u64, (f64, f64)>,
    /// The reference by atomic number.
    pub(crate) table: [f64; 119],
}

/// Outliers of one kind.
#[derive(Debug, Default)]
pub(crate) struct Outliers {
    pub(crate) spread: Option<Spread>,
    pub(crate) count: u64,
    pub(crate) listed: Vec<Suspect>,
}

/// Median and median absolute deviation. `None` without values.
fn spread(mut values: Vec<f64>) -> Option<Spread> {
    let median = median(&mut values)?;
    values.iter_mut().for_each(|x| *x = (*x - median).abs());
    let sample = values.len() as u64;
    Some(Spread { median, mad: self::median(&mut values)?, sample })
}

/// The middle value, the lower of two.
fn median(values: &mut [f64]) -> Option<f64> {
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// Finds the energies that are outliers; only row groups that hold some are read.
pub(crate) fn energies(dataset: &Dataset, residuals: Residuals) -> Result<Outliers, ShardError> {
    let Residuals { sample, extremes, table } = residuals;
    let mut found = Outliers { spread: spread(sample), ..Outliers::default() };
    let Some(spread) = found.spread else { return Ok(found) };
    let reach = (OUTLIER_SCORE * NORMAL * spread.mad).max(USUAL_ENERGY);
    let (low, high) = (spread.median - reach, spread.median + reach);
    for group in dataset.row_groups() {
        let inside = extremes.get(&group.rows.start).is_none_or(|e| e.0 >= low && e.1 <= high);
        if inside {
            continue;
        }
        let block = dataset.read(group, Columns::identity().and(Columns::energies()))?;
        for index in 0..block.rows() {
            let row = block.row(index);
            let Some(energy) = row.energy else { continue };
            let value = per_atom(energy, row.atomic_numbers, &table);
            if value >= low && value <= high {
                continue;
            }
            found.count += 1;
            if found.listed.len() < LISTED {
                found.listed.push(Suspect {
                    row: group.rows.start + index as u64,
                    id: row.id.to_owned(),
                    check: Check::EnergyOutlier,
                    value,
                    limit: if value < low { low } else { high },
                });
            }
        }
    }
    Ok(found)
}

/// `(E − Σ reference) / N`.
pub(crate) fn per_atom(energy: f64, atomic_numbers: &[u8], table: &[f64; 119]) -> f64 {
    let reference: f64 = atomic_numbers.iter().map(|&z| table[z as usize]).sum();
    (energy - reference) / atomic_numbers.len() as f64
}

/// Finds the structures whose largest force is an outlier. Their ids are not known here.
pub(crate) fn forces(keys: &KeyFiles, rows: u64) -> Result<Outliers, ShardError> {
    let (stride, mut sample) = (stride(rows), Vec::new());
    keys.forces(|row, force| {
        if row.is_multiple_of(stride) {
            sample.push(force);
        }
    })?;
    let mut found = Outliers { spread: spread(sample), ..Outliers::default() };
    let Some(spread) = found.spread else { return Ok(found) };
    let limit = (spread.median + OUTLIER_SCORE * NORMAL * spread.mad).max(USUAL_FORCE);
    keys.forces(|row, value| {
        if value > limit {
            found.count += 1;
            if found.listed.len() < LISTED {
                let id = String::new();
                found.listed.push(Suspect { row, id, check: Check::ForceOutlier, value, limit });
            }
        }
    })?;
    Ok(found)
}

/// Fills in the ids that are missing.
pub(crate) fn name(dataset: &Dataset, suspects: &mut [Suspect]) -> Result<(), ShardError> {
    suspects.sort_by_key(|s| (s.row, s.check));
    let mut known: Option<(usize, crate::reader::Block)> = None;
    for suspect in suspects.iter_mut().filter(|s| s.id.is_empty()) {
        let index = dataset.row_group_of(suspect.row);
        let group = &dataset.row_groups()[index];
        let block = match known.take() {
            Some((at, block)) if at == index => block,
            _ => dataset.read(group, Columns::identity())?,
        };
        block.row((suspect.row - group.rows.start) as usize).id.clone_into(&mut suspect.id);
        known = Some((index, block));
    }
    Ok(())
}
