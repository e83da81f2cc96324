//! Fingerprints of structures that need no bonds: quantiles over atoms of the distances to their nearest neighbours by element
//! (docs/overlap.md; after the average minimum distances of Widdowson et al., MATCH 87 (2022) 529).
//!
//! For elements α and β, and k = 1, 2, …: the distances, at most [`REACH`], of each atom of α to its k-th nearest atom of β,
//! sorted; of these the least, the quartiles and the largest are kept. Rotation, translation, reflection, the order of the atoms and the
//! choice of a crystal's cell do not change it. If no atom moves by more than ε, no distance between two changes by more
//! than 2ε, hence none of the sorted ones, hence no component by more than 2ε.

use shards::graph::{Geometry, GraphError, NeighborList};

/// Distances are counted up to this, Å.
pub const REACH: f64 = 6.0;
/// Resolution of a component, Å.
pub const STEP: f64 = 0.001;
/// Quantiles over the atoms of an element, in quarters.
const QUARTERS: usize = 4;
/// Components before quantiles are taken that a structure of few elements has at least: k goes further where pairs are few.
const PAIRS: usize = 64;
/// Nearest neighbours of each element that are looked at, at least.
const LEAST: usize = 4;
/// Nearest neighbours of each element that are looked at, at most.
const MOST: usize = 32;

/// A fingerprint: components in units of [`STEP`]. Structures of the same elements have as many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(pub Vec<u16>);

impl Fingerprint {
    /// The fingerprint of a structure.
    ///
    /// # Errors
    /// Where no neighbour list can be made: positions that are not finite, a flat cell.
    pub fn of(geometry: &Geometry, atomic_numbers: &[u8]) -> Result<Self, GraphError> {
        let list = NeighborList::build(geometry, REACH, u32::MAX)?;
        let mut elements = atomic_numbers.to_vec();
        elements.sort_unstable();
        elements.dedup();
        let nearest = (PAIRS / (elements.len() * elements.len()).max(1)).clamp(LEAST, MOST);
        let place = |z: u8| elements.partition_point(|&e| e < z);
        let places: Vec<usize> = atomic_numbers.iter().map(|&z| place(z)).collect();
        let rows = rows(geometry, &list, &places, elements.len(), nearest);
        let mut components = Vec::with_capacity(elements.len().pow(2) * nearest * (QUARTERS + 1));
        for alpha in 0..elements.len() {
            let atoms: Vec<&Vec<u16>> =
                rows.iter().zip(&places).filter(|&(_, &place)| place == alpha).map(|(row, _)| row).collect();
            for column in 0..elements.len() * nearest {
                let mut distances: Vec<u16> = atoms.iter().map(|row| row[column]).collect();
                distances.sort_unstable();
                components.extend((0..=QUARTERS).map(|q| distances[rank(q, distances.len())]));
            }
        }
        Ok(Self(components))
    }

    /// Mean component, in units of [`STEP`]: two fingerprints differ by at least as much as their means.
    pub fn mean(&self) -> f32 {
        let sum: u64 = self.0.iter().map(|&c| u64::from(c)).sum();
        (sum as f64 / self.0.len().max(1) as f64) as f32
    }
}

/// Whether no component differs by more than `tolerance`, in units of [`STEP`].
pub fn alike(a: &[u16], b: &[u16], tolerance: u16) -> bool {
    // Blocks without a branch inside, so that most comparisons end after one of them.
    a.len() == b.len()
        && a.chunks(64)
            .zip(b.chunks(64))
            .all(|(a, b)| a.iter().zip(b).map(|(&a, &b)| a.abs_diff(b)).fold(0, u16::max) <= tolerance)
}

/// Place of a quantile among `count` sorted values: the least value that `quarter` quarters do not exceed. A crystal's doubled
/// cell has each value twice, and the same quantiles.
fn rank(quarter: usize, count: usize) -> usize {
    (quarter * count).div_ceil(QUARTERS).max(1) - 1
}

/// For each atom, the distances to its nearest neighbours of each element in turn, in units of [`STEP`].
fn rows(
    geometry: &Geometry,
    list: &NeighborList,
    places: &[usize],
    elements: usize,
    nearest: usize,
) -> Vec<Vec<u16>> {
    let cell = geometry.cell.unwrap_or_default();
    let mut by_element: Vec<Vec<f64>> = vec![vec![]; elements];
    let units = |distance: f64| (distance.min(REACH) / STEP).round() as u16;
    let mut row = |target: usize| {
        by_element.iter_mut().for_each(Vec::clear);
        let place = geometry.positions[target];
        for e in list.offsets[target] as usize..list.offsets[target + 1] as usize {
            let (source, shift) = (list.source[e] as usize, list.shift[e].map(f64::from));
            let other = geometry.positions[source];
            let along = |x: usize| other[x] - place[x] + (0..3).map(|k| shift[k] * cell[k][x]).sum::<f64>();
            by_element[places[source]].push((0..3).map(|x| along(x).powi(2)).sum::<f64>());
        }
        let mut distances = Vec::with_capacity(elements * nearest);
        for squares in &mut by_element {
            squares.sort_unstable_by(f64::total_cmp);
            let known = squares.iter().map(|s| units(s.sqrt()));
            distances.extend(known.chain(std::iter::repeat(units(REACH))).take(nearest));
        }
        distances
    };
    (0..places.len()).map(&mut row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CO: [u8; 3] = [6, 8, 8];

    fn molecule(positions: &[[f64; 3]], numbers: &[u8]) -> Vec<u16> {
        let geometry = Geometry { positions, cell: None, pbc: [false; 3], tags: None };
        Fingerprint::of(&geometry, numbers).unwrap().0
    }

    #[test]
    fn components_are_the_distances_by_hand() {
        // Carbon dioxide, 1.16 Å: C sees two O at 1.16; each O sees C at 1.16 and O at 2.32.
        let found = molecule(&[[0.0; 3], [1.16, 0.0, 0.0], [-1.16, 0.0, 0.0]], &CO);
        let nearest = PAIRS / 4;
        let component = |pair: usize, k: usize| found[5 * (pair * nearest + k)];
        assert_eq!(found.len(), 4 * nearest * 5);
        // C–C: none; C–O: two; O–C: one; O–O: one.
        assert_eq!(
            (component(0, 0), component(1, 0), component(1, 1), component(1, 2)),
            (6000, 1160, 1160, 6000)
        );
        assert_eq!(
            (component(2, 0), component(2, 1), component(3, 0), component(3, 1)),
            (1160, 6000, 2320, 6000)
        );
    }

    #[test]
    fn quantiles_do_not_know_how_often_a_cell_is_repeated() {
        for count in 1..9 {
            for times in 1..5 {
                for quarter in 0..=QUARTERS {
                    assert_eq!(rank(quarter, count * times) / times, rank(quarter, count), "{count} {times}");
                }
            }
        }
        assert_eq!((0..=4).map(|q| rank(q, 8)).collect::<Vec<_>>(), [0, 1, 3, 5, 7]);
    }

    #[test]
    fn one_component_out_of_reach_tells_structures_apart() {
        let a = vec![1000; 200];
        let mut b = a.clone();
        b[150] = 1101;
        assert!(alike(&a, &b, 101) && !alike(&a, &b, 100) && !alike(&a, &a[1..], 5000));
    }
}
