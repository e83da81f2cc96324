//! A micro-batch in plain Rust: what a stream yields and what any trainer could take.

use serde::{Deserialize, Serialize};

use crate::error::ShardError;
use crate::graph::{Geometry, GraphBatch, GraphSpec, NeighborList, StructureGraph, empty};
use crate::linear_reference::{ELEMENTS, LinearReference};
use crate::reader::RowView;
use crate::targets::TargetTransform;

/// Numbers of which some may be NaN, which JSON does not have.
mod nan_as_null {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(|x| x.is_finite().then_some(x)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let values: Vec<Option<f64>> = Deserialize::deserialize(from)?;
        Ok(values.into_iter().map(|x| x.unwrap_or(f64::NAN)).collect())
    }
}

/// A row of one of the stream's datasets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RowId {
    /// The dataset's place in the stream's list.
    pub dataset: u32,
    /// The row in it.
    pub row: u64,
}

/// Several structures with targets and graphs. `g` structures, `n` atoms.
///
/// An absent label is a `false` in its mask; its slot then holds a 0 that no one reads.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HostBatch {
    /// Where each structure lies, `[g]`.
    pub rows: Vec<RowId>,
    /// Ids at the source, `[g]`.
    pub ids: Vec<String>,
    /// Task (the dataset's place in the stream's list), `[g]`.
    pub task: Vec<u32>,
    /// Atoms of each structure, `[g]`.
    pub natoms: Vec<u32>,
    /// Atomic numbers, `[n]`.
    pub atomic_numbers: Vec<u8>,
    /// Positions, Å, `[3n]`.
    pub positions: Vec<f64>,
    /// Cell vectors as rows, Å, zeros without a cell, `[9g]`.
    pub cells: Vec<f64>,
    /// Tags, 2 where absent, `[n]`.
    pub tags: Vec<u8>,
    /// Atoms held in place by the calculation, `[n]`.
    pub fixed: Vec<bool>,
    /// Normalised label, the energy or the scalar target that the transform names, `[g]`.
    pub energy: Vec<f64>,
    /// Whether there is such a label, `[g]`.
    pub has_energy: Vec<bool>,
    /// Σ references + mean in the label's unit: the label is this plus `std · energy`, `[g]`. NaN where an element has no
    /// reference and the structure no label.
    #[serde(with = "nan_as_null")]
    pub energy_offset: Vec<f64>,
    /// Normalised forces, `[3n]`.
    pub forces: Vec<f64>,
    /// Whether there are forces, `[g]`.
    pub has_forces: Vec<bool>,
    /// Graphs and indices.
    pub graph: GraphBatch,
    /// Place in the global batch, or in the sequence of a split's batches.
    pub index: u32,
    /// How many structures used a stored neighbour list.
    pub stored_neighbors: u32,
}

impl HostBatch {
    /// Empties a batch whose memory is to be used again, with room for so many structures and atoms. The graph stays for
    /// [`GraphBatch::refill`].
    pub fn empty(&mut self, structures: usize, atoms: usize) {
        empty(&mut self.rows, structures);
        empty(&mut self.ids, structures);
        empty(&mut self.task, structures);
        empty(&mut self.natoms, structures);
        empty(&mut self.atomic_numbers, atoms);
        empty(&mut self.positions, 3 * atoms);
        empty(&mut self.cells, 9 * structures);
        empty(&mut self.tags, atoms);
        empty(&mut self.fixed, atoms);
        empty(&mut self.energy, structures);
        empty(&mut self.has_energy, structures);
        empty(&mut self.energy_offset, structures);
        empty(&mut self.forces, 3 * atoms);
        empty(&mut self.has_forces, structures);
        (self.index, self.stored_neighbors) = (0, 0);
    }

    /// How many structures there are.
    pub fn structures(&self) -> usize {
        self.natoms.len()
    }

    /// How many atoms there are.
    pub fn atoms(&self) -> usize {
        self.atomic_numbers.len()
    }

    /// Adds a structure's atoms and targets; its graph goes to [`GraphBatch::collate`].
    pub fn push(&mut self, id: RowId, row: &RowView, targets: &BatchTargets) -> Result<(), ShardError> {
        let n = row.atomic_numbers.len();
        self.rows.push(id);
        self.ids.push(row.id.to_string());
        self.task.push(id.dataset);
        self.natoms.push(n as u32);
        self.atomic_numbers.extend_from_slice(row.atomic_numbers);
        row.positions.append_to(&mut self.positions);
        self.cells.extend(row.cell().unwrap_or_default());
        match row.tags() {
            Some(tags) => self.tags.extend_from_slice(tags),
            None => self.tags.resize(self.tags.len() + n, 2),
        }
        row.append_fixed(&mut self.fixed);
        self.push_energy(row, targets)?;
        self.has_forces.push(row.forces.is_some());
        let start = self.forces.len();
        match row.forces {
            Some(forces) => {
                forces.append_to(&mut self.forces);
                self.forces[start..].iter_mut().for_each(|f| *f /= targets.transform.force_std);
            }
            None => self.forces.resize(start + 3 * n, 0.0),
        }
        Ok(())
    }

    fn push_energy(&mut self, row: &RowView, targets: &BatchTargets) -> Result<(), ShardError> {
        let offset = targets.offset(row.atomic_numbers);
        let label = row.label(&targets.transform.label);
        let (energy, offset) = match label {
            Some(label) => {
                let offset = offset?;
                ((label - offset) / targets.transform.std, offset)
            }
            None => (0.0, offset.unwrap_or(f64::NAN)),
        };
        self.energy.push(energy);
        self.energy_offset.push(offset);
        self.has_energy.push(label.is_some());
        Ok(())
    }
}

/// A transform with its reference as a table by atomic number.
#[derive(Debug, Clone)]
pub struct BatchTargets {
    transform: TargetTransform,
    /// NaN where an element has no reference.
    table: Option<[f64; ELEMENTS]>,
}

impl BatchTargets {
    /// Of a dataset's transform.
    pub fn new(transform: &TargetTransform) -> Self {
        Self { table: transform.reference.as_ref().map(LinearReference::table), transform: transform.clone() }
    }

    /// [`TargetTransform::offset`], the same to the bit.
    fn offset(&self, atomic_numbers: &[u8]) -> Result<f64, ShardError> {
        let Some(table) = &self.table else { return Ok(self.transform.mean) };
        let sum = atomic_numbers.iter().fold(0.0, |sum, &z| sum + table[z as usize]);
        if sum.is_nan() { self.transform.offset(atomic_numbers) } else { Ok(sum + self.transform.mean) }
    }
}

/// Builds a row's graph, from its stored neighbour list where that suffices. Returns whether it did.
///
/// `drop_edge`, asked once an edge, takes edges away before the four graphs are chosen (edge dropout).
pub fn graph_of_row(
    row: &RowView,
    spec: &GraphSpec,
    stored_suffices: bool,
    drop_edge: Option<&mut dyn FnMut() -> bool>,
) -> Result<(StructureGraph, bool), ShardError> {
    let positions: Vec<[f64; 3]> = row.positions.iter().collect();
    let geometry = Geometry {
        positions: &positions,
        cell: row.cell().map(|c| [[c[0], c[1], c[2]], [c[3], c[4], c[5]], [c[6], c[7], c[8]]]),
        pbc: row.pbc(),
        tags: row.tags(),
    };
    let refused = |source| ShardError::Graph { id: row.id.to_string(), source };
    let whole = spec;
    let spec = &whole.of(positions.len());
    // Edges are dropped from the list that the structure's own limit leaves.
    let stored_suffices = stored_suffices && (drop_edge.is_none() || spec.atom_atom == whole.atom_atom);
    let stored = row.neighbors().filter(|_| stored_suffices);
    let mut list = match stored {
        Some(stored) => stored.to_list(),
        None => NeighborList::build(&geometry, spec.cutoff, spec.atom_atom).map_err(refused)?,
    };
    if let Some(drop_edge) = drop_edge {
        list = list.without(drop_edge);
    }
    let graph = StructureGraph::from_neighbors(&geometry, spec, &list).map_err(refused)?;
    Ok((graph, stored.is_some()))
}
