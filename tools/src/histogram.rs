//! Counted bins: the form in which every distribution travels from the data to the page.

use std::collections::BTreeMap;

use serde::Serialize;

/// How the axis under the bins is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// Bins of equal width.
    Linear,
    /// Bins of equal width over whole numbers; the edges are whole numbers too.
    Whole,
    /// Bins of equal ratio.
    Log,
}

/// One bin, `low ≤ x < high`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Lower edge.
    pub low: f64,
    /// Upper edge.
    pub high: f64,
    /// How many values lie in it.
    pub count: u64,
}

/// A distribution. Bins are ascending and do not overlap; empty ones may be left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Histogram {
    /// Division of the axis.
    pub spacing: Spacing,
    /// The bins.
    pub bins: Vec<Bin>,
}

/// Bins of a plot: enough to see the shape at the width of a phone.
pub const BINS: u32 = 48;

/// Equal bins between two extremes.
#[derive(Debug, Clone, Copy)]
pub struct LinearBins {
    low: f64,
    width: f64,
}

impl LinearBins {
    /// [`BINS`] bins that cover `min..=max`. A single value gets one bin around it.
    pub fn covering(min: f64, max: f64) -> Self {
        if max > min {
            Self { low: min, width: (max - min) / f64::from(BINS) }
        } else {
            let width = (min.abs() * 1e-3).max(1e-3);
            Self { low: min - width / 2.0, width }
        }
    }

    /// Lower edge of the first bin.
    pub fn low(&self) -> f64 {
        self.low
    }

    /// Width of a bin.
    pub fn width(&self) -> f64 {
        self.width
    }

    /// The bin of a value; the largest value belongs to the last bin.
    pub fn index(&self, value: f64) -> u32 {
        (((value - self.low) / self.width).max(0.0) as u32).min(BINS - 1)
    }

    /// The histogram of counts by bin number. Numbers beyond the last bin (by rounding, at the maximum) fall into it.
    pub fn histogram(&self, counts: &BTreeMap<u32, u64>) -> Histogram {
        let mut merged: BTreeMap<u32, u64> = BTreeMap::new();
        for (&index, &count) in counts {
            *merged.entry(index.min(BINS - 1)).or_default() += count;
        }
        let edge = |index: u32| self.low + self.width * f64::from(index);
        Histogram::linear(merged.into_iter().map(|(index, count)| (edge(index), edge(index + 1), count)))
    }
}

impl Histogram {
    /// From bins of equal width: lower edge, upper edge, count.
    pub fn linear(bins: impl IntoIterator<Item = (f64, f64, u64)>) -> Self {
        let bins = bins.into_iter().map(|(low, high, count)| Bin { low, high, count }).collect();
        Self { spacing: Spacing::Linear, bins }
    }

    /// From exact counts of whole numbers: one bin a value while they are few, equal bins otherwise, bins of equal ratio
    /// where the values span more than two decades.
    pub fn of_integers(counts: &BTreeMap<u64, u64>) -> Self {
        let (Some((&min, _)), Some((&max, _))) = (counts.first_key_value(), counts.last_key_value()) else {
            return Self { spacing: Spacing::Whole, bins: vec![] };
        };
        if min > 0 && max / min >= 100 {
            return Self::of_ratios(counts, min, max);
        }
        // Whole-number widths, so that no bin holds more possible values than its neighbour.
        let width = (max - min + 1).div_ceil(u64::from(BINS));
        let mut bins: BTreeMap<u64, u64> = BTreeMap::new();
        for (&value, &count) in counts {
            *bins.entry((value - min) / width).or_default() += count;
        }
        let edge = |index: u64| (min + index * width) as f64;
        let bins = bins
            .into_iter()
            .map(|(index, count)| Bin { low: edge(index), high: edge(index + 1), count })
            .collect();
        Self { spacing: Spacing::Whole, bins }
    }

    fn of_ratios(counts: &BTreeMap<u64, u64>, min: u64, max: u64) -> Self {
        let ratio = ((max + 1) as f64 / min as f64).powf(1.0 / f64::from(BINS));
        let edge = |index: u32| min as f64 * ratio.powi(index as i32);
        let mut bins: BTreeMap<u32, u64> = BTreeMap::new();
        for (&value, &count) in counts {
            let index = ((value as f64 / min as f64).ln() / ratio.ln()).max(0.0) as u32;
            *bins.entry(index.min(BINS - 1)).or_default() += count;
        }
        let bins = bins
            .into_iter()
            .map(|(index, count)| Bin { low: edge(index), high: edge(index + 1), count })
            .collect();
        Self { spacing: Spacing::Log, bins }
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.bins.iter().map(|b| b.count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_integers_keep_their_own_bins() {
        let histogram = Histogram::of_integers(&[(3, 5), (4, 1), (9, 2)].into());
        let bins: Vec<_> = histogram.bins.iter().map(|b| (b.low, b.high, b.count)).collect();
        assert_eq!(bins, [(3.0, 4.0, 5), (4.0, 5.0, 1), (9.0, 10.0, 2)]);
    }

    #[test]
    fn wide_ranges_are_divided_by_ratio_and_lose_nothing() {
        let counts: BTreeMap<u64, u64> =
            (0..40u32).map(|k| (10 + 3u64.pow(k / 4), u64::from(k) + 1)).collect();
        let histogram = Histogram::of_integers(&counts);
        assert_eq!(histogram.spacing, Spacing::Log);
        assert_eq!(histogram.total(), counts.values().sum::<u64>());
        assert!(histogram.bins.windows(2).all(|w| w[0].high <= w[1].low + 1e-9));
    }

    #[test]
    fn extremes_lie_in_the_outer_bins() {
        let bins = LinearBins::covering(-2.0, 3.0);
        assert_eq!((bins.index(-2.0), bins.index(3.0)), (0, BINS - 1));
        let histogram = bins.histogram(&[(0, 1), (BINS, 2)].into());
        assert_eq!(histogram.total(), 3);
        assert!((histogram.bins[1].high - 3.0).abs() < 1e-12);
        let single = LinearBins::covering(5.0, 5.0);
        assert!(single.low() < 5.0 && 5.0 < single.low() + single.width());
        assert_eq!(single.index(5.0), 0);
    }
}
