//! Periodic images around the atoms, laid out so that distances to many of them are computed at once.

use super::lattice::{Lattice, dot};
use super::sieve::{LANES, Sieve};
use super::{Geometry, GraphError};

/// Most images that a search may look at: some 400 MB.
const MOST_IMAGES: f64 = 16_777_216.0;

/// Images in the order of (source, shift); coordinates are relative to a centre and padded to whole chunks.
#[derive(Debug, Default)]
pub(super) struct Images {
    pub(super) axes: [Vec<f32>; 3],
    pub(super) source: Vec<u32>,
    /// Shift of the source as given, for a target that lies in the cell.
    pub(super) shift: Vec<[i16; 3]>,
}

impl Images {
    pub(super) fn push(&mut self, at: [f32; 3], source: u32, shift: [i16; 3]) {
        for (axis, x) in self.axes.iter_mut().zip(at) {
            axis.push(x);
        }
        self.source.push(source);
        self.shift.push(shift);
    }

    /// Fills the last chunk with images that are out of reach of everything.
    pub(super) fn pad(&mut self) {
        let length = self.source.len().next_multiple_of(LANES);
        for axis in &mut self.axes {
            axis.resize(length, f32::INFINITY);
        }
    }

    pub(super) fn chunks(&self) -> impl Iterator<Item = [&[f32; LANES]; 3]> {
        let [x, y, z] = self.axes.each_ref().map(|axis| axis.as_chunks::<LANES>().0);
        x.iter().zip(y).zip(z).map(|((x, y), z)| [x, y, z])
    }

    /// Those within reach of a box, in the same order.
    pub(super) fn around(&self, region: &Box3, sieve: Sieve) -> Self {
        let mut near = Self::default();
        for k in 0..self.source.len() {
            let at = [self.axes[0][k], self.axes[1][k], self.axes[2][k]];
            if region.distance2(at.map(f64::from)) <= f64::from(sieve.outer()) {
                near.push(at, self.source[k], self.shift[k]);
            }
        }
        near.pad();
        near
    }
}

/// The smallest box around some points, Å.
#[derive(Debug, Clone, Copy)]
pub(super) struct Box3 {
    pub(super) low: [f64; 3],
    pub(super) high: [f64; 3],
}

impl Box3 {
    pub(super) const EMPTY: Self = Self { low: [f64::INFINITY; 3], high: [f64::NEG_INFINITY; 3] };

    pub(super) fn of<'a>(points: impl IntoIterator<Item = &'a [f64; 3]>) -> Self {
        let mut region = Self::EMPTY;
        points.into_iter().for_each(|p| region.include(*p));
        region
    }

    pub(super) fn union(boxes: &[Self]) -> Self {
        let mut all = Self::EMPTY;
        for region in boxes.iter().filter(|region| !region.is_empty()) {
            all.include(region.low);
            all.include(region.high);
        }
        all
    }

    pub(super) fn is_empty(&self) -> bool {
        self.low[0] > self.high[0]
    }

    pub(super) fn include(&mut self, p: [f64; 3]) {
        for (k, x) in p.into_iter().enumerate() {
            self.low[k] = self.low[k].min(x);
            self.high[k] = self.high[k].max(x);
        }
    }

    pub(super) fn distance2(&self, p: [f64; 3]) -> f64 {
        let d = [0, 1, 2].map(|k| (self.low[k] - p[k]).max(p[k] - self.high[k]).max(0.0));
        dot(d, d)
    }
}

/// Which images of an atom can lie within reach of any atom, by its coordinates along the lattice vectors.
pub(super) struct Ranges {
    low: [f64; 3],
    high: [f64; 3],
    pbc: [bool; 3],
}

impl Ranges {
    pub(super) fn new(fraction: &[[f64; 3]], lattice: &Lattice, cutoff: f64) -> Result<Self, GraphError> {
        let region = Box3::of(fraction);
        // A little wider than exact, so that rounding cannot lose an image at the cutoff.
        let reach = lattice.spacing.map(|h| cutoff / h + 1e-9);
        let ranges = Self {
            low: [0, 1, 2].map(|k| region.low[k] - reach[k]),
            high: [0, 1, 2].map(|k| region.high[k] + reach[k]),
            pbc: lattice.pbc,
        };
        let periodic = || (0..3).filter(|k| lattice.pbc[*k]);
        let images: f64 = periodic().map(|k| ranges.high[k] - ranges.low[k]).product();
        if images * fraction.len() as f64 > MOST_IMAGES || periodic().any(|k| reach[k] > 16_000.0) {
            return Err(GraphError::Images { limit: MOST_IMAGES as u64, cutoff });
        }
        Ok(ranges)
    }

    pub(super) fn of(&self, fraction: [f64; 3]) -> [std::ops::RangeInclusive<i32>; 3] {
        [0, 1, 2].map(|k| {
            if self.pbc[k] {
                (self.low[k] - fraction[k]).ceil() as i32..=(self.high[k] - fraction[k]).floor() as i32
            } else {
                0..=0
            }
        })
    }
}

pub(super) type Wrapped = (Vec<[f64; 3]>, Vec<[f64; 3]>, Vec<[i32; 3]>);

/// Positions and coordinates along the lattice vectors, both wrapped, and the whole cells taken off.
///
/// Along a direction in which the atoms span no more than one cell they stay where they are: wrapping would only tear
/// a slab apart and widen the search.
pub(super) fn wrap(geometry: &Geometry, lattice: &Lattice) -> Result<Wrapped, GraphError> {
    let mut position = geometry.positions.to_vec();
    let mut fraction: Vec<[f64; 3]> = position.iter().map(|p| lattice.fractional(*p)).collect();
    let mut wrap = vec![[0i32; 3]; position.len()];
    let region = Box3::of(&fraction);
    for k in (0..3).filter(|k| lattice.pbc[*k] && region.high[*k] - region.low[*k] > 1.0) {
        for (atom, f) in fraction.iter_mut().enumerate() {
            let whole = f[k].floor();
            if whole.abs() > 16_000.0 {
                return Err(GraphError::Shift { atom, shift: whole });
            }
            wrap[atom][k] = whole as i32;
            f[k] -= whole;
            for (x, row) in position[atom].iter_mut().zip(lattice.rows[k]) {
                *x -= whole * row;
            }
        }
    }
    Ok((position, fraction, wrap))
}

pub(super) fn add(d: [f64; 3], row: [f64; 3], n: i32) -> [f64; 3] {
    let n = f64::from(n);
    [d[0] + n * row[0], d[1] + n * row[1], d[2] + n * row[2]]
}
