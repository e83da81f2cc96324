//! Typed columns of a record batch.

use arrow::array::{
    Array, ArrayRef, AsArray as _, Float32Array, Float64Array, Int32Array, ListArray, PrimitiveArray,
    RecordBatch, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float32Type, Float64Type};

use super::row::FloatSlice;
use crate::schema;

/// What is wrong, what was expected, what was found.
pub(super) type Complaint = (String, String, String);

#[derive(Debug, Clone)]
pub(super) struct List<A> {
    pub(super) list: ListArray,
    pub(super) values: A,
}

#[derive(Debug, Clone)]
pub(super) enum FloatList {
    F32(List<Float32Array>),
    F64(List<Float64Array>),
}

#[derive(Debug, Clone)]
pub(super) struct Counts {
    pub(super) edges: Vec<UInt32Array>,
    pub(super) paths: Vec<UInt64Array>,
}

#[derive(Debug, Clone)]
pub(super) struct Neighbors {
    pub(super) count: List<UInt16Array>,
    pub(super) index: List<UInt16Array>,
    pub(super) shift: List<Int32Array>,
}

impl<A: Array> List<A> {
    pub(super) fn range(&self, row: usize) -> std::ops::Range<usize> {
        let offsets = self.list.value_offsets();
        offsets[row] as usize..offsets[row + 1] as usize
    }

    pub(super) fn length(&self, row: usize) -> usize {
        self.range(row).len()
    }

    pub(super) fn length_if_valid(&self, row: usize) -> Option<usize> {
        self.list.is_valid(row).then(|| self.length(row))
    }
}

impl<T: ArrowPrimitiveType> List<PrimitiveArray<T>> {
    pub(super) fn slice(&self, row: usize) -> &[T::Native] {
        &self.values.values()[self.range(row)]
    }
}

impl FloatList {
    pub(super) fn slice(&self, row: usize) -> FloatSlice<'_> {
        match self {
            Self::F32(l) => FloatSlice::F32(l.slice(row)),
            Self::F64(l) => FloatSlice::F64(l.slice(row)),
        }
    }

    pub(super) fn slice_if_valid(&self, row: usize) -> Option<FloatSlice<'_>> {
        self.length(row).map(|_| self.slice(row))
    }

    pub(super) fn length(&self, row: usize) -> Option<usize> {
        match self {
            Self::F32(l) => l.length_if_valid(row),
            Self::F64(l) => l.length_if_valid(row),
        }
    }
}

/// Takes typed columns out of a batch.
pub(super) struct Taker<'a> {
    pub(super) batch: &'a RecordBatch,
}

impl Taker<'_> {
    pub(super) fn optional<T>(
        &self,
        name: &str,
        cast: impl Fn(&ArrayRef) -> Option<T>,
    ) -> Result<Option<T>, Complaint> {
        let Some(column) = self.batch.column_by_name(name) else { return Ok(None) };
        let wrong =
            || (format!("column `{name}`"), "the format's type".to_string(), column.data_type().to_string());
        cast(column).map(Some).ok_or_else(wrong)
    }

    pub(super) fn required<T>(
        &self,
        name: &str,
        cast: impl Fn(&ArrayRef) -> Option<T>,
    ) -> Result<T, Complaint> {
        self.optional(name, cast)?
            .ok_or_else(|| (format!("column `{name}`"), "to be there".to_string(), "nothing".to_string()))
    }

    pub(super) fn list<A: Array + Clone + 'static>(&self, name: &str) -> Result<Option<List<A>>, Complaint> {
        self.optional(name, |column| {
            let list = column.as_list_opt::<i32>()?.clone();
            let values = list.values().as_any().downcast_ref::<A>()?.clone();
            Some(List { list, values })
        })
    }

    pub(super) fn floats(&self, name: &str) -> Result<Option<FloatList>, Complaint> {
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

    pub(super) fn scalar(&self, name: &str) -> Result<Option<Float64Array>, Complaint> {
        self.optional(name, |column| column.as_primitive_opt::<Float64Type>().cloned())
    }

    pub(super) fn counts(&self) -> Result<Option<Counts>, Complaint> {
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

    pub(super) fn neighbors(&self) -> Result<Option<Neighbors>, Complaint> {
        let Some(count) = self.list(schema::NEIGHBOR_COUNT)? else { return Ok(None) };
        let missing =
            |name: &str| (format!("column `{name}`"), "to be there".to_string(), "nothing".to_string());
        let index = self.list(schema::NEIGHBOR_INDEX)?.ok_or_else(|| missing(schema::NEIGHBOR_INDEX))?;
        let shift = self.list(schema::NEIGHBOR_SHIFT)?.ok_or_else(|| missing(schema::NEIGHBOR_SHIFT))?;
        Ok(Some(Neighbors { count, index, shift }))
    }
}
