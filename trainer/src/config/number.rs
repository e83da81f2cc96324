//! Numbers that are valid once they exist; a bad one is refused with its line by the TOML reader.

use serde::{Deserialize, Serialize};

macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident, $words:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $name(f64);

        impl $name {
            /// The number.
            pub const fn get(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = String;

            fn try_from(value: f64) -> Result<Self, String> {
                let valid: fn(f64) -> bool = $valid;
                // NaN is in no range.
                if valid(value) { Ok(Self(value)) } else { Err(format!(concat!("expected ", $words, ", found {}"), value)) }
            }
        }

        impl From<$name> for f64 {
            fn from(value: $name) -> f64 {
                value.0
            }
        }
    };
}

bounded!(
    /// A finite number above 0.
    Positive, "a finite number above 0", |x| x > 0.0 && x.is_finite()
);
bounded!(
    /// A finite number, 0 or more.
    NonNegative, "a finite number, 0 or more", |x| x >= 0.0 && x.is_finite()
);
bounded!(
    /// A number from 0 to 1, 1 left out: decays, dropout.
    Fraction, "a number from 0 to below 1", |x| (0.0..1.0).contains(&x)
);
bounded!(
    /// A number above 0, up to 1: factors.
    Factor, "a number above 0, at most 1", |x| x > 0.0 && x <= 1.0
);

impl Positive {
    /// A constant of this program; the caller vouches for its sign.
    pub(crate) const fn known(value: f64) -> Self {
        Self(value)
    }
}

impl Factor {
    /// A constant of this program; the caller vouches for its range.
    pub(crate) const fn known(value: f64) -> Self {
        Self(value)
    }
}

impl Fraction {
    /// A constant of this program; the caller vouches for its range.
    pub(crate) const fn known(value: f64) -> Self {
        Self(value)
    }
}

impl NonNegative {
    /// A constant of this program; the caller vouches for its sign.
    pub(crate) const fn known(value: f64) -> Self {
        Self(value)
    }
}

/// A whole number, 1 or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Count(u64);

impl Count {
    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// A constant of this program; the caller vouches that it is not 0.
    pub(crate) const fn known(value: u64) -> Self {
        Self(value)
    }
}

impl TryFrom<i64> for Count {
    type Error = String;

    fn try_from(value: i64) -> Result<Self, String> {
        if value >= 1 {
            Ok(Self(value as u64))
        } else {
            Err(format!("expected a whole number, 1 or more, found {value}"))
        }
    }
}

impl From<Count> for i64 {
    fn from(value: Count) -> i64 {
        value.0 as i64
    }
}
