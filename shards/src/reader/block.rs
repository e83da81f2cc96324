//! Decoded columns of a row group, and one row as slices into them.

use arrow::array::{
    Array, ArrayRef, AsArray as _, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, Int32Array,
    ListArray, PrimitiveArray, RecordBatch, StringArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float32Type, Float64Type};

use crate::graph::{GraphCounts, NeighborList};
use crate::schema;
use crate::structure::{Floats, Structure};

/// What is wrong, what was expected, what was found.
pub(super) type Complaint = (String, String, String);

/// Some columns of consecutive rows. Slices into it cost nothing.
#[derive(Debug, Clone)]
pub struct Block {
    first_row: u64,
    natoms: UInt32Array,
    ids: Option<StringArray>,
    groups: Option<StringArray>,
    atomic_numbers: Option<List<UInt8Array>>,
    positions: Option<FloatList>,
    cell: Option<FixedSizeListArray>,
    pbc: Option<FixedSizeListArray>,
    tags: Option<List<UInt8Array>>,
    fixed: Option<List<BooleanArray>>,
    charge: Option<Float64Array>,
    spin: Option<Float64Array>,
    energy: Option<Float64Array>,
    forces: Option<FloatList>,
    stress: Option<FixedSizeListArray>,
    targets: Vec<Float64Array>,
    counts: Option<Counts>,
    neighbors: Option<Neighbors>,
}

#[derive(Debug, Clone)]
struct List<A> {
    list: ListArray,
    values: A,
}

#[derive(Debug, Clone)]
enum FloatList {
    F32(List<Float32Array>),
    F64(List<Float64Array>),
}

#[derive(Debug, Clone)]
struct Counts {
    edges: Vec<UInt32Array>,
    paths: Vec<UInt64Array>,
}

#[derive(Debug, Clone)]
struct Neighbors {
    count: List<UInt16Array>,
    index: List<UInt16Array>,
    shift: List<Int32Array>,
}

/// Numbers of either width, borrowed.
#[derive(Debug, Clone, Copy)]
pub enum FloatSlice<'a> {
    /// 32 bits.
    F32(&'a [f32]),
    /// 64 bits.
    F64(&'a [f64]),
}

impl<'a> FloatSlice<'a> {
    /// The numbers as 3-vectors, widened.
    pub fn iter(self) -> impl Iterator<Item = [f64; 3]> + 'a {
        let atoms = self.len() / 3;
        (0..atoms).map(move |i| [self.get(3 * i), self.get(3 * i + 1), self.get(3 * i + 2)])
    }

    /// How many numbers there are.
    pub fn len(self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The number at `index`, widened.
    pub fn get(self, index: usize) -> f64 {
        match self {
            Self::F32(v) => f64::from(v[index]),
            Self::F64(v) => v[index],
        }
    }

    /// An owned copy of the same width.
    pub fn to_floats(self) -> Floats {
        match self {
            Self::F32(v) => Floats::F32(v.to_vec()),
            Self::F64(v) => Floats::F64(v.to_vec()),
        }
    }
}

/// A stored neighbour list of one row, still packed.
#[derive(Debug, Clone, Copy)]
pub struct StoredNeighbors<'a> {
    counts: &'a [u16],
    index: &'a [u16],
    shift: Option<&'a [i32]>,
}

impl StoredNeighbors<'_> {
    /// Unpacks into the form that graphs are built from.
    pub fn to_list(self) -> NeighborList {
        let mut offsets = Vec::with_capacity(self.counts.len() + 1);
        let mut total = 0u32;
        offsets.push(0);
        for &count in self.counts {
            total += u32::from(count);
            offsets.push(total);
        }
        let source = self.index.iter().map(|&s| u32::from(s)).collect();
        let shift = match self.shift {
            Some(packed) => packed.iter().map(|&p| schema::unpack_shift(p)).collect(),
            None => vec![[0; 3]; self.index.len()],
        };
        NeighborList { offsets, source, shift }
    }
}

/// One row. Columns that were not decoded are empty or `None`.
#[derive(Debug, Clone, Copy)]
pub struct RowView<'a> {
    block: &'a Block,
    index: usize,
    /// Identity at the source.
    pub id: &'a str,
    /// What must not be split apart.
    pub group: &'a str,
    /// Atomic numbers, `[N]`.
    pub atomic_numbers: &'a [u8],
    /// Positions, flat `[3N]`, Å.
    pub positions: FloatSlice<'a>,
    /// Forces, flat `[3N]`, eV/Å.
    pub forces: Option<FloatSlice<'a>>,
    /// Total energy, eV.
    pub energy: Option<f64>,
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
            targets: targets.iter().filter_map(|t| take.scalar(t).transpose()).collect::<Result<_, _>>()?,
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

impl<'a> RowView<'a> {
    /// Energy and then the scalar targets.
    pub fn labels(&self) -> impl Iterator<Item = Option<f64>> + 'a {
        let (block, index) = (self.block, self.index);
        std::iter::once(self.energy).chain(block.targets.iter().map(move |t| scalar(Some(t), index)))
    }

    /// A scalar target by its place in the layout.
    pub fn target(&self, place: usize) -> Option<f64> {
        scalar(self.block.targets.get(place), self.index)
    }

    /// Cell vectors as rows, Å.
    pub fn cell(&self) -> Option<[f64; 9]> {
        fixed_floats(self.block.cell.as_ref(), self.index)
    }

    /// Which cell vectors are periodic.
    pub fn pbc(&self) -> [bool; 3] {
        let Some(list) = &self.block.pbc else { return [false; 3] };
        let values = list.values().as_boolean();
        let start = 3 * (list.offset() + self.index);
        std::array::from_fn(|k| values.value(start + k))
    }

    /// Tags, `[N]`; `None` acts as 2 everywhere.
    pub fn tags(&self) -> Option<&'a [u8]> {
        self.block.tags.as_ref().and_then(|l| l.list.is_valid(self.index).then(|| l.slice(self.index)))
    }

    /// Whether an atom is held in place.
    pub fn is_fixed(&self, atom: usize) -> bool {
        self.block.fixed.as_ref().is_some_and(|l| {
            l.list.is_valid(self.index) && l.values.value(l.list.value_offsets()[self.index] as usize + atom)
        })
    }

    /// Total charge, e.
    pub fn charge(&self) -> Option<f64> {
        scalar(self.block.charge.as_ref(), self.index)
    }

    /// Spin multiplicity.
    pub fn spin(&self) -> Option<f64> {
        scalar(self.block.spin.as_ref(), self.index)
    }

    /// Voigt stress, eV/Å³.
    pub fn stress(&self) -> Option<[f64; 6]> {
        fixed_floats(self.block.stress.as_ref(), self.index)
    }

    /// The stored neighbour list.
    pub fn neighbors(&self) -> Option<StoredNeighbors<'a>> {
        let n = self.block.neighbors.as_ref()?;
        let shift = n.shift.list.is_valid(self.index).then(|| n.shift.slice(self.index));
        Some(StoredNeighbors { counts: n.count.slice(self.index), index: n.index.slice(self.index), shift })
    }

    /// An owned structure.
    pub fn to_structure(&self) -> Structure {
        let n = self.atomic_numbers.len();
        let has_fixed = self.block.fixed.as_ref().is_some_and(|l| l.list.is_valid(self.index));
        Structure {
            id: self.id.to_string(),
            group: self.group.to_string(),
            atomic_numbers: self.atomic_numbers.to_vec(),
            positions: self.positions.to_floats(),
            cell: self.cell(),
            pbc: self.pbc(),
            tags: self.tags().map(<[u8]>::to_vec),
            fixed: has_fixed.then(|| (0..n).map(|i| self.is_fixed(i)).collect()),
            charge: self.charge(),
            spin: self.spin(),
            energy: self.energy,
            forces: self.forces.map(FloatSlice::to_floats),
            stress: self.stress(),
            targets: self.labels().skip(1).collect(),
        }
    }
}

fn scalar(column: Option<&Float64Array>, index: usize) -> Option<f64> {
    column.and_then(|c| c.is_valid(index).then(|| c.value(index)))
}

fn fixed_floats<const K: usize>(column: Option<&FixedSizeListArray>, index: usize) -> Option<[f64; K]> {
    let list = column.filter(|l| l.is_valid(index))?;
    let values = list.values().as_primitive::<Float64Type>();
    let start = K * (list.offset() + index);
    Some(std::array::from_fn(|k| values.value(start + k)))
}

impl<A: Array> List<A> {
    fn range(&self, row: usize) -> std::ops::Range<usize> {
        let offsets = self.list.value_offsets();
        offsets[row] as usize..offsets[row + 1] as usize
    }

    fn length(&self, row: usize) -> usize {
        self.range(row).len()
    }

    fn length_if_valid(&self, row: usize) -> Option<usize> {
        self.list.is_valid(row).then(|| self.length(row))
    }
}

impl<T: ArrowPrimitiveType> List<PrimitiveArray<T>> {
    fn slice(&self, row: usize) -> &[T::Native] {
        &self.values.values()[self.range(row)]
    }
}

impl FloatList {
    fn slice(&self, row: usize) -> FloatSlice<'_> {
        match self {
            Self::F32(l) => FloatSlice::F32(l.slice(row)),
            Self::F64(l) => FloatSlice::F64(l.slice(row)),
        }
    }

    fn slice_if_valid(&self, row: usize) -> Option<FloatSlice<'_>> {
        self.length(row).map(|_| self.slice(row))
    }

    fn length(&self, row: usize) -> Option<usize> {
        match self {
            Self::F32(l) => l.length_if_valid(row),
            Self::F64(l) => l.length_if_valid(row),
        }
    }
}

/// Takes typed columns out of a batch.
struct Taker<'a> {
    batch: &'a RecordBatch,
}

impl Taker<'_> {
    fn optional<T>(&self, name: &str, cast: impl Fn(&ArrayRef) -> Option<T>) -> Result<Option<T>, Complaint> {
        let Some(column) = self.batch.column_by_name(name) else { return Ok(None) };
        let wrong =
            || (format!("column `{name}`"), "the format's type".to_string(), column.data_type().to_string());
        cast(column).map(Some).ok_or_else(wrong)
    }

    fn required<T>(&self, name: &str, cast: impl Fn(&ArrayRef) -> Option<T>) -> Result<T, Complaint> {
        self.optional(name, cast)?
            .ok_or_else(|| (format!("column `{name}`"), "to be there".to_string(), "nothing".to_string()))
    }

    fn list<A: Array + Clone + 'static>(&self, name: &str) -> Result<Option<List<A>>, Complaint> {
        self.optional(name, |column| {
            let list = column.as_list_opt::<i32>()?.clone();
            let values = list.values().as_any().downcast_ref::<A>()?.clone();
            Some(List { list, values })
        })
    }

    fn floats(&self, name: &str) -> Result<Option<FloatList>, Complaint> {
        self.optional(name, |column| {
            let list = column.as_list_opt::<i32>()?.clone();
            match list.value_type() {
                DataType::Float32 => {
                    let values = list.values().as_primitive::<Float32Type>().clone();
                    Some(FloatList::F32(List { list, values }))
                }
                DataType::Float64 => {
                    let values = list.values().as_primitive::<Float64Type>().clone();
                    Some(FloatList::F64(List { list, values }))
                }
                _ => None,
            }
        })
    }

    fn scalar(&self, name: &str) -> Result<Option<Float64Array>, Complaint> {
        self.optional(name, |column| column.as_primitive_opt::<Float64Type>().cloned())
    }

    fn counts(&self) -> Result<Option<Counts>, Complaint> {
        let (edges, paths) = schema::COUNTS.split_at(4);
        if self.batch.column_by_name(edges[0]).is_none() {
            return Ok(None);
        }
        let edges = edges
            .iter()
            .map(|n| self.required(n, |a| a.as_primitive_opt().cloned()))
            .collect::<Result<_, _>>()?;
        let paths = paths
            .iter()
            .map(|n| self.required(n, |a| a.as_primitive_opt().cloned()))
            .collect::<Result<_, _>>()?;
        Ok(Some(Counts { edges, paths }))
    }

    fn neighbors(&self) -> Result<Option<Neighbors>, Complaint> {
        let Some(count) = self.list(schema::NEIGHBOR_COUNT)? else { return Ok(None) };
        let missing =
            |name: &str| (format!("column `{name}`"), "to be there".to_string(), "nothing".to_string());
        let index = self.list(schema::NEIGHBOR_INDEX)?.ok_or_else(|| missing(schema::NEIGHBOR_INDEX))?;
        let shift = self.list(schema::NEIGHBOR_SHIFT)?.ok_or_else(|| missing(schema::NEIGHBOR_SHIFT))?;
        Ok(Some(Neighbors { count, index, shift }))
    }
}
