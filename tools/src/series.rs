//! Curves of any length in bounded memory.

use serde::Serialize;

/// Points a curve keeps at most: more than a screen has pixels for it.
const MOST: usize = 600;

/// One or several consecutive values of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Mean position.
    pub x: f64,
    /// Mean value.
    pub mean: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// How many values it stands for.
    pub count: u64,
}

impl Point {
    fn merge(self, other: Self) -> Self {
        let count = self.count + other.count;
        let mean = |a: f64, b: f64| (a * self.count as f64 + b * other.count as f64) / count as f64;
        Self {
            x: mean(self.x, other.x),
            mean: mean(self.mean, other.mean),
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            count,
        }
    }
}

/// A growing curve. When it has too many points, neighbours are merged in pairs, and each further point stands for twice as
/// many values.
#[derive(Debug, Clone)]
pub struct Series {
    points: Vec<Point>,
    open: Option<Point>,
    stride: u64,
    last: Option<(f64, f64)>,
}

impl Default for Series {
    fn default() -> Self {
        Self { points: vec![], open: None, stride: 1, last: None }
    }
}

impl Series {
    /// Adds a value.
    pub fn push(&mut self, x: f64, value: f64) {
        let point = Point { x, mean: value, min: value, max: value, count: 1 };
        let open = self.open.take().map_or(point, |open| open.merge(point));
        self.last = Some((x, value));
        if open.count < self.stride {
            self.open = Some(open);
            return;
        }
        self.points.push(open);
        if self.points.len() >= MOST {
            self.points = self
                .points
                .chunks(2)
                .map(|pair| pair.iter().copied().reduce(Point::merge))
                .collect::<Option<_>>()
                .unwrap_or_default();
            self.stride *= 2;
        }
    }

    /// The last value with its position.
    pub fn last(&self) -> Option<(f64, f64)> {
        self.last
    }

    /// The curve so far.
    pub fn points(&self) -> Vec<Point> {
        self.points.iter().copied().chain(self.open).collect()
    }
}

/// The curve in another unit.
pub fn scaled(points: &[Point], factor: f64) -> Vec<Point> {
    let scale = |p: &Point| Point { mean: p.mean * factor, min: p.min * factor, max: p.max * factor, ..*p };
    points.iter().map(scale).collect()
}

/// The curve with at most so many points, each the mean of as many neighbours.
pub fn coarse(points: &[Point], most: usize) -> Vec<Point> {
    let chunks = points.chunks(points.len().div_ceil(most.max(1)).max(1));
    chunks.filter_map(|chunk| chunk.iter().copied().reduce(Point::merge)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_curves_are_kept_as_they_are() {
        let mut series = Series::default();
        (0..10).for_each(|i| series.push(f64::from(i), f64::from(i * i)));
        assert_eq!(series.points().len(), 10);
        assert_eq!(series.points()[3], Point { x: 3.0, mean: 9.0, min: 9.0, max: 9.0, count: 1 });
        assert_eq!(series.last(), Some((9.0, 81.0)));
    }

    #[test]
    fn coarse_curves_keep_count_and_mean() {
        let mut series = Series::default();
        (0..10).for_each(|i| series.push(f64::from(i), f64::from(i)));
        let points = coarse(&series.points(), 4);
        let told: Vec<_> = points.iter().map(|p| (p.x, p.mean, p.max, p.count)).collect();
        assert_eq!(told, [(1.0, 1.0, 2.0, 3), (4.0, 4.0, 5.0, 3), (7.0, 7.0, 8.0, 3), (9.0, 9.0, 9.0, 1)]);
        assert_eq!(coarse(&series.points(), 10), series.points());
    }

    #[test]
    fn long_curves_keep_count_mean_and_extremes() {
        let mut series = Series::default();
        let n = 100_003u32;
        (0..n).for_each(|i| series.push(f64::from(i), f64::from(i % 7)));
        let points = series.points();
        assert!(points.len() <= MOST, "{}", points.len());
        assert_eq!(points.iter().map(|p| p.count).sum::<u64>(), u64::from(n));
        let mean = points.iter().map(|p| p.mean * p.count as f64).sum::<f64>() / f64::from(n);
        let truth = (0..n).map(|i| f64::from(i % 7)).sum::<f64>() / f64::from(n);
        assert!((mean - truth).abs() < 1e-9);
        assert!(points.iter().filter(|p| p.count > 7).all(|p| p.min == 0.0 && p.max == 6.0));
        assert!(points.windows(2).all(|w| w[0].x < w[1].x));
    }
}
