//! Strided arrays of numbers over borrowed bytes: what pickled tensors, numpy arrays and `.npy` members all are.

use std::borrow::Cow;
use std::sync::Arc;

use thiserror::Error;

mod dtype;

pub use dtype::Dtype;
use dtype::fixed;

/// Why an array's description does not fit its bytes, or its elements not the wanted type.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ArrayError {
    /// Shape and strides have different lengths, or are absurd.
    #[error("shape {shape:?} with strides {strides:?} describes no array")]
    Geometry {
        /// Declared shape.
        shape: Vec<usize>,
        /// Declared strides, in elements.
        strides: Vec<usize>,
    },
    /// The last element lies outside the bytes.
    #[error(
        "shape {shape:?}, strides {strides:?}, offset {offset} reach outside the {available} elements stored"
    )]
    OutOfBounds {
        /// Declared shape.
        shape: Vec<usize>,
        /// Declared strides, in elements.
        strides: Vec<usize>,
        /// Declared first element.
        offset: usize,
        /// Elements that the bytes hold.
        available: usize,
    },
    /// More elements than the bytes hold, by overlapping strides.
    #[error("shape {shape:?} claims {claimed} elements of the {available} stored")]
    Inflated {
        /// Declared shape.
        shape: Vec<usize>,
        /// Product of the shape.
        claimed: usize,
        /// Elements that the bytes hold.
        available: usize,
    },
    /// A float where a whole number was expected.
    #[error("element {index} is {value}, expected a whole number that fits 64 bits")]
    NotWhole {
        /// Position in row-major order.
        index: usize,
        /// What stands there.
        value: f64,
    },
}

/// Bytes that are part of the input, or were made while decoding it; slicing never copies.
#[derive(Debug, Clone)]
pub struct Blob<'a> {
    owner: Owner<'a>,
    start: usize,
    end: usize,
}

#[derive(Debug, Clone)]
enum Owner<'a> {
    Borrowed(&'a [u8]),
    Shared(Arc<[u8]>),
}

impl<'a> Blob<'a> {
    /// A part of the input.
    pub fn borrowed(bytes: &'a [u8]) -> Self {
        Self { owner: Owner::Borrowed(bytes), start: 0, end: bytes.len() }
    }

    /// Bytes of its own, e.g. those of a latin-1 string of an old pickle.
    pub fn shared(bytes: Arc<[u8]>) -> Self {
        let end = bytes.len();
        Self { owner: Owner::Shared(bytes), start: 0, end }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        let all: &[u8] = match &self.owner {
            Owner::Borrowed(b) => b,
            Owner::Shared(b) => b,
        };
        &all[self.start..self.end]
    }

    /// Where the blob starts in the input it borrows from, if it does.
    pub fn origin(&self) -> Option<usize> {
        matches!(self.owner, Owner::Borrowed(_)).then_some(self.start)
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The bytes `start..end` of this blob, if it has so many.
    pub fn slice(&self, start: usize, end: usize) -> Option<Self> {
        let fits = start <= end && end <= self.len();
        fits.then(|| Self { owner: self.owner.clone(), start: self.start + start, end: self.start + end })
    }
}

/// An overlapping (expanded) array may hold this many elements however small its storage.
const EXPANDED_ELEMENTS: usize = 1 << 20;

/// Whether a view lies inside `available` elements and claims not many more than those.
pub(crate) fn check_view(
    shape: &[usize],
    strides: &[usize],
    offset: usize,
    available: usize,
) -> Result<(), ArrayError> {
    let bad = || ArrayError::Geometry { shape: shape.to_vec(), strides: strides.to_vec() };
    if shape.len() != strides.len() || shape.len() > 32 {
        return Err(bad());
    }
    let claimed = shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s)).ok_or_else(bad)?;
    if claimed == 0 {
        return Ok(());
    }
    let reach = shape
        .iter()
        .zip(strides)
        .try_fold(offset, |at, (&n, &stride)| at.checked_add((n - 1).checked_mul(stride)?));
    let (shape, strides) = (shape.to_vec(), strides.to_vec());
    if reach.is_none_or(|last| last >= available) {
        return Err(ArrayError::OutOfBounds { shape, strides, offset, available });
    }
    if claimed > available.max(EXPANDED_ELEMENTS) {
        return Err(ArrayError::Inflated { shape, claimed, available });
    }
    Ok(())
}

/// A strided view of numbers. Invariant: every element lies inside `bytes`.
#[derive(Debug, Clone)]
pub struct Array<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    strides: Vec<usize>,
    offset: usize,
    bytes: Blob<'a>,
}

impl<'a> Array<'a> {
    /// A view with explicit strides and offset, both counted in elements.
    ///
    /// # Errors
    /// When an element would lie outside `bytes`, or the view claims far more elements than `bytes` holds.
    pub fn strided(
        dtype: Dtype,
        shape: Vec<usize>,
        strides: Vec<usize>,
        offset: usize,
        bytes: Blob<'a>,
    ) -> Result<Self, ArrayError> {
        check_view(&shape, &strides, offset, bytes.len() / dtype.size())?;
        Ok(Self { dtype, shape, strides, offset, bytes })
    }

    /// A dense array, row-major or (`fortran`) column-major.
    ///
    /// # Errors
    /// When `bytes` is too short.
    pub fn dense(
        dtype: Dtype,
        shape: Vec<usize>,
        fortran: bool,
        bytes: Blob<'a>,
    ) -> Result<Self, ArrayError> {
        let mut strides = vec![1usize; shape.len()];
        let mut step = 1usize;
        for i in 0..shape.len() {
            let axis = if fortran { i } else { shape.len() - 1 - i };
            strides[axis] = step;
            step = step.saturating_mul(shape[axis].max(1));
        }
        Self::strided(dtype, shape, strides, 0, bytes)
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Extent of every axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All elements in row-major order as f64.
    pub fn to_f64(&self) -> Vec<f64> {
        let dtype = self.dtype;
        if dtype == Dtype::F64 {
            return self.collect(|b| f64::from_le_bytes(fixed(b)));
        }
        self.collect(|b| dtype.f64_at(b))
    }

    /// All elements in row-major order as f32; wider types are rounded.
    pub fn to_f32(&self) -> Vec<f32> {
        let dtype = self.dtype;
        if dtype == Dtype::F32 {
            return self.collect(|b| f32::from_le_bytes(fixed(b)));
        }
        self.collect(|b| dtype.f64_at(b) as f32)
    }

    /// All elements as whole numbers; floats must be whole (old files keep atomic numbers as f32).
    ///
    /// # Errors
    /// On a fraction, NaN or infinity.
    pub fn to_i64(&self) -> Result<Vec<i64>, ArrayError> {
        let dtype = self.dtype;
        if !dtype.is_float() {
            return Ok(self.collect(|b| dtype.int_at(b)));
        }
        self.to_f64()
            .into_iter()
            .enumerate()
            .map(|(index, value)| {
                let whole = value.fract() == 0.0 && value.abs() < 9.0e18;
                if whole { Ok(value as i64) } else { Err(ArrayError::NotWhole { index, value }) }
            })
            .collect()
    }

    /// All elements in row-major order as they are stored, little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let size = self.dtype.size();
        let mut out = Vec::with_capacity(self.len() * size);
        self.each(|element| out.extend_from_slice(element));
        out
    }

    /// The rows `start..end` of the first axis.
    pub fn rows(&self, start: usize, end: usize) -> Cow<'_, Self> {
        let count = self.shape.first().copied().unwrap_or(0);
        if start == 0 && end >= count {
            return Cow::Borrowed(self);
        }
        let mut part = self.clone();
        if let Some(first) = part.shape.first_mut() {
            *first = end.min(count).saturating_sub(start);
            part.offset += start * self.strides[0];
        }
        Cow::Owned(part)
    }

    fn collect<T>(&self, read: impl Fn(&[u8]) -> T) -> Vec<T> {
        let mut out = Vec::with_capacity(self.len());
        self.each(|element| out.push(read(element)));
        out
    }

    /// Shows every element's bytes in row-major order.
    fn each(&self, mut see: impl FnMut(&[u8])) {
        let (size, total) = (self.dtype.size(), self.len());
        let bytes = self.bytes.as_slice();
        let at = |element: usize| bytes.get(element * size..(element + 1) * size).unwrap_or_default();
        if self.is_row_major() {
            (self.offset..self.offset + total).for_each(|i| see(at(i)));
            return;
        }
        let mut index = vec![0usize; self.shape.len()];
        for _ in 0..total {
            let inner: usize = index.iter().zip(&self.strides).map(|(i, s)| i * s).sum();
            see(at(self.offset + inner));
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
    }

    pub(crate) fn is_row_major(&self) -> bool {
        let mut step = 1;
        for (&n, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if n != 1 && stride != step {
                return false;
            }
            step *= n;
        }
        true
    }
}

#[cfg(test)]
mod tests;
