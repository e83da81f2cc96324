//! Decoded columns of a row group.

use arrow::array::{
    Array as _, AsArray as _, BooleanArray, FixedSizeListArray, Float64Array, RecordBatch, StringArray,
    UInt8Array, UInt32Array,
};

use super::columns::{Complaint, Counts, FloatList, List, Neighbors, Taker};
use super::row::{FloatSlice, RowView, scalar};
use crate::graph::GraphCounts;
use crate::schema;

/// Some columns of consecutive rows. Slices into it cost nothing.
#[derive(Debug, Clone)]
pub struct Block {
    pub(super) first_row: u64,
    pub(super) natoms: UInt32Array,
    pub(super) ids: Option<StringArray>,
    pub(super) groups: Option<StringArray>,
    pub(super) atomic_numbers: Option<List<UInt8Array>>,
    pub(super) positions: Option<FloatList>,
    pub(super) cell: Option<FixedSizeListArray>,
    pub(super) pbc: Option<FixedSizeListArray>,
    pub(super) tags: Option<List<UInt8Array>>,
    pub(super) fixed: Option<List<BooleanArray>>,
    pub(super) charge: Option<Float64Array>,
    pub(super) spin: Option<Float64Array>,
    pub(super) energy: Option<Float64Array>,
    pub(super) forces: Option<FloatList>,
    pub(super) stress: Option<FixedSizeListArray>,
    pub(super) targets: Vec<(String, Float64Array)>,
    pub(super) counts: Option<Counts>,
    pub(super) neighbors: Option<Neighbors>,
}

impl Block {
    pub(super) fn new(batch: &RecordBatch, first_row: u64, targets: &[String]) -> Result<Self, Complaint> {
        let take = Taker { batch };
        let block = Self {
            first_row,
            natoms: take.required(schema::NATOMS, |a| a.as_primitive_opt().cloned())?,
            ids: take.optional(schema::ID, |a| a.as_string_opt().cloned())?,
            groups: take.optional(schema::GROUP, |a| a.as_string_opt().cloned())?,
            atomic_numbers: take.list(schema::ATOMIC_NUMBERS)?,
            positions: take.floats(schema::POSITIONS)?,
            cell: take.optional(schema::CELL, |a| a.as_fixed_size_list_opt().cloned())?,
            pbc: take.optional(schema::PBC, |a| a.as_fixed_size_list_opt().cloned())?,
            tags: take.list(schema::TAGS)?,
            fixed: take.list(schema::FIXED)?,
            charge: take.scalar(schema::CHARGE)?,
            spin: take.scalar(schema::SPIN)?,
            energy: take.scalar(schema::ENERGY)?,
            forces: take.floats(schema::FORCES)?,
            stress: take.optional(schema::STRESS, |a| a.as_fixed_size_list_opt().cloned())?,
            targets: targets
                .iter()
                .filter_map(|name| Some(take.scalar(name).transpose()?.map(|column| (name.clone(), column))))
                .collect::<Result<_, _>>()?,
            counts: take.counts()?,
            neighbors: take.neighbors()?,
        };
        block.check_lengths()?;
        Ok(block)
    }

    /// Lists must agree with `natoms`, so that no slice below can be out of bounds.
    fn check_lengths(&self) -> Result<(), Complaint> {
        if let Some(numbers) = &self.atomic_numbers
            && let Some(z) =
                numbers.values.values().iter().find(|z| !(1..=crate::element::MAX_ATOMIC_NUMBER).contains(*z))
        {
            return Err((format!("`{}`", schema::ATOMIC_NUMBERS), "1 to 118".to_string(), z.to_string()));
        }
        for row in 0..self.rows() {
            let n = self.natoms.value(row) as usize;
            let check = |key: &str, expected: usize, found: Option<usize>| match found {
                Some(found) if found != expected => {
                    Err((format!("row {row}: `{key}`"), format!("{expected} values"), found.to_string()))
                }
                _ => Ok(()),
            };
            check(schema::ATOMIC_NUMBERS, n, self.atomic_numbers.as_ref().map(|l| l.length(row)))?;
            check(schema::POSITIONS, 3 * n, self.positions.as_ref().and_then(|l| l.length(row)))?;
            check(schema::FORCES, 3 * n, self.forces.as_ref().and_then(|l| l.length(row)))?;
            check(schema::TAGS, n, self.tags.as_ref().and_then(|l| l.length_if_valid(row)))?;
            check(schema::FIXED, n, self.fixed.as_ref().and_then(|l| l.length_if_valid(row)))?;
            if let Some(neighbors) = &self.neighbors {
                check(schema::NEIGHBOR_COUNT, n, Some(neighbors.count.length(row)))?;
                let total = neighbors.count.slice(row).iter().map(|&c| c as usize).sum();
                check(schema::NEIGHBOR_INDEX, total, Some(neighbors.index.length(row)))?;
                check(schema::NEIGHBOR_SHIFT, total, neighbors.shift.length_if_valid(row))?;
                if let Some(&far) = neighbors.index.slice(row).iter().find(|&&s| s as usize >= n) {
                    return Err((
                        format!("row {row}: `{}`", schema::NEIGHBOR_INDEX),
                        format!("below {n}"),
                        far.to_string(),
                    ));
                }
            }
        }
        Ok(())
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.natoms.len()
    }

    /// The dataset's row that index 0 is.
    pub fn first_row(&self) -> u64 {
        self.first_row
    }

    /// Atoms of a row.
    pub fn natoms(&self, index: usize) -> u32 {
        self.natoms.value(index)
    }

    /// Atoms of a row that are not held in place, where the column was decoded.
    pub fn free_atoms(&self, index: usize) -> u32 {
        let fixed = self.fixed.as_ref().filter(|l| l.list.is_valid(index));
        let held = fixed.map_or(0, |l| l.range(index).filter(|&i| l.values.value(i)).count());
        self.natoms(index) - held as u32
    }

    /// Graph counts of a row, where they were decoded.
    pub fn counts(&self, index: usize) -> Option<GraphCounts> {
        let counts = self.counts.as_ref()?;
        let edge = |k: usize| counts.edges[k].value(index);
        let path = |k: usize| counts.paths[k].value(index);
        Some(GraphCounts {
            main: edge(0),
            atom_edge: edge(1),
            quadruplet_edges: edge(2),
            atom_atom: edge(3),
            triplets: path(0),
            triplets_atom_edge: path(1),
            triplets_edge_atom: path(2),
            quadruplets: path(3),
        })
    }

    /// One row. `index` must be below [`Block::rows`].
    pub fn row(&self, index: usize) -> RowView<'_> {
        RowView {
            block: self,
            index,
            id: self.ids.as_ref().map_or("", |c| c.value(index)),
            group: self.groups.as_ref().map_or("", |c| c.value(index)),
            atomic_numbers: self.atomic_numbers.as_ref().map_or(&[], |l| l.slice(index)),
            positions: self.positions.as_ref().map_or(FloatSlice::F32(&[]), |l| l.slice(index)),
            forces: self.forces.as_ref().and_then(|l| l.slice_if_valid(index)),
            energy: scalar(self.energy.as_ref(), index),
        }
    }
}
