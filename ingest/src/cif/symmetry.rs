//! Symmetry operations such as `-x+1/2, y, z-0.25`, and what they make of a site.

use crate::crystal::cartesian;

/// Å within which two images of one site are the same atom: rounded special positions lie apart by less, atoms by more.
const SAME_ATOM: f64 = 0.05;

/// `rotation · f + shift` in fractions of the cell vectors.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operation {
    rotation: [[f64; 3]; 3],
    shift: [f64; 3],
}

impl Operation {
    pub(super) fn identity() -> Self {
        Self { rotation: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], shift: [0.0; 3] }
    }

    /// Reads three sums of signed terms, separated by commas.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut operation = Self { rotation: [[0.0; 3]; 3], shift: [0.0; 3] };
        let mut parts = text.split(',');
        for k in 0..3 {
            let part: String = parts.next()?.chars().filter(|c| !c.is_whitespace()).collect();
            sum(&part.to_ascii_lowercase(), &mut operation.rotation[k], &mut operation.shift[k])?;
        }
        parts.next().is_none().then_some(operation)
    }

    fn apply(&self, f: [f64; 3]) -> [f64; 3] {
        std::array::from_fn(|k| {
            let row = self.rotation[k];
            row[0] * f[0] + row[1] * f[1] + row[2] * f[2] + self.shift[k]
        })
    }
}

/// `-x+1/2` → the coefficients of x, y, z and the constant.
fn sum(text: &str, rotation: &mut [f64; 3], shift: &mut f64) -> Option<()> {
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let sign = match rest.as_bytes()[0] {
            b'-' => -1.0,
            _ => 1.0,
        };
        rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        let end = rest.find(['+', '-']).unwrap_or(rest.len());
        let (term, after) = rest.split_at(end);
        match term {
            "x" => rotation[0] += sign,
            "y" => rotation[1] += sign,
            "z" => rotation[2] += sign,
            _ => *shift += sign * number(term)?,
        }
        rest = after;
    }
    Some(())
}

fn number(text: &str) -> Option<f64> {
    let digits = |t: &str| {
        let plain = !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        plain.then(|| t.parse::<f64>().ok()).flatten()
    };
    let value = match text.split_once('/') {
        Some((a, b)) => digits(a)? / digits(b)?,
        None => digits(text)?,
    };
    value.is_finite().then_some(value)
}

/// The images of a site under all operations, each atom once. What the identity gives is kept where it is; the others lie
/// within the cell.
pub(super) fn images(cell: &[f64; 9], operations: &[Operation], site: [f64; 3]) -> Vec<[f64; 3]> {
    let mut found: Vec<[f64; 3]> = Vec::with_capacity(operations.len());
    let identity = Operation::identity();
    for operation in operations {
        let image = operation.apply(site);
        let image = if *operation == identity { image } else { image.map(|f| f - f.floor()) };
        let same = |known: &[f64; 3]| {
            let apart: [f64; 3] = std::array::from_fn(|k| {
                let d = image[k] - known[k];
                d - d.round()
            });
            cartesian(cell, apart).iter().map(|d| d * d).sum::<f64>() < SAME_ATOM * SAME_ATOM
        };
        if !found.iter().any(same) {
            found.push(image);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_read() {
        let check = |text: &str, want: [f64; 3]| {
            let got = Operation::parse(text).unwrap().apply([0.1, 0.2, 0.4]);
            assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12), "{text}: {got:?}");
        };
        check("x, y, z", [0.1, 0.2, 0.4]);
        check("-X+1/2,Y-0.25, 3/4 + z", [0.4, -0.05, 1.15]);
        check("x-y,x,-z+.5", [-0.1, 0.1, 0.1]);
        for bad in ["x,y", "x,y,z,x", "x,,z", "x,y,w", "x,y,1/0", "x,y,2*z", "x,y,--z", "", "x,y,1e3"] {
            assert!(Operation::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn special_positions_are_not_doubled() {
        let cell = [4.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 6.0];
        let operations = ["x,y,z", "-x,-y,-z"].map(|t| Operation::parse(t).unwrap());
        assert_eq!(images(&cell, &operations, [0.5, 0.0, 0.0]), [[0.5, 0.0, 0.0]]);
        assert_eq!(images(&cell, &operations, [1.25, 0.0, -0.5]), [[1.25, 0.0, -0.5], [0.75, 0.0, 0.5]]);
    }
}
