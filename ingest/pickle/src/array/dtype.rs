//! Element types.

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
    pub(super) fn f64_at(self, b: &[u8]) -> f64 {
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
    pub(super) fn int_at(self, b: &[u8]) -> i64 {
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

pub(super) fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    let n = N.min(bytes.len());
    out[..n].copy_from_slice(&bytes[..n]);
    out
}

pub(super) fn half_to_f32(h: u16) -> f32 {
    let (sign, exponent, fraction) = (h >> 15, (h >> 10) & 0x1f, h & 0x3ff);
    let magnitude = match exponent {
        0 => f32::from(fraction) * 2f32.powi(-24),
        31 if fraction == 0 => f32::INFINITY,
        31 => f32::NAN,
        e => (1.0 + f32::from(fraction) / 1024.0) * 2f32.powi(i32::from(e) - 15),
    };
    if sign == 1 { -magnitude } else { magnitude }
}
