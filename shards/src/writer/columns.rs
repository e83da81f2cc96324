//! Rows of one row group on their way to Parquet.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeListArray, Float64Array, Int32Array, ListArray, PrimitiveArray,
    RecordBatch, StringArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Schema};
use arrow::error::ArrowError;

use crate::graph::{GraphCounts, NeighborList};
use crate::layout::{Layout, NeighborStorage};
use crate::schema::pack_shift;
use crate::structure::{FloatWidth, Floats, Structure};

/// Column values of the rows gathered so far.
pub(super) struct Columns {
    ids: Vec<String>,
    groups: Vec<String>,
    natoms: Vec<u32>,
    atomic_numbers: Lists<u8>,
    positions: FloatLists,
    cell: Lists<f64>,
    pbc: Vec<bool>,
    tags: Lists<u8>,
    fixed: Lists<bool>,
    charge: Vec<Option<f64>>,
    spin: Vec<Option<f64>>,
    energy: Vec<Option<f64>>,
    forces: FloatLists,
    stress: Lists<f64>,
    targets: Vec<Vec<Option<f64>>>,
    edges: [Vec<u32>; 4],
    paths: [Vec<u64>; 4],
    neighbors: Option<Neighbors>,
}

#[derive(Default)]
struct Neighbors {
    count: Lists<u16>,
    index: Lists<u16>,
    shift: Lists<i32>,
}

/// A list column: all values end to end, where each row ends, and which rows are null.
#[derive(Default)]
struct Lists<T> {
    values: Vec<T>,
    ends: Vec<usize>,
    valid: Vec<bool>,
}

enum FloatLists {
    F32(Lists<f32>),
    F64(Lists<f64>),
}

impl Columns {
    pub(super) fn new(layout: &Layout) -> Self {
        let floats = || match layout.float {
            FloatWidth::F32 => FloatLists::F32(Lists::default()),
            FloatWidth::F64 => FloatLists::F64(Lists::default()),
        };
        Self {
            ids: vec![],
            groups: vec![],
            natoms: vec![],
            atomic_numbers: Lists::default(),
            positions: floats(),
            cell: Lists::default(),
            pbc: vec![],
            tags: Lists::default(),
            fixed: Lists::default(),
            charge: vec![],
            spin: vec![],
            energy: vec![],
            forces: floats(),
            stress: Lists::default(),
            targets: vec![vec![]; layout.targets.len()],
            edges: Default::default(),
            paths: Default::default(),
            neighbors: (layout.neighbors != NeighborStorage::None).then(Neighbors::default),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.natoms.len()
    }

    /// Adds a checked structure. `None`: a neighbour's cell shift is beyond what the format can pack.
    #[must_use]
    pub(super) fn push(
        &mut self,
        s: &Structure,
        counts: &GraphCounts,
        neighbors: Option<&NeighborList>,
    ) -> Option<()> {
        if let (Some(columns), Some(list)) = (&mut self.neighbors, neighbors) {
            columns.push(list)?;
        }
        self.ids.push(s.id.clone());
        self.groups.push(s.group.clone());
        self.natoms.push(s.atoms() as u32);
        self.atomic_numbers.push(Some(&s.atomic_numbers));
        self.positions.push(Some(&s.positions));
        self.cell.push_fixed(s.cell.as_ref());
        self.pbc.extend(s.pbc);
        self.tags.push(s.tags.as_deref());
        self.fixed.push(s.fixed.as_deref());
        self.charge.push(s.charge);
        self.spin.push(s.spin);
        self.energy.push(s.energy);
        self.forces.push(s.forces.as_ref());
        self.stress.push_fixed(s.stress.as_ref());
        for (column, value) in self.targets.iter_mut().zip(&s.targets) {
            column.push(*value);
        }
        let edges = [counts.main, counts.atom_edge, counts.quadruplet_edges, counts.atom_atom];
        self.edges.iter_mut().zip(edges).for_each(|(column, n)| column.push(n));
        let paths =
            [counts.triplets, counts.triplets_atom_edge, counts.triplets_edge_atom, counts.quadruplets];
        self.paths.iter_mut().zip(paths).for_each(|(column, n)| column.push(n));
        Some(())
    }

    /// Turns the rows into a record batch.
    pub(super) fn finish(self, schema: &Arc<Schema>) -> Result<RecordBatch, ArrowError> {
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(&self.ids)),
            Arc::new(StringArray::from_iter_values(&self.groups)),
            Arc::new(UInt32Array::from(self.natoms)),
            self.atomic_numbers.finish(UInt8Array::from)?,
            self.positions.finish()?,
            self.cell.finish_fixed(9)?,
            booleans_of_three(&self.pbc)?,
            self.tags.finish(UInt8Array::from)?,
            self.fixed.finish(BooleanArray::from)?,
            Arc::new(Float64Array::from(self.charge)),
            Arc::new(Float64Array::from(self.spin)),
            Arc::new(Float64Array::from(self.energy)),
            self.forces.finish()?,
            self.stress.finish_fixed(6)?,
        ];
        arrays.extend(self.targets.into_iter().map(|t| Arc::new(Float64Array::from(t)) as ArrayRef));
        arrays.extend(self.edges.into_iter().map(|c| Arc::new(UInt32Array::from(c)) as ArrayRef));
        arrays.extend(self.paths.into_iter().map(|c| Arc::new(UInt64Array::from(c)) as ArrayRef));
        if let Some(neighbors) = self.neighbors {
            arrays.push(neighbors.count.finish(UInt16Array::from)?);
            arrays.push(neighbors.index.finish(UInt16Array::from)?);
            arrays.push(neighbors.shift.finish(Int32Array::from)?);
        }
        RecordBatch::try_new(schema.clone(), arrays)
    }
}

impl Neighbors {
    fn push(&mut self, list: &NeighborList) -> Option<()> {
        let packed: Vec<i32> = list.shift.iter().map(|&s| pack_shift(s)).collect::<Option<_>>()?;
        let counts: Vec<u16> = list.offsets.windows(2).map(|w| (w[1] - w[0]) as u16).collect();
        let index: Vec<u16> = list.source.iter().map(|&s| s as u16).collect();
        self.count.push(Some(&counts));
        self.index.push(Some(&index));
        self.shift.push(packed.iter().any(|&p| p != 0).then_some(packed.as_slice()));
        Some(())
    }
}

impl<T: Copy + Default> Lists<T> {
    fn push(&mut self, values: Option<&[T]>) {
        self.values.extend_from_slice(values.unwrap_or_default());
        self.ends.push(self.values.len());
        self.valid.push(values.is_some());
    }

    /// Fixed-size lists keep placeholder values under their nulls.
    fn push_fixed<const K: usize>(&mut self, values: Option<&[T; K]>) {
        self.values.extend_from_slice(values.unwrap_or(&[T::default(); K]));
        self.valid.push(values.is_some());
    }

    fn nulls(valid: Vec<bool>) -> Option<NullBuffer> {
        valid.contains(&false).then(|| NullBuffer::from(valid))
    }

    fn finish<A: arrow::array::Array + 'static>(
        self,
        build: impl FnOnce(Vec<T>) -> A,
    ) -> Result<ArrayRef, ArrowError> {
        let mut offsets: Vec<i32> = vec![0];
        for end in self.ends {
            let end = i32::try_from(end).map_err(|_| {
                let hint = "a row group holds more than 2³¹ list values; convert with fewer rows a group or --neighbors none";
                ArrowError::InvalidArgumentError(hint.to_string())
            })?;
            offsets.push(end);
        }
        let values = build(self.values);
        let field = Arc::new(Field::new_list_field(values.data_type().clone(), false));
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        Ok(Arc::new(ListArray::try_new(field, offsets, Arc::new(values), Self::nulls(self.valid))?))
    }
}

impl Lists<f64> {
    fn finish_fixed(self, size: i32) -> Result<ArrayRef, ArrowError> {
        let field = Arc::new(Field::new_list_field(DataType::Float64, false));
        let values = Arc::new(Float64Array::from(self.values));
        Ok(Arc::new(FixedSizeListArray::try_new(field, size, values, Self::nulls(self.valid))?))
    }
}

impl FloatLists {
    fn push(&mut self, floats: Option<&Floats>) {
        match (self, floats) {
            (Self::F32(list), Some(Floats::F32(v))) => list.push(Some(v)),
            (Self::F64(list), Some(Floats::F64(v))) => list.push(Some(v)),
            (Self::F32(list), Some(Floats::F64(v))) => {
                let narrow: Vec<f32> = v.iter().map(|&x| x as f32).collect();
                list.push(Some(&narrow));
            }
            (Self::F64(list), Some(Floats::F32(v))) => {
                let wide: Vec<f64> = v.iter().map(|&x| f64::from(x)).collect();
                list.push(Some(&wide));
            }
            (Self::F32(list), None) => list.push(None),
            (Self::F64(list), None) => list.push(None),
        }
    }

    fn finish(self) -> Result<ArrayRef, ArrowError> {
        match self {
            Self::F32(list) => list.finish(primitive::<arrow::datatypes::Float32Type>),
            Self::F64(list) => list.finish(primitive::<arrow::datatypes::Float64Type>),
        }
    }
}

fn primitive<T: ArrowPrimitiveType>(values: Vec<T::Native>) -> PrimitiveArray<T> {
    PrimitiveArray::new(ScalarBuffer::from(values), None)
}

fn booleans_of_three(values: &[bool]) -> Result<ArrayRef, ArrowError> {
    let field = Arc::new(Field::new_list_field(DataType::Boolean, false));
    let values = Arc::new(BooleanArray::from(values.to_vec()));
    Ok(Arc::new(FixedSizeListArray::try_new(field, 3, values, None)?))
}
