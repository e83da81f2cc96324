use super::lattice::Lattice;
use super::nearest::Nearest;
use super::search::{Row, Search};
use super::{Edges, Geometry, GraphError};

/// All neighbours of every atom within a cutoff, nearest first up to a number, as rows by receiving atom.
///
/// Rows are sorted by (source, shift); no distances are kept. Distances that agree to a millionth of an Å are ties,
/// which go to the smaller (source, shift), so that rounding does not decide between periodic images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NeighborList {
    /// Where the row of a receiving atom begins, `[atoms + 1]`.
    pub offsets: Vec<u32>,
    /// Neighbouring atom.
    pub source: Vec<u32>,
    /// Cell shift of the neighbour: displacement = `pos[s] − pos[t] + shift·cell`.
    pub shift: Vec<[i16; 3]>,
}

impl NeighborList {
    /// Finds the neighbours: distance² ≤ cutoff² (periodic) or < cutoff² (not periodic), and > 1e-4 Å².
    ///
    /// # Errors
    /// Non-finite positions, periodic directions without volume, a bad cutoff, wrong number of tags, or shifts
    /// beyond 16 bits.
    pub fn build(geometry: &Geometry, cutoff: f64, max: u32) -> Result<Self, GraphError> {
        check(geometry, cutoff)?;
        let lattice = Lattice::of(geometry)?;
        let search = Search::new(geometry, &lattice, cutoff)?;
        let atoms = geometry.positions.len();
        let mut list = Edges::with_capacity(atoms, atoms * 32);
        let (mut row, mut nearest) = (Row::default(), KeepNearest::default());
        for target in 0..atoms {
            search.row(target, &mut row);
            if row.len() > max as usize {
                nearest.keep(&search, target, max as usize, &mut row);
            }
            if list.source.capacity() - list.len() < row.len() {
                // As many more as the rows so far let expect.
                let expected = (list.len() + row.len()) / (target + 1) * (atoms - target - 1);
                list.source.reserve(row.len() + expected + expected / 8);
                list.shift.reserve(row.len() + expected + expected / 8);
            }
            search.append(target, &row, &mut list.source, &mut list.shift)?;
            if list.len() > u32::MAX as usize - 1 {
                return Err(GraphError::TooMany { limit: u64::from(u32::MAX) - 1, cutoff });
            }
            list.end_row();
        }
        Ok(Self { offsets: list.offsets, source: list.source, shift: list.shift })
    }

    /// Number of neighbour relations.
    pub fn len(&self) -> usize {
        self.source.len()
    }

    /// Whether no atom has a neighbour.
    pub fn is_empty(&self) -> bool {
        self.source.is_empty()
    }

    /// The same list without the edges for which `drop` says so, asked once an edge in row order.
    ///
    /// JMP's edge dropout works on this list, before the four graphs are taken from it: directed edges go
    /// independently, and symmetrisation restores reverse edges from those with source < target.
    pub fn without(&self, mut drop: impl FnMut() -> bool) -> Self {
        let mut kept = Edges::with_capacity(self.offsets.len().saturating_sub(1), self.len());
        for row in self.offsets.windows(2) {
            for e in row[0] as usize..row[1] as usize {
                if !drop() {
                    kept.push(self.source[e], self.shift[e]);
                }
            }
            kept.end_row();
        }
        Self { offsets: kept.offsets, source: kept.source, shift: kept.shift }
    }
}

fn check(geometry: &Geometry, cutoff: f64) -> Result<(), GraphError> {
    if !(cutoff.is_finite() && cutoff > 0.0) {
        return Err(GraphError::Cutoff { cutoff });
    }
    check_atoms(geometry)
}

/// Positions are finite and tags, if any, are one an atom.
pub(super) fn check_atoms(geometry: &Geometry) -> Result<(), GraphError> {
    let atoms = geometry.positions.len();
    if let Some(tags) = geometry.tags
        && tags.len() != atoms
    {
        return Err(GraphError::Tags { found: tags.len(), atoms });
    }
    for (atom, position) in geometry.positions.iter().enumerate() {
        if !position.iter().all(|x| x.is_finite()) {
            return Err(GraphError::Position { atom, position: *position });
        }
    }
    Ok(())
}

/// Cuts rows that are too long; keeps its scratch space between rows.
#[derive(Debug, Default)]
struct KeepNearest {
    distance2: Vec<f64>,
    nearest: Nearest,
    kept: Vec<usize>,
}

impl KeepNearest {
    fn keep(&mut self, search: &Search, target: usize, max: usize, row: &mut Row) {
        search.distances(target, row, &mut self.distance2);
        self.kept.clear();
        self.kept.extend(self.nearest.of(&self.distance2, max));
        self.kept.sort_unstable();
        row.keep(&self.kept);
    }
}
