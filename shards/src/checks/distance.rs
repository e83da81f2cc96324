use crate::structure::{Structure, cell_volume};

/// The distance of the closest two atoms (or of an atom and its own image), Å, if it is below `limit`.
///
/// Exact while the cell is at least `2 · limit` high along each periodic direction; in a flatter one an atom's own image is
/// found, if it is near. Atoms are sorted along one direction, so that the work grows little faster than their number.
pub fn closest_pair(structure: &Structure, limit: f64) -> Option<f64> {
    let atoms = Atoms::of(structure);
    let mut least = atoms.own_image().filter(|d| *d < limit).map_or(limit * limit, |d| d * d);
    let found_image = least < limit * limit;
    let before = least;
    let n = atoms.places.len();
    for i in 0..n {
        for step in 1..n {
            let j = i + step;
            // Past the end, the first atoms follow as images if the direction repeats.
            if j >= n && !atoms.repeats {
                break;
            }
            let (j, lap) = if j >= n { (j - n, 1.0) } else { (j, 0.0) };
            if (atoms.places[j].key + lap - atoms.places[i].key) * atoms.height >= limit {
                break;
            }
            least = least.min(atoms.square_distance(i, j));
        }
    }
    (found_image || least < before).then(|| least.sqrt())
}

struct Place {
    /// Coordinate that atoms are sorted by: a wrapped fraction, or Å.
    key: f64,
    /// Cartesian, Å, or fractional.
    at: [f64; 3],
}

struct Atoms {
    places: Vec<Place>,
    /// Cell vectors as rows where any direction repeats.
    cell: Option<[f64; 9]>,
    pbc: [bool; 3],
    /// Whether the sorted direction repeats.
    repeats: bool,
    /// Å for one unit of the key.
    height: f64,
}

impl Atoms {
    fn of(structure: &Structure) -> Self {
        let pbc = structure.pbc;
        let cell = structure.cell.filter(|c| pbc.contains(&true) && cell_volume(c).abs() > 1e-9);
        let positions = |i: usize| std::array::from_fn(|k| structure.positions.get(3 * i + k));
        let (mut axis, mut height) = (0, 1.0);
        let inverse = cell.map(|c| inverse(&c));
        if let Some(inverse) = &inverse {
            // The height of the cell along k is one over the length of the k-th column of the inverse.
            let heights: [f64; 3] = std::array::from_fn(|k| {
                1.0 / (inverse[k].powi(2) + inverse[3 + k].powi(2) + inverse[6 + k].powi(2)).sqrt()
            });
            axis = (0..3).max_by(|&a, &b| heights[a].total_cmp(&heights[b])).unwrap_or(0);
            height = heights[axis];
        }
        let mut places: Vec<Place> = (0..structure.atoms())
            .map(|i| {
                let r: [f64; 3] = positions(i);
                let Some(inverse) = &inverse else { return Place { key: r[0], at: r } };
                let at: [f64; 3] = std::array::from_fn(|k| {
                    r[0] * inverse[k] + r[1] * inverse[3 + k] + r[2] * inverse[6 + k]
                });
                let key = if pbc[axis] { at[axis] - at[axis].floor() } else { at[axis] };
                Place { key, at }
            })
            .collect();
        places.sort_by(|a, b| a.key.total_cmp(&b.key));
        Self { places, cell, pbc, repeats: cell.is_some() && pbc[axis], height }
    }

    fn square_distance(&self, i: usize, j: usize) -> f64 {
        let (a, b) = (self.places[i].at, self.places[j].at);
        let mut d = [b[0] - a[0], b[1] - a[1], b[2] - a[2]];
        if let Some(c) = &self.cell {
            for (x, _) in d.iter_mut().zip(self.pbc).filter(|(_, periodic)| *periodic) {
                *x -= x.round();
            }
            d = std::array::from_fn(|x| d[0] * c[x] + d[1] * c[3 + x] + d[2] * c[6 + x]);
        }
        d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    }

    /// The shortest periodic cell vector, Å.
    fn own_image(&self) -> Option<f64> {
        let c = self.cell?;
        let length = |k: usize| (c[3 * k].powi(2) + c[3 * k + 1].powi(2) + c[3 * k + 2].powi(2)).sqrt();
        (0..3).filter(|&k| self.pbc[k]).map(length).min_by(f64::total_cmp)
    }
}

/// Inverse of a matrix given by rows; fractions are `r · inverse`.
pub(super) fn inverse(c: &[f64; 9]) -> [f64; 9] {
    let [a, b, d, e, f, g, h, i, j] = *c;
    let v = cell_volume(c);
    [
        (f * j - g * i) / v,
        (d * i - b * j) / v,
        (b * g - d * f) / v,
        (g * h - e * j) / v,
        (a * j - d * h) / v,
        (d * e - a * g) / v,
        (e * i - f * h) / v,
        (b * h - a * i) / v,
        (a * f - b * e) / v,
    ]
}
