use super::lattice::{Lattice, dot};
use super::{Edges, Geometry, GraphError};

/// Squared distance, Å², at and below which two atoms count as the same.
const SAME: f64 = 1e-4;

/// All neighbours of every atom within a cutoff, nearest first up to a number, as rows by receiving atom.
///
/// Rows are sorted by (source, shift); no distances are kept. Distances that agree to a millionth of an Å are ties,
/// which go to the smaller (source, shift), so that rounding does not decide between periodic images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NeighborList {
    /// Where the row of a receiving atom begins, `[atoms + 1]`.
    pub offsets: Vec<u32>,
    /// Neighbouring atom.
    pub source: Vec<u32>,
    /// Cell shift of the neighbour: displacement = `pos[s] − pos[t] + shift·cell`.
    pub shift: Vec<[i16; 3]>,
}

impl NeighborList {
    /// Finds the neighbours: distance² ≤ cutoff² (periodic) or < cutoff² (not periodic), and > 1e-4 Å².
    ///
    /// # Errors
    /// Non-finite positions, periodic directions without volume, a bad cutoff, wrong number of tags, or shifts
    /// beyond 16 bits.
    pub fn build(geometry: &Geometry, cutoff: f64, max: u32) -> Result<Self, GraphError> {
        check(geometry, cutoff)?;
        let lattice = Lattice::of(geometry)?;
        let search = Search::new(geometry, &lattice, cutoff)?;
        let atoms = geometry.positions.len();
        let mut list = Edges::with_capacity(atoms, atoms * 32);
        let mut row = Row::default();
        for target in 0..atoms {
            row.clear();
            search.row(target, &mut row)?;
            row.keep_nearest(max as usize);
            for i in 0..row.source.len() {
                list.push(row.source[i], row.shift[i]);
            }
            if list.len() > u32::MAX as usize - 1 {
                return Err(GraphError::TooMany { limit: u64::from(u32::MAX) - 1, cutoff });
            }
            list.end_row();
        }
        Ok(Self { offsets: list.offsets, source: list.source, shift: list.shift })
    }

    /// Number of neighbour relations.
    pub fn len(&self) -> usize {
        self.source.len()
    }

    /// Whether no atom has a neighbour.
    pub fn is_empty(&self) -> bool {
        self.source.is_empty()
    }

    /// The same list without the edges for which `drop` says so, asked once an edge in row order.
    ///
    /// JMP's edge dropout works on this list, before the four graphs are taken from it: directed edges go
    /// independently, and symmetrisation restores reverse edges from those with source < target.
    pub fn without(&self, mut drop: impl FnMut() -> bool) -> Self {
        let mut kept = Edges::with_capacity(self.offsets.len().saturating_sub(1), self.len());
        for row in self.offsets.windows(2) {
            for e in row[0] as usize..row[1] as usize {
                if !drop() {
                    kept.push(self.source[e], self.shift[e]);
                }
            }
            kept.end_row();
        }
        Self { offsets: kept.offsets, source: kept.source, shift: kept.shift }
    }
}

fn check(geometry: &Geometry, cutoff: f64) -> Result<(), GraphError> {
    if !(cutoff.is_finite() && cutoff > 0.0) {
        return Err(GraphError::Cutoff { cutoff });
    }
    check_atoms(geometry)
}

/// Positions are finite and tags, if any, are one an atom.
pub(super) fn check_atoms(geometry: &Geometry) -> Result<(), GraphError> {
    let atoms = geometry.positions.len();
    if let Some(tags) = geometry.tags
        && tags.len() != atoms
    {
        return Err(GraphError::Tags { found: tags.len(), atoms });
    }
    for (atom, position) in geometry.positions.iter().enumerate() {
        if !position.iter().all(|x| x.is_finite()) {
            return Err(GraphError::Position { atom, position: *position });
        }
    }
    Ok(())
}

/// Neighbours of one atom while they are being collected.
#[derive(Debug, Default)]
struct Row {
    source: Vec<u32>,
    shift: Vec<[i16; 3]>,
    distance2: Vec<f64>,
    order: Vec<u64>,
}

impl Row {
    fn clear(&mut self) {
        self.source.clear();
        self.shift.clear();
        self.distance2.clear();
    }

    fn keep_nearest(&mut self, max: usize) {
        if self.source.len() <= max {
            return;
        }
        nearest(&self.distance2, max, &mut self.order);
        self.order.sort_unstable_by_key(|key| *key as u32);
        for (i, key) in self.order.iter().enumerate() {
            let from = (*key & u64::from(u32::MAX)) as usize;
            self.source[i] = self.source[from];
            self.shift[i] = self.shift[from];
        }
        self.source.truncate(max);
        self.shift.truncate(max);
        self.distance2.clear();
    }
}

/// The positions of the `max` smallest distances, as keys (distance in µÅ, position) in no particular order.
pub(super) fn nearest(distance2: &[f64], max: usize, order: &mut Vec<u64>) {
    order.clear();
    order.extend(distance2.iter().enumerate().map(|(i, d2)| rank_key(*d2, i)));
    if order.len() > max {
        if max > 0 {
            order.select_nth_unstable(max - 1);
        }
        order.truncate(max);
    }
}

/// Distance in whole µÅ above, position in the row below: sorts nearest first with ties by (source, shift).
pub(super) fn rank_key(distance2: f64, position: usize) -> u64 {
    let micro = (distance2.sqrt() * 1e6).round().min(f64::from(u32::MAX)) as u64;
    micro << 32 | position as u64
}

/// Everything that a row's search reads.
struct Search<'a> {
    lattice: &'a Lattice,
    /// Positions wrapped along periodic directions, Å, relative to their own cell.
    position: Vec<[f64; 3]>,
    fraction: Vec<[f64; 3]>,
    /// Whole cells taken off by wrapping.
    wrap: Vec<[i32; 3]>,
    cutoff2: f64,
    /// Planes within the cutoff along each direction, as a fraction of a cell.
    reach: [f64; 3],
    strict: bool,
    bins: Option<Bins>,
}

impl<'a> Search<'a> {
    fn new(geometry: &Geometry, lattice: &'a Lattice, cutoff: f64) -> Result<Self, GraphError> {
        let atoms = geometry.positions.len();
        let (mut position, mut fraction) = (Vec::with_capacity(atoms), Vec::with_capacity(atoms));
        let mut wrap = Vec::with_capacity(atoms);
        for (atom, p) in geometry.positions.iter().enumerate() {
            let mut f = lattice.fractional(*p);
            let mut p = *p;
            let mut w = [0i32; 3];
            for k in 0..3 {
                if lattice.pbc[k] {
                    let whole = f[k].floor();
                    if whole.abs() > 16_000.0 {
                        return Err(GraphError::Shift { atom, shift: whole });
                    }
                    w[k] = whole as i32;
                    f[k] -= whole;
                    for (x, row) in p.iter_mut().zip(lattice.rows[k]) {
                        *x -= whole * row;
                    }
                }
            }
            position.push(p);
            fraction.push(f);
            wrap.push(w);
        }
        let reach = lattice.spacing.map(|h| cutoff / h);
        if let Some(k) = (0..3).find(|k| lattice.pbc[*k] && reach[*k] > 16_000.0) {
            return Err(GraphError::Shift { atom: 0, shift: reach[k] });
        }
        let bins = Bins::of(&fraction, lattice, reach);
        let strict = lattice.pbc == [false; 3];
        Ok(Self { lattice, position, fraction, wrap, cutoff2: cutoff * cutoff, reach, strict, bins })
    }

    fn row(&self, target: usize, row: &mut Row) -> Result<(), GraphError> {
        match &self.bins {
            None => {
                for source in 0..self.position.len() {
                    self.pair(source, target, row)?;
                }
            }
            Some(bins) => {
                let mut near = bins.near(self.fraction[target]);
                near.sort_unstable();
                for source in near {
                    self.pair(source as usize, target, row)?;
                }
            }
        }
        Ok(())
    }

    /// All images of one source around one target, in the order of their shifts.
    fn pair(&self, source: usize, target: usize, row: &mut Row) -> Result<(), GraphError> {
        let (ps, pt) = (self.position[source], self.position[target]);
        let d = [ps[0] - pt[0], ps[1] - pt[1], ps[2] - pt[2]];
        let (mut low, mut high) = ([0i32; 3], [0i32; 3]);
        for k in 0..3 {
            let f = self.fraction[source][k] - self.fraction[target][k];
            // A little wider than exact, so that rounding in `f` cannot lose an image at the cutoff.
            let reach = self.reach[k] + 1e-9;
            if self.lattice.pbc[k] {
                low[k] = (-reach - f).ceil() as i32;
                high[k] = (reach - f).floor() as i32;
            } else if f.abs() > reach {
                return Ok(());
            }
        }
        let rows = &self.lattice.rows;
        let base = self.offset(source, target);
        for i in low[0]..=high[0] {
            let d = add(d, rows[0], i);
            for j in low[1]..=high[1] {
                let d = add(d, rows[1], j);
                for l in low[2]..=high[2] {
                    let d = add(d, rows[2], l);
                    let d2 = dot(d, d);
                    if d2 > SAME && (d2 < self.cutoff2 || (!self.strict && d2 == self.cutoff2)) {
                        row.source.push(source as u32);
                        row.shift.push(narrow([base[0] + i, base[1] + j, base[2] + l], source)?);
                        row.distance2.push(d2);
                    }
                }
            }
        }
        Ok(())
    }

    /// What turns a shift between wrapped atoms into one between the atoms as given.
    fn offset(&self, source: usize, target: usize) -> [i32; 3] {
        let (s, t) = (self.wrap[source], self.wrap[target]);
        [t[0] - s[0], t[1] - s[1], t[2] - s[2]]
    }
}

fn add(d: [f64; 3], row: [f64; 3], n: i32) -> [f64; 3] {
    let n = f64::from(n);
    [d[0] + n * row[0], d[1] + n * row[1], d[2] + n * row[2]]
}

fn narrow(shift: [i32; 3], atom: usize) -> Result<[i16; 3], GraphError> {
    let mut narrow = [0i16; 3];
    for (n, s) in narrow.iter_mut().zip(shift) {
        *n = i16::try_from(s).map_err(|_| GraphError::Shift { atom, shift: f64::from(s) })?;
    }
    Ok(narrow)
}

/// Atoms sorted into slabs of at least the cutoff along each direction; used where that spares work.
struct Bins {
    count: [usize; 3],
    low: [f64; 3],
    width: [f64; 3],
    pbc: [bool; 3],
    start: Vec<u32>,
    atoms: Vec<u32>,
}

impl Bins {
    /// `None` for few atoms or few bins, where testing every pair is quicker.
    fn of(fraction: &[[f64; 3]], lattice: &Lattice, reach: [f64; 3]) -> Option<Self> {
        if fraction.len() < 128 {
            return None;
        }
        let (mut low, mut high) = ([0.0f64; 3], [1.0f64; 3]);
        for k in (0..3).filter(|k| !lattice.pbc[*k]) {
            low[k] = fraction.iter().map(|f| f[k]).fold(f64::INFINITY, f64::min);
            high[k] = fraction.iter().map(|f| f[k]).fold(f64::NEG_INFINITY, f64::max);
        }
        let mut count = [1usize; 3];
        let mut width = [1.0; 3];
        for k in 0..3 {
            let extent = (high[k] - low[k]).max(1e-9);
            // Never more bins than atoms along a direction: distant atoms must not need a huge grid.
            count[k] = ((extent / (reach[k] * (1.0 + 1e-6))).floor() as usize).clamp(1, 64);
            width[k] = extent / count[k] as f64;
        }
        if count.iter().all(|c| *c < 4) {
            return None;
        }
        let mut bins = Self { count, low, width, pbc: lattice.pbc, start: Vec::new(), atoms: Vec::new() };
        let total = count[0] * count[1] * count[2];
        let of: Vec<usize> = fraction.iter().map(|f| bins.flat(bins.bin(*f))).collect();
        let mut start = vec![0u32; total + 1];
        for b in &of {
            start[b + 1] += 1;
        }
        for b in 0..total {
            start[b + 1] += start[b];
        }
        let mut next = start.clone();
        bins.atoms = vec![0; fraction.len()];
        for (atom, b) in of.iter().enumerate() {
            bins.atoms[next[*b] as usize] = atom as u32;
            next[*b] += 1;
        }
        bins.start = start;
        Some(bins)
    }

    fn bin(&self, f: [f64; 3]) -> [usize; 3] {
        let mut bin = [0; 3];
        for k in 0..3 {
            bin[k] = (((f[k] - self.low[k]) / self.width[k]).max(0.0) as usize).min(self.count[k] - 1);
        }
        bin
    }

    fn flat(&self, b: [usize; 3]) -> usize {
        (b[0] * self.count[1] + b[1]) * self.count[2] + b[2]
    }

    /// Atoms of the bin and of all that touch it, each once.
    fn near(&self, f: [f64; 3]) -> Vec<u32> {
        let bin = self.bin(f);
        let along: Vec<Vec<usize>> = (0..3).map(|k| self.around(bin[k], k)).collect();
        let mut atoms = Vec::new();
        for i in &along[0] {
            for j in &along[1] {
                for l in &along[2] {
                    let b = self.flat([*i, *j, *l]);
                    atoms.extend_from_slice(&self.atoms[self.start[b] as usize..self.start[b + 1] as usize]);
                }
            }
        }
        atoms
    }

    fn around(&self, b: usize, k: usize) -> Vec<usize> {
        let n = self.count[k];
        let mut near: Vec<usize> = if self.pbc[k] {
            vec![(b + n - 1) % n, b, (b + 1) % n]
        } else {
            (b.saturating_sub(1)..=(b + 1).min(n - 1)).collect()
        };
        near.sort_unstable();
        near.dedup();
        near
    }
}
