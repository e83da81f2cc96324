//! Linear references: the energy of a composition, fitted by least squares over element counts
//! (paper §3.1 and appendix; the reference scripts call `numpy.linalg.lstsq` on the same matrix).

use std::collections::BTreeMap;

use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};

use crate::element;
use crate::error::ShardError;
use crate::exact_sum::ExactSum;

/// Length of tables by atomic number.
pub const ELEMENTS: usize = element::MAX_ATOMIC_NUMBER as usize + 1;

/// Coefficients by atomic number and how well they were determined.
///
/// Elements absent from the fit are absent here; asking for one is an error, not a zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinearReference {
    /// The split it was fitted on, or whose rows a given reference was applied to.
    pub split: String,
    /// Atomic number → coefficient in the label's unit.
    pub coefficients: BTreeMap<u8, f64>,
    /// Structures with the label.
    pub structures: u64,
    /// Exact rank of the count matrix; `None` if the reference was given.
    pub rank: Option<usize>,
    /// Largest over smallest non-zero singular value of the count matrix; `None` if the reference was given.
    pub condition: Option<f64>,
    /// The file that a given reference comes from; `None`: it was fitted here.
    #[serde(default)]
    pub given: Option<String>,
}

/// A published reference, used instead of a fit for the energy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenReference {
    /// Name of the file it comes from.
    pub file: String,
    /// BLAKE3 of that file.
    pub blake3: String,
    /// Atomic number → eV; elements that the file gives 0 for are absent.
    pub coefficients: BTreeMap<u8, f64>,
}

impl GivenReference {
    /// A reference for the rows of a split.
    ///
    /// # Errors
    /// When one of the split's `elements` is absent.
    pub(crate) fn applied(
        &self,
        split: &str,
        structures: u64,
        elements: &[u8],
    ) -> Result<LinearReference, ShardError> {
        let reference = LinearReference {
            split: split.to_owned(),
            coefficients: self.coefficients.clone(),
            structures,
            rank: None,
            condition: None,
            given: Some(self.file.clone()),
        };
        reference.of(elements).map(|_| reference.clone())
    }
}

impl LinearReference {
    /// Σ over atoms of the coefficient of their element.
    pub fn of(&self, atomic_numbers: &[u8]) -> Result<f64, ShardError> {
        let mut sum = 0.0;
        for &z in atomic_numbers {
            sum += self.coefficients.get(&z).ok_or_else(|| ShardError::AbsentElement {
                symbol: element::symbol(z),
                atomic_number: z,
                split: self.given.as_ref().unwrap_or(&self.split).clone(),
            })?;
        }
        Ok(sum)
    }

    /// A dense table by atomic number for hot loops; absent elements are NaN.
    pub fn table(&self) -> [f64; ELEMENTS] {
        let mut table = [f64::NAN; ELEMENTS];
        for (&z, &c) in &self.coefficients {
            table[z as usize] = c;
        }
        table
    }
}

/// Sufficient statistics of the fit: XᵀX in integers and Xᵀy on the exact grid, so that parts merge to the bit.
#[derive(Debug, Clone)]
pub struct ReferenceFit {
    gram: Vec<u128>,
    moment: Vec<ExactSum>,
    /// Atoms by atomic number.
    atoms: Vec<u64>,
    structures: u64,
}

impl Default for ReferenceFit {
    fn default() -> Self {
        Self {
            gram: vec![0; ELEMENTS * ELEMENTS],
            moment: vec![ExactSum::default(); ELEMENTS],
            atoms: vec![0; ELEMENTS],
            structures: 0,
        }
    }
}

impl ReferenceFit {
    /// Adds one structure, given by `(atomic number, count)` pairs, with its label.
    pub fn add(&mut self, counts: &[(u8, u32)], label: f64) {
        for &(zi, ni) in counts {
            for &(zj, nj) in counts {
                self.gram[zi as usize * ELEMENTS + zj as usize] += u128::from(ni) * u128::from(nj);
            }
            self.moment[zi as usize].add_times(label, u64::from(ni));
            self.atoms[zi as usize] += u64::from(ni);
        }
        self.structures += 1;
    }

    /// Adds the statistics of another part.
    pub fn merge(&mut self, other: &Self) {
        self.gram.iter_mut().zip(&other.gram).for_each(|(a, b)| *a += b);
        self.moment.iter_mut().zip(&other.moment).for_each(|(a, b)| a.merge(*b));
        self.atoms.iter_mut().zip(&other.atoms).for_each(|(a, b)| *a += b);
        self.structures += other.structures;
    }

    /// Structures that were added.
    pub(crate) fn structures(&self) -> u64 {
        self.structures
    }

    /// Σ over all structures of what the reference says of them.
    pub(crate) fn total(&self, reference: &LinearReference) -> f64 {
        reference.coefficients.iter().map(|(&z, c)| c * self.atoms[z as usize] as f64).sum()
    }

    /// Atomic numbers that occur.
    pub(crate) fn elements(&self) -> Vec<u8> {
        (1..ELEMENTS).filter(|&z| self.gram[z * ELEMENTS + z] > 0).map(|z| z as u8).collect()
    }

    /// Solves for the coefficients of least norm. `None` without structures.
    pub fn solve(&self, split: &str) -> Option<LinearReference> {
        let present = self.elements();
        if present.is_empty() {
            return None;
        }
        let at = |i: u8, j: u8| self.gram[i as usize * ELEMENTS + j as usize];
        let rank = exact_rank(&present, at);
        let m = present.len();
        let gram = DMatrix::from_fn(m, m, |i, j| at(present[i], present[j]) as f64);
        let moment = DVector::from_fn(m, |i, _| self.moment[present[i] as usize].value());
        let residual = |x: &[f64]| self.residual(&present, x);
        let (solution, condition) = minimum_norm(&gram, &moment, residual, rank);
        let coefficients = present.iter().copied().zip(solution.iter().copied()).collect();
        Some(LinearReference {
            split: split.to_string(),
            coefficients,
            structures: self.structures,
            rank: Some(rank),
            condition: Some(condition),
            given: None,
        })
    }
}

impl ReferenceFit {
    /// `b − G x` without rounding but that of `x` to the sums' grid.
    fn residual(&self, present: &[u8], x: &[f64]) -> DVector<f64> {
        DVector::from_fn(present.len(), |i, _| {
            let row = present[i] as usize;
            let mut sum = self.moment[row];
            for (&z, &x) in present.iter().zip(x) {
                sum.add_times(-x, self.gram[row * ELEMENTS + z as usize] as u64);
            }
            sum.value()
        })
    }
}

/// `x` of least norm with `G x ≈ b`, from the `rank` largest eigenpairs of the positive semi-definite `G`,
/// and the condition number of the count matrix (the root of `G`'s).
///
/// The normal equations square the condition number; what that costs is won back by iterative refinement with residuals
/// that are computed exactly, in integers.
fn minimum_norm(
    gram: &DMatrix<f64>,
    moment: &DVector<f64>,
    residual: impl Fn(&[f64]) -> DVector<f64>,
    rank: usize,
) -> (DVector<f64>, f64) {
    let eigen = gram.clone().symmetric_eigen();
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    order.truncate(rank);
    let apply = |b: &DVector<f64>| {
        let mut x = DVector::zeros(b.len());
        for &k in &order {
            let v = eigen.eigenvectors.column(k);
            x += v * (v.dot(b) / eigen.eigenvalues[k]);
        }
        x
    };
    let mut x = apply(moment);
    for _ in 0..REFINEMENTS {
        x += apply(&residual(x.as_slice()));
    }
    let condition = match (order.first(), order.last()) {
        (Some(&a), Some(&b)) => (eigen.eigenvalues[a] / eigen.eigenvalues[b]).sqrt(),
        _ => 1.0,
    };
    (x, condition)
}

const REFINEMENTS: usize = 4;

/// Rank of the integer matrix, by elimination modulo the prime 2⁶¹ − 1: no tolerance to choose.
fn exact_rank(present: &[u8], at: impl Fn(u8, u8) -> u128) -> usize {
    const P: u128 = (1 << 61) - 1;
    let m = present.len();
    let mut rows: Vec<Vec<u128>> =
        present.iter().map(|&i| present.iter().map(|&j| at(i, j) % P).collect()).collect();
    let inverse = |x: u128| power(x, P - 2, P);
    let mut rank = 0;
    for column in 0..m {
        let Some(pivot) = (rank..m).find(|&r| rows[r][column] != 0) else { continue };
        rows.swap(rank, pivot);
        let scale = inverse(rows[rank][column]);
        for r in rank + 1..m {
            let factor = rows[r][column] * scale % P;
            let (above, below) = rows.split_at_mut(r);
            for (value, pivot) in below[0][column..].iter_mut().zip(&above[rank][column..]) {
                *value = (*value + P - factor * pivot % P) % P;
            }
        }
        rank += 1;
    }
    rank
}

fn power(mut base: u128, mut exponent: u128, modulus: u128) -> u128 {
    let mut result = 1;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result * base % modulus;
        }
        base = base * base % modulus;
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(rows: &[(&[(u8, u32)], f64)]) -> LinearReference {
        let mut fit = ReferenceFit::default();
        rows.iter().for_each(|(counts, y)| fit.add(counts, *y));
        fit.solve("train").unwrap()
    }

    #[test]
    fn recovers_exact_coefficients() {
        let truth = [(1u8, -13.6), (6, -1035.9), (8, -2047.0)];
        let energy = |c: &[(u8, u32)]| -> f64 {
            c.iter().map(|&(z, n)| truth.iter().find(|t| t.0 == z).unwrap().1 * f64::from(n)).sum()
        };
        let rows: Vec<Vec<(u8, u32)>> = vec![
            vec![(1, 4), (6, 1)],
            vec![(1, 2), (8, 1)],
            vec![(1, 6), (6, 2), (8, 1)],
            vec![(6, 1), (8, 2)],
            vec![(1, 2), (6, 1), (8, 1)],
        ];
        let labelled: Vec<(&[(u8, u32)], f64)> = rows.iter().map(|r| (r.as_slice(), energy(r))).collect();
        let got = fit(&labelled);
        assert_eq!(got.rank, Some(3));
        for (z, c) in truth {
            assert!((got.coefficients[&z] - c).abs() < 1e-9 * c.abs(), "{z}: {}", got.coefficients[&z]);
        }
        assert!(got.of(&[1, 1, 8]).is_ok());
        assert!(got.of(&[7]).unwrap_err().to_string().contains("element N (Z = 7) is absent"));
    }

    #[test]
    fn one_formula_gives_the_least_norm() {
        // x = Xᵀ y / |X|² row by row: counts (6, 2, 1), y = −82.
        let got = fit(&[(&[(1, 6), (6, 2), (8, 1)], -82.0), (&[(1, 6), (6, 2), (8, 1)], -82.0)]);
        assert_eq!(got.rank, Some(1));
        for (z, n) in [(1u8, 6.0), (6, 2.0), (8, 1.0)] {
            assert!((got.coefficients[&z] - -82.0 * n / 41.0).abs() < 1e-12);
        }
    }

    #[test]
    fn nearly_dependent_counts_are_solved() {
        // Alkanes C_n H_(2n+2): the count matrix has a condition number of 10⁴ and more, the normal equations its square.
        let (h, c) = (-16.43, -1036.07);
        let mut fit = ReferenceFit::default();
        for n in 1..2000u32 {
            let hydrogens = if n == 1000 { 2 * n + 1 } else { 2 * n + 2 };
            fit.add(&[(1, hydrogens), (6, n)], h * f64::from(hydrogens) + c * f64::from(n));
        }
        let got = fit.solve("train").unwrap();
        let condition = got.condition.unwrap();
        assert!(condition > 1e3, "{condition}");
        for (z, expected) in [(1, h), (6, c)] {
            let error = (got.coefficients[&z] - expected).abs() / expected.abs();
            assert!(error < 1e-10, "{z}: {error:e} at condition {condition:e}");
        }
    }

    #[test]
    fn a_given_reference_must_know_every_element() {
        let file = GivenReference {
            file: "ref.npz".into(),
            blake3: String::new(),
            coefficients: BTreeMap::from([(1, -3.0), (8, -7.0)]),
        };
        let applied = file.applied("train", 5, &[1, 8]).unwrap();
        assert_eq!(applied.of(&[1, 1, 8]).unwrap(), -13.0);
        assert_eq!((applied.rank, applied.given.as_deref()), (None, Some("ref.npz")));
        let error = file.applied("train", 5, &[1, 6]).unwrap_err().to_string();
        assert!(
            error.contains("element C (Z = 6) is absent from the linear reference")
                && error.contains("ref.npz")
        );
    }

    #[test]
    fn parts_merge_to_the_bit() {
        let rows: Vec<([(u8, u32); 2], f64)> =
            (0u32..50).map(|i| ([(1, i % 7 + 1), (6, i % 5)], -1.37 * f64::from(i) - 7.3)).collect();
        let mut whole = ReferenceFit::default();
        rows.iter().for_each(|(c, y)| whole.add(c, *y));
        let (mut a, mut b) = (ReferenceFit::default(), ReferenceFit::default());
        rows.iter().enumerate().for_each(|(i, (c, y))| if i % 3 == 0 { a.add(c, *y) } else { b.add(c, *y) });
        b.merge(&a);
        assert_eq!(whole.solve("s"), b.solve("s"));
    }
}
