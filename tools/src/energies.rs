//! Energies after subtraction of the linear reference, over a sample of the rows: here the element lists must be decoded.

use std::collections::BTreeMap;

use serde::Serialize;
use shards::reader::{Columns, RowGroup};
use shards::{Dataset, LinearReference};

use crate::counts::RealDistribution;
use crate::error::ReportError;
use crate::histogram::LinearBins;

/// Referenced energies per atom of some structures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReferencedSample {
    /// Whether these are all structures that have an energy and whose elements have a coefficient.
    pub complete: bool,
    /// Structures read.
    pub read: u64,
    /// Structures with an element that the reference does not have; they are left out.
    pub unreferenced: u64,
    /// (E − Σ coefficient) / N, eV.
    pub per_atom: RealDistribution,
}

/// Reads evenly spaced row groups of at most about `limit` rows together. `None` where no structure has such an energy.
pub fn referenced_sample(
    dataset: &Dataset,
    reference: &LinearReference,
    limit: u64,
) -> Result<Option<ReferencedSample>, ReportError> {
    let chosen = evenly_spaced(dataset.row_groups(), limit);
    let mut values = vec![];
    let (mut read, mut unreferenced) = (0, 0);
    for group in &chosen {
        let block = dataset.read(group, Columns::energies())?;
        for index in 0..block.rows() {
            let row = block.row(index);
            read += 1;
            let Some(energy) = row.energy else { continue };
            match reference.of(row.atomic_numbers) {
                Ok(zero) => values.push((energy - zero) / row.atomic_numbers.len() as f64),
                Err(_) => unreferenced += 1,
            }
        }
    }
    let complete = chosen.len() == dataset.row_groups().len();
    Ok(distribution(&values).map(|per_atom| ReferencedSample { complete, read, unreferenced, per_atom }))
}

/// Row groups at equal distances, the first of them always, at most `limit` rows together (but at least one group).
fn evenly_spaced(groups: &[RowGroup], limit: u64) -> Vec<RowGroup> {
    let rows: u64 = groups.iter().map(|g| g.rows.end - g.rows.start).sum();
    let stride = rows.div_ceil(limit.max(1)).max(1) as usize;
    groups.iter().step_by(stride).cloned().collect()
}

fn distribution(values: &[f64]) -> Option<RealDistribution> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let (min, max) = values.iter().fold(None, |range: Option<(f64, f64)>, &v| {
        Some(range.map_or((v, v), |(low, high)| (low.min(v), high.max(v))))
    })?;
    let bins = LinearBins::covering(min, max);
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    for &value in values {
        *counts.entry(bins.index(value)).or_default() += 1;
    }
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    let structures = values.len() as u64;
    Some(RealDistribution {
        structures,
        mean,
        std: variance.sqrt(),
        min,
        max,
        histogram: bins.histogram(&counts),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_spread_over_the_dataset() {
        let groups: Vec<RowGroup> = (0..10u64)
            .map(|i| RowGroup { part: 0, index: i as usize, rows: i * 100..(i + 1) * 100 })
            .collect();
        let starts =
            |limit| evenly_spaced(&groups, limit).iter().map(|g| g.rows.start / 100).collect::<Vec<_>>();
        assert_eq!(starts(1000).len(), 10);
        assert_eq!(starts(500), [0, 2, 4, 6, 8]);
        assert_eq!(starts(300), [0, 4, 8]);
        assert_eq!(starts(1), [0]);
    }

    #[test]
    fn moments_of_values() {
        let got = distribution(&[1.0, 2.0, 6.0]).unwrap();
        assert_eq!((got.mean, got.min, got.max, got.structures), (3.0, 1.0, 6.0, 3));
        assert!((got.std - (14.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(got.histogram.total(), 3);
        assert!(distribution(&[]).is_none());
    }
}
