//! The search for the neighbours of each atom of one structure.

use super::images::{Box3, Images, Ranges, add, wrap};
use super::lattice::{Lattice, dot};
use super::sieve::{LANES, SAME, Sieve, each_bit};
use super::{Geometry, GraphError};

/// Atoms from which on it pays to give each block of space a list of its own.
const ATOMS_FOR_BLOCKS: usize = 192;

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
        let mut cells = vec![Box3::EMPTY; count.iter().product()];
        for p in &self.position {
            cells[cell(p)].include(self.local(*p).map(f64::from));
        }
        let mut number = Vec::with_capacity(cells.len());
        // Layers, then lines of a layer, then cells of a line: each looks only at what the one before has left.
        for layer in cells.chunks(count[1] * count[2]) {
            let near_layer = images.around(&Box3::union(layer), self.sieve);
            for line in layer.chunks(count[2]) {
                let near_line = near_layer.around(&Box3::union(line), self.sieve);
                for cell in line {
                    number.push(self.blocks.len() as u32);
                    if !cell.is_empty() {
                        self.blocks.push(near_line.around(cell, self.sieve));
                    }
                }
            }
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
