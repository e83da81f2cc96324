//! One row of a block as slices into its columns.

use arrow::array::{Array as _, AsArray as _, FixedSizeListArray, Float64Array};
use arrow::datatypes::Float64Type;

use super::block::Block;
use crate::graph::NeighborList;
use crate::schema;
use crate::structure::{Floats, Structure};

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

    /// Appends the numbers, widened.
    pub fn append_to(self, out: &mut Vec<f64>) {
        match self {
            Self::F32(v) => out.extend(v.iter().map(|x| f64::from(*x))),
            Self::F64(v) => out.extend_from_slice(v),
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
    pub(super) block: &'a Block,
    pub(super) index: usize,
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

impl<'a> RowView<'a> {
    /// Energy and then the scalar targets.
    pub fn labels(&self) -> impl Iterator<Item = Option<f64>> + 'a {
        let (block, index) = (self.block, self.index);
        std::iter::once(self.energy).chain(block.targets.iter().map(move |(_, t)| scalar(Some(t), index)))
    }

    /// A scalar target by its place in the layout.
    pub fn target(&self, place: usize) -> Option<f64> {
        scalar(self.block.targets.get(place).map(|(_, column)| column), self.index)
    }

    /// The energy or a scalar target by its name; `None` also where the dataset has no such label.
    pub fn label(&self, name: &str) -> Option<f64> {
        if name == crate::statistics::ENERGY {
            return self.energy;
        }
        let found = self.block.targets.iter().find(|(target, _)| target == name);
        scalar(found.map(|(_, column)| column), self.index)
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

    /// Appends which atoms are held in place, `[N]`; where the row does not tell, none are.
    pub fn append_fixed(&self, out: &mut Vec<bool>) {
        match self.block.fixed.as_ref().filter(|l| l.list.is_valid(self.index)) {
            Some(list) => {
                let range = list.range(self.index);
                out.extend(range.map(|i| list.values.value(i)));
            }
            None => out.resize(out.len() + self.block.natoms(self.index) as usize, false),
        }
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

pub(super) fn scalar(column: Option<&Float64Array>, index: usize) -> Option<f64> {
    column.and_then(|c| c.is_valid(index).then(|| c.value(index)))
}

fn fixed_floats<const K: usize>(column: Option<&FixedSizeListArray>, index: usize) -> Option<[f64; K]> {
    let list = column.filter(|l| l.is_valid(index))?;
    let values = list.values().as_primitive::<Float64Type>();
    let start = K * (list.offset() + index);
    Some(std::array::from_fn(|k| values.value(start + k)))
}
