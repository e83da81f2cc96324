use super::{Geometry, GraphError};

/// A cell whose missing directions are completed, its inverse, and atoms wrapped along the periodic directions.
#[derive(Debug)]
pub(super) struct Lattice {
    /// Lattice vectors as rows, Å; a non-periodic direction without a vector has a unit vector.
    pub(super) rows: [[f64; 3]; 3],
    /// Distance of neighbouring lattice planes of each direction, Å.
    pub(super) spacing: [f64; 3],
    pub(super) pbc: [bool; 3],
    inverse: [[f64; 3]; 3],
}

impl Lattice {
    pub(super) fn of(geometry: &Geometry) -> Result<Self, GraphError> {
        let pbc = geometry.pbc;
        let bad = || GraphError::Cell { cell: geometry.cell, pbc };
        let mut rows = match geometry.cell {
            Some(cell) => cell,
            None if pbc == [false; 3] => [[0.0; 3]; 3],
            None => return Err(bad()),
        };
        if !rows.as_flattened().iter().all(|x| x.is_finite()) {
            return Err(bad());
        }
        complete(&mut rows, pbc);
        let c = [cross(rows[1], rows[2]), cross(rows[2], rows[0]), cross(rows[0], rows[1])];
        let volume = dot(rows[0], c[0]);
        let size = norm(rows[0]) * norm(rows[1]) * norm(rows[2]);
        if !(volume.abs() > 1e-9 * size && volume.is_finite()) {
            return Err(bad());
        }
        let mut inverse = [[0.0; 3]; 3];
        let mut spacing = [0.0; 3];
        for k in 0..3 {
            for x in 0..3 {
                inverse[x][k] = c[k][x] / volume;
            }
            spacing[k] = volume.abs() / norm(c[k]);
        }
        Ok(Self { rows, spacing, pbc, inverse })
    }

    /// Coordinates along the lattice vectors.
    pub(super) fn fractional(&self, p: [f64; 3]) -> [f64; 3] {
        let mut f = [0.0; 3];
        for (k, f) in f.iter_mut().enumerate() {
            *f = p[0] * self.inverse[0][k] + p[1] * self.inverse[1][k] + p[2] * self.inverse[2][k];
        }
        f
    }
}

/// Replaces every non-periodic direction by a unit vector normal to the periodic ones, so that the basis is never
/// degenerate through a direction that does not matter.
fn complete(rows: &mut [[f64; 3]; 3], pbc: [bool; 3]) {
    match pbc.iter().filter(|p| **p).count() {
        0 => *rows = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        1 => {
            let k = pbc.iter().position(|p| *p).unwrap_or(0);
            let v = rows[k];
            let axis = (0..3).min_by(|a, b| v[*a].abs().total_cmp(&v[*b].abs())).unwrap_or(0);
            let mut e = [0.0; 3];
            e[axis] = 1.0;
            let first = unit(cross(v, e));
            rows[(k + 1) % 3] = first;
            rows[(k + 2) % 3] = unit(cross(v, first));
        }
        2 => {
            let k = pbc.iter().position(|p| !*p).unwrap_or(0);
            rows[k] = unit(cross(rows[(k + 1) % 3], rows[(k + 2) % 3]));
        }
        _ => {}
    }
}

pub(super) fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(super) fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn norm(a: [f64; 3]) -> f64 {
    dot(a, a).sqrt()
}

fn unit(a: [f64; 3]) -> [f64; 3] {
    let n = norm(a);
    if n > 0.0 { [a[0] / n, a[1] / n, a[2] / n] } else { a }
}
