//! Distributions of real numbers: from all values where they are few, from counts on a fine grid where they are many.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::histogram::{Histogram, LinearBins};

/// A distribution of real values.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RealDistribution {
    /// How many values there are.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Population standard deviation.
    pub std: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// How many values lie outside the histogram, which a few extremes must not squeeze.
    pub beyond: u64,
    /// The distribution.
    pub histogram: Histogram,
}

/// Share of the values that a histogram may leave out at either end.
const TAIL: f64 = 0.001;
/// Ends are left out only where they make the histogram so many times wider.
const SQUEEZED: f64 = 3.0;

impl RealDistribution {
    /// Of the given values; `None` where there are none.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        let tail = (n * TAIL) as usize;
        let inner = (values[tail], values[values.len() - 1 - tail]);
        let (low, high) = shown((min, max), inner);
        let bins = LinearBins::covering(low, high);
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        let mut beyond = 0;
        for value in values.iter().copied() {
            if value < low || value > high {
                beyond += 1;
            } else {
                *counts.entry(bins.index(value)).or_default() += 1;
            }
        }
        Some(Self {
            count: values.len() as u64,
            mean,
            std: variance.sqrt(),
            min,
            max,
            beyond,
            histogram: bins.histogram(&counts),
        })
    }
}

/// The range to show: all of it, or without the tails where these are long.
fn shown((min, max): (f64, f64), (low, high): (f64, f64)) -> (f64, f64) {
    if high > low && (max - min) > SQUEEZED * (high - low) { (low, high) } else { (min, max) }
}

/// Values counted in steps of a fixed width, with exact extremes. Memory goes with the range, not with the count.
#[derive(Debug, Clone)]
pub struct Grid {
    width: f64,
    counts: BTreeMap<i64, u64>,
    count: u64,
    sum: f64,
    squares: f64,
    min: f64,
    max: f64,
}

impl Grid {
    /// An empty grid.
    pub fn new(width: f64) -> Self {
        Self {
            width,
            counts: BTreeMap::new(),
            count: 0,
            sum: 0.0,
            squares: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        }
    }

    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        *self.counts.entry((value / self.width).floor() as i64).or_default() += 1;
        self.count += 1;
        self.sum += value;
        self.squares += value * value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Adds another grid of the same width.
    pub fn merge(&mut self, other: &Self) {
        for (&cell, &count) in &other.counts {
            *self.counts.entry(cell).or_default() += count;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The distribution; `None` where nothing was added. Bins are whole steps of the grid.
    pub fn distribution(&self) -> Option<RealDistribution> {
        let (&first, &last) = (self.counts.keys().next()?, self.counts.keys().next_back()?);
        let n = self.count as f64;
        let tail = (n * TAIL) as u64;
        let low = rank(self.counts.iter(), tail).unwrap_or(first);
        let high = rank(self.counts.iter().rev(), tail).unwrap_or(last);
        let is_long = (last - first) as f64 > SQUEEZED * (high - low) as f64 && high > low;
        let (low, high) = if is_long { (low, high) } else { (first, last) };
        let step = ((high - low + 1) as u64).div_ceil(u64::from(crate::histogram::BINS)) as i64;
        let mut merged: BTreeMap<i64, u64> = BTreeMap::new();
        let mut inside = 0;
        for (&cell, &count) in self.counts.range(low..=high) {
            *merged.entry((cell - low).div_euclid(step)).or_default() += count;
            inside += count;
        }
        let edge = |bin: i64| (low + bin * step) as f64 * self.width;
        let bins = merged.into_iter().map(|(bin, count)| (edge(bin), edge(bin + 1), count));
        let mean = self.sum / n;
        Some(RealDistribution {
            count: self.count,
            mean,
            std: (self.squares / n - mean * mean).max(0.0).sqrt(),
            min: self.min,
            max: self.max,
            beyond: self.count - inside,
            histogram: Histogram::linear(bins),
        })
    }
}

/// The step that holds the value with so many before it.
fn rank<'a>(steps: impl Iterator<Item = (&'a i64, &'a u64)>, before: u64) -> Option<i64> {
    let mut seen = 0;
    for (&cell, &count) in steps {
        seen += count;
        if seen > before {
            return Some(cell);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_values() {
        let got = RealDistribution::of(vec![1.0, 2.0, 6.0]).unwrap();
        assert_eq!((got.mean, got.min, got.max, got.count, got.beyond), (3.0, 1.0, 6.0, 3, 0));
        assert!((got.std - (14.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(got.histogram.total(), 3);
        assert!(RealDistribution::of(vec![]).is_none());
    }

    #[test]
    fn one_extreme_does_not_squeeze_the_rest() {
        let values: Vec<f64> = (0..10_000).map(f64::from).chain([1e9]).collect();
        let mut grid = Grid::new(1.0);
        values.iter().for_each(|&v| grid.add(v));
        for got in [RealDistribution::of(values).unwrap(), grid.distribution().unwrap()] {
            let last = got.histogram.bins.last().unwrap();
            assert!(last.high < 10_300.0 && got.max == 1e9, "{last:?}");
            assert!(got.beyond >= 1 && got.beyond + got.histogram.total() == got.count);
        }
    }

    #[test]
    fn grids_add_up() {
        let (mut a, mut b, mut whole) = (Grid::new(0.1), Grid::new(0.1), Grid::new(0.1));
        for k in 0..500 {
            let value = f64::from(k * k % 317) * 0.0371 - 4.0;
            whole.add(value);
            if k % 2 == 0 { a.add(value) } else { b.add(value) }
        }
        a.merge(&b);
        let (merged, whole) = (a.distribution().unwrap(), whole.distribution().unwrap());
        assert_eq!(
            (merged.histogram.clone(), merged.min, merged.max),
            (whole.histogram, whole.min, whole.max)
        );
        assert!((merged.mean - whole.mean).abs() < 1e-12 && merged.histogram.total() == 500);
    }
}
