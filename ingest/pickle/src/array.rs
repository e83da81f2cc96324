//! Strided arrays of numbers over borrowed bytes: what pickled tensors, numpy arrays and `.npy` members all are.

use std::borrow::Cow;
use std::sync::Arc;

use thiserror::Error;

/// Element type of an [`Array`], always little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE half precision.
    F16,
    /// Upper half of an IEEE single.
    Bf16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
    /// Signed integers.
    I8,
    /// 16 bits.
    I16,
    /// 32 bits.
    I32,
    /// 64 bits.
    I64,
    /// Unsigned integers.
    U8,
    /// 16 bits.
    U16,
    /// 32 bits.
    U32,
    /// 64 bits.
    U64,
    /// One byte an element; anything but 0 is true.
    Bool,
}

impl Dtype {
    /// Bytes an element takes.
    pub fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    /// The numpy code without its byte order (`f8`, `i4`, `b1` …), if it is a type that is read here.
    pub fn from_numpy(code: &str) -> Option<Self> {
        Some(match code {
            "f2" => Self::F16,
            "f4" => Self::F32,
            "f8" => Self::F64,
            "i1" => Self::I8,
            "i2" => Self::I16,
            "i4" => Self::I32,
            "i8" => Self::I64,
            "u1" => Self::U8,
            "u2" => Self::U16,
            "u4" => Self::U32,
            "u8" => Self::U64,
            "b1" => Self::Bool,
            _ => return None,
        })
    }

    /// Whether the elements are floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    /// One element as f64; `bytes` holds exactly [`Dtype::size`] bytes.
    fn f64_at(self, b: &[u8]) -> f64 {
        match self {
            Self::F16 => half_to_f32(u16::from_le_bytes(fixed(b))) as f64,
            Self::Bf16 => f32::from_bits((u16::from_le_bytes(fixed(b)) as u32) << 16) as f64,
            Self::F32 => f32::from_le_bytes(fixed(b)) as f64,
            Self::F64 => f64::from_le_bytes(fixed(b)),
            Self::U64 => u64::from_le_bytes(fixed(b)) as f64,
            _ => self.int_at(b) as f64,
        }
    }

    /// One element of an integer or boolean type; 0 for floats, which callers rule out.
    fn int_at(self, b: &[u8]) -> i64 {
        match self {
            Self::I8 => i8::from_le_bytes(fixed(b)) as i64,
            Self::I16 => i16::from_le_bytes(fixed(b)) as i64,
            Self::I32 => i32::from_le_bytes(fixed(b)) as i64,
            Self::I64 => i64::from_le_bytes(fixed(b)),
            Self::U8 => b.first().copied().unwrap_or(0) as i64,
            Self::Bool => i64::from(b.first().copied().unwrap_or(0) != 0),
            Self::U16 => u16::from_le_bytes(fixed(b)) as i64,
            Self::U32 => u32::from_le_bytes(fixed(b)) as i64,
            Self::U64 => i64::try_from(u64::from_le_bytes(fixed(b))).unwrap_or(i64::MAX),
            Self::F16 | Self::Bf16 | Self::F32 | Self::F64 => 0,
        }
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    let n = N.min(bytes.len());
    out[..n].copy_from_slice(&bytes[..n]);
    out
}

fn half_to_f32(h: u16) -> f32 {
    let (sign, exponent, fraction) = (h >> 15, (h >> 10) & 0x1f, h & 0x3ff);
    let magnitude = match exponent {
        0 => f32::from(fraction) * 2f32.powi(-24),
        31 if fraction == 0 => f32::INFINITY,
        31 => f32::NAN,
        e => (1.0 + f32::from(fraction) / 1024.0) * 2f32.powi(i32::from(e) - 15),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

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
        let available = bytes.as_slice().len() / dtype.size();
        let bad = || ArrayError::Geometry { shape: shape.clone(), strides: strides.clone() };
        if shape.len() != strides.len() || shape.len() > 32 {
            return Err(bad());
        }
        let claimed = shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s)).ok_or_else(bad)?;
        if claimed > 0 {
            let reach = shape
                .iter()
                .zip(&strides)
                .try_fold(offset, |at, (&n, &stride)| at.checked_add((n - 1).checked_mul(stride)?));
            if reach.is_none_or(|last| last >= available) {
                return Err(ArrayError::OutOfBounds { shape, strides, offset, available });
            }
            if claimed > available.max(EXPANDED_ELEMENTS) {
                return Err(ArrayError::Inflated { shape, claimed, available });
            }
        }
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
        let (size, total) = (self.dtype.size(), self.len());
        let bytes = self.bytes.as_slice();
        let at = |element: usize| bytes.get(element * size..(element + 1) * size).unwrap_or_default();
        if self.is_row_major() {
            return (self.offset..self.offset + total).map(|i| read(at(i))).collect();
        }
        let mut out = Vec::with_capacity(total);
        let mut index = vec![0usize; self.shape.len()];
        for _ in 0..total {
            let inner: usize = index.iter().zip(&self.strides).map(|(i, s)| i * s).sum();
            out.push(read(at(self.offset + inner)));
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        out
    }

    fn is_row_major(&self) -> bool {
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
