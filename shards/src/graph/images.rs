//! Periodic images around the atoms, laid out so that distances to many of them are computed at once.

use super::lattice::{Lattice, dot};
use super::sieve::{LANES, SAME, Sieve, each_bit};
use super::{Geometry, GraphError};

/// Most images that a search may look at: some 400 MB.
const MOST_IMAGES: f64 = 16_777_216.0;

/// Atoms from which on it pays to give each block of space a list of its own.
const ATOMS_FOR_BLOCKS: usize = 192;

/// Images in the order of (source, shift); coordinates are relative to a centre and padded to whole chunks.
#[derive(Debug, Default)]
struct Images {
    axes: [Vec<f32>; 3],
    source: Vec<u32>,
    /// Shift of the source as given, for a target that lies in the cell.
    shift: Vec<[i16; 3]>,
}

impl Images {
    fn push(&mut self, at: [f32; 3], source: u32, shift: [i16; 3]) {
        for (axis, x) in self.axes.iter_mut().zip(at) {
            axis.push(x);
        }
        self.source.push(source);
        self.shift.push(shift);
    }

    /// Fills the last chunk with images that are out of reach of everything.
    fn pad(&mut self) {
        let length = self.source.len().next_multiple_of(LANES);
        for axis in &mut self.axes {
            axis.resize(length, f32::INFINITY);
        }
    }

    fn chunks(&self) -> impl Iterator<Item = [&[f32; LANES]; 3]> {
        let [x, y, z] = self.axes.each_ref().map(|axis| axis.as_chunks::<LANES>().0);
        x.iter().zip(y).zip(z).map(|((x, y), z)| [x, y, z])
    }

    /// Those within reach of a box, in the same order.
    fn around(&self, region: &Box3, sieve: Sieve) -> Self {
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
struct Box3 {
    low: [f64; 3],
    high: [f64; 3],
}

impl Box3 {
    const EMPTY: Self = Self { low: [f64::INFINITY; 3], high: [f64::NEG_INFINITY; 3] };

    fn of<'a>(points: impl IntoIterator<Item = &'a [f64; 3]>) -> Self {
        let mut region = Self::EMPTY;
        points.into_iter().for_each(|p| region.include(*p));
        region
    }

    fn include(&mut self, p: [f64; 3]) {
        for (k, x) in p.into_iter().enumerate() {
            self.low[k] = self.low[k].min(x);
            self.high[k] = self.high[k].max(x);
        }
    }

    fn distance2(&self, p: [f64; 3]) -> f64 {
        let d = [0, 1, 2].map(|k| (self.low[k] - p[k]).max(p[k] - self.high[k]).max(0.0));
        dot(d, d)
    }
}

/// A search for the neighbours of each atom of one structure.
pub(super) struct Search<'a> {
    lattice: &'a Lattice,
    /// Positions wrapped along periodic directions, Å.
    position: Vec<[f64; 3]>,
    /// Whole cells taken off by wrapping.
    wrap: Vec<[i32; 3]>,
    /// Where single-precision coordinates are counted from, Å.
    centre: [f64; 3],
    cutoff2: f64,
    strict: bool,
    sieve: Sieve,
    /// Images that each block of space can see.
    blocks: Vec<Images>,
    /// Block of each atom.
    block: Vec<u32>,
}

impl<'a> Search<'a> {
    pub(super) fn new(geometry: &Geometry, lattice: &'a Lattice, cutoff: f64) -> Result<Self, GraphError> {
        let (position, fraction, wrap) = wrap(geometry, lattice)?;
        let region = Box3::of(&position);
        let centre = [0, 1, 2].map(|k| 0.5 * region.low[k] + 0.5 * region.high[k]);
        let largest = (0..3).map(|k| region.high[k] - centre[k]).fold(0.0, f64::max) + cutoff;
        let mut search = Self {
            lattice,
            block: vec![0; position.len()],
            position,
            wrap,
            centre,
            cutoff2: cutoff * cutoff,
            strict: lattice.pbc == [false; 3],
            sieve: Sieve::new(cutoff, largest),
            blocks: Vec::new(),
        };
        let images = search.images(&fraction, &region, cutoff)?;
        search.divide(images, &region, cutoff);
        Ok(search)
    }

    /// All images within reach of the box around the atoms.
    fn images(&self, fraction: &[[f64; 3]], region: &Box3, cutoff: f64) -> Result<Images, GraphError> {
        let lattice = self.lattice;
        let ranges = Ranges::new(fraction, lattice, cutoff)?;
        let reach2 = f64::from(self.sieve.outer());
        let mut images = Images::default();
        for (source, p) in self.position.iter().enumerate() {
            let [first, second, third] = ranges.of(fraction[source]);
            let wrap = self.wrap[source];
            for i in first.clone() {
                let p = add(*p, lattice.rows[0], i);
                for j in second.clone() {
                    let p = add(p, lattice.rows[1], j);
                    for l in third.clone() {
                        let p = add(p, lattice.rows[2], l);
                        if region.distance2(p) <= reach2 {
                            // Both are at most 16,001: the difference fits.
                            let shift = [i - wrap[0], j - wrap[1], l - wrap[2]].map(|n| n as i16);
                            images.push(self.local(p), source as u32, shift);
                        }
                    }
                }
            }
        }
        images.pad();
        Ok(images)
    }

    /// Gives each block of about a cutoff's width its own images, where there are atoms enough.
    fn divide(&mut self, images: Images, region: &Box3, cutoff: f64) {
        let atoms = self.position.len();
        if atoms < ATOMS_FOR_BLOCKS {
            self.blocks.push(images);
            return;
        }
        // Distant atoms must not need a huge grid.
        let most = (atoms as f64).cbrt();
        let extent = [0, 1, 2].map(|k| region.high[k] - region.low[k]);
        let count = extent.map(|x| (x / cutoff).clamp(1.0, most) as usize);
        let cell = |p: &[f64; 3]| {
            let along = |k: usize| {
                let f = (p[k] - region.low[k]) / extent[k].max(cutoff);
                ((f * count[k] as f64) as usize).min(count[k] - 1)
            };
            (along(0) * count[1] + along(1)) * count[2] + along(2)
        };
        let mut regions = vec![Box3::EMPTY; count.iter().product()];
        for p in &self.position {
            regions[cell(p)].include(self.local(*p).map(f64::from));
        }
        let mut number = vec![0u32; regions.len()];
        for (cell, region) in regions.iter().enumerate().filter(|(_, region)| region.low[0] <= region.high[0])
        {
            number[cell] = self.blocks.len() as u32;
            self.blocks.push(images.around(region, self.sieve));
        }
        self.block = self.position.iter().map(|p| number[cell(p)]).collect();
    }

    /// Coordinates in single precision.
    fn local(&self, p: [f64; 3]) -> [f32; 3] {
        [0, 1, 2].map(|k| (p[k] - self.centre[k]) as f32)
    }

    /// Collects the neighbours of a target, in the order of (source, shift).
    pub(super) fn row(&self, target: usize, row: &mut Row) {
        let images = &self.blocks[self.block[target] as usize];
        let at = self.local(self.position[target]);
        row.hits.resize(images.axes[0].len(), 0);
        row.length = 0;
        for (chunk, lanes) in images.chunks().enumerate() {
            let (mut may, sure) = self.sieve.masks(lanes, at);
            let (first, rest) = (chunk * LANES, images.source.len() - chunk * LANES);
            if rest < LANES {
                may &= (1 << rest) - 1;
            }
            let mut within = may & sure;
            each_bit(may & !sure, |bit| {
                let d2 = self.distance2(images, first + bit, target);
                let is = d2 > SAME && (d2 < self.cutoff2 || (!self.strict && d2 == self.cutoff2));
                within |= u64::from(is) << bit;
            });
            each_bit(within, |bit| {
                row.hits[row.length] = (first + bit) as u32;
                row.length += 1;
            });
        }
    }

    /// Squared distance of an image and a target, Å², in double precision.
    fn distance2(&self, images: &Images, image: usize, target: usize) -> f64 {
        let source = images.source[image] as usize;
        let (s, t) = (self.position[source], self.position[target]);
        let mut d = [s[0] - t[0], s[1] - t[1], s[2] - t[2]];
        for k in 0..3 {
            let n = i32::from(images.shift[image][k]) + self.wrap[source][k];
            d = add(d, self.lattice.rows[k], n);
        }
        dot(d, d)
    }

    /// Squared distances of a target's row, Å².
    pub(super) fn distances(&self, target: usize, row: &Row, distance2: &mut Vec<f64>) {
        let images = &self.blocks[self.block[target] as usize];
        distance2.clear();
        distance2.extend(row.hits().iter().map(|k| self.distance2(images, *k as usize, target)));
    }

    /// Appends a target's row to a list.
    pub(super) fn append(
        &self,
        target: usize,
        row: &Row,
        source: &mut Vec<u32>,
        shift: &mut Vec<[i16; 3]>,
    ) -> Result<(), GraphError> {
        let images = &self.blocks[self.block[target] as usize];
        source.extend(row.hits().iter().map(|k| images.source[*k as usize]));
        let shifts = row.hits().iter().map(|k| images.shift[*k as usize]);
        let wrap = self.wrap[target];
        if wrap == [0; 3] {
            shift.extend(shifts);
            return Ok(());
        }
        for (o, k) in shifts.zip(row.hits()) {
            let wide = [0, 1, 2].map(|x| i32::from(o[x]) + wrap[x]);
            let mut narrow = [0i16; 3];
            for (n, wide) in narrow.iter_mut().zip(wide) {
                *n = i16::try_from(wide).map_err(|_| GraphError::Shift {
                    atom: images.source[*k as usize] as usize,
                    shift: f64::from(wide),
                })?;
            }
            shift.push(narrow);
        }
        Ok(())
    }
}

/// Images that are neighbours of one target.
#[derive(Debug, Default)]
pub(super) struct Row {
    hits: Vec<u32>,
    length: usize,
}

impl Row {
    /// Number of neighbours.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    fn hits(&self) -> &[u32] {
        &self.hits[..self.length]
    }

    /// Keeps the neighbours at these places, given in ascending order.
    pub(super) fn keep(&mut self, places: &[usize]) {
        for (i, place) in places.iter().enumerate() {
            self.hits[i] = self.hits[*place];
        }
        self.length = places.len();
    }
}

/// Which images of an atom can lie within reach of any atom, by its coordinates along the lattice vectors.
struct Ranges {
    low: [f64; 3],
    high: [f64; 3],
    pbc: [bool; 3],
}

impl Ranges {
    fn new(fraction: &[[f64; 3]], lattice: &Lattice, cutoff: f64) -> Result<Self, GraphError> {
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

    fn of(&self, fraction: [f64; 3]) -> [std::ops::RangeInclusive<i32>; 3] {
        [0, 1, 2].map(|k| {
            if self.pbc[k] {
                (self.low[k] - fraction[k]).ceil() as i32..=(self.high[k] - fraction[k]).floor() as i32
            } else {
                0..=0
            }
        })
    }
}

type Wrapped = (Vec<[f64; 3]>, Vec<[f64; 3]>, Vec<[i32; 3]>);

/// Positions and coordinates along the lattice vectors, both wrapped, and the whole cells taken off.
///
/// Along a direction in which the atoms span no more than one cell they stay where they are: wrapping would only tear
/// a slab apart and widen the search.
fn wrap(geometry: &Geometry, lattice: &Lattice) -> Result<Wrapped, GraphError> {
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

fn add(d: [f64; 3], row: [f64; 3], n: i32) -> [f64; 3] {
    let n = f64::from(n);
    [d[0] + n * row[0], d[1] + n * row[1], d[2] + n * row[2]]
}
