//! Numbers as the paper prints them: the digits tell how far they are rounded.

use std::fmt::{self, Display};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A rounded number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Printed {
    /// As printed.
    pub value: f64,
    /// Digits after the point.
    pub decimals: usize,
}

impl Printed {
    /// Parses digits as printed.
    pub fn parse(text: &str) -> Option<Self> {
        let value = text.parse::<f64>().ok().filter(|v| v.is_finite())?;
        let decimals = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        Some(Self { value, decimals })
    }

    /// Half a unit of the last digit: how far the number may be from what was rounded.
    pub fn half(self) -> f64 {
        0.5 * 10f64.powi(-(self.decimals as i32))
    }
}

impl Display for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.*}", self.decimals, self.value)
    }
}

impl<'de> Deserialize<'de> for Printed {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is no number")))
    }
}

impl Serialize for Printed {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_f64(self.value)
    }
}

/// A cell of a table. What has no folds has a `first` value only.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Entry {
    /// The value; of a task with folds, that of fold 0.
    pub first: Option<Printed>,
    /// Mean over five folds.
    pub mean: Option<Printed>,
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| if text == "-" { Some(None) } else { Printed::parse(text).map(Some) };
        match text.split_once('/') {
            Some((first, mean)) => Some(Self { first: number(first)?, mean: number(mean)? }),
            None => Some(Self { first: number(text)?, mean: None }),
        }
    }
}

/// A row of entries in one text.
pub(super) fn row<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<Entry>, D::Error> {
    let text = String::deserialize(input)?;
    let entry = |word| Entry::parse(word).ok_or_else(|| D::Error::custom(format!("`{word}` is no entry")));
    text.split_whitespace().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_tell_the_rounding() {
        let printed = |text| Printed::parse(text).unwrap();
        assert_eq!(printed("0.200"), Printed { value: 0.2, decimals: 3 });
        assert!((printed("0.200").half() - 0.0005).abs() < 1e-18);
        assert!((printed("17").half() - 0.5).abs() < 1e-18);
        assert_eq!(printed("0.200").to_string(), "0.200");
        assert_eq!((Printed::parse("nan"), Printed::parse("")), (None, None));
        assert_eq!(Entry::parse("93.45/-").unwrap().mean, None);
        assert_eq!(Entry::parse("26.6/22.77").unwrap().mean, Printed::parse("22.77"));
        assert_eq!(Entry::parse("-").unwrap(), Entry::default());
        assert_eq!(Entry::parse("1/x"), None);
    }
}
