//! Sums whose value does not depend on the order of the terms, so that partitions merge to the bit.

use serde::{Deserialize, Serialize};

/// Grid spacing: terms are rounded once to multiples of 2⁻⁴⁰ (9·10⁻¹³).
const GRID: f64 = (1u64 << 40) as f64;

/// A sum of f64 terms, each rounded once to a fixed grid and added in 128-bit integers.
///
/// 10¹⁰ terms of magnitude up to 10¹⁵ fit; the rounding of each term is below 5·10⁻¹³ absolute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExactSum(i128);

impl ExactSum {
    /// Adds one term. Terms must be finite, which [`crate::Structure::check`] has seen to.
    pub(crate) fn add(&mut self, term: f64) {
        self.0 += (term * GRID).round_ties_even() as i128;
    }

    /// Adds `count` times the same term.
    pub(crate) fn add_times(&mut self, term: f64, count: u64) {
        self.0 += (term * GRID).round_ties_even() as i128 * i128::from(count);
    }

    /// Adds another sum.
    pub(crate) fn merge(&mut self, other: Self) {
        self.0 += other.0;
    }

    /// The sum, rounded to f64 once.
    pub(crate) fn value(self) -> f64 {
        self.0 as f64 / GRID
    }
}

#[cfg(test)]
mod tests {
    use super::ExactSum;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn order_and_partition_do_not_matter(terms in prop::collection::vec(-1e7f64..1e7, 0..200), cut in 0usize..200) {
            let mut forward = ExactSum::default();
            terms.iter().for_each(|&t| forward.add(t));
            let (left, right) = terms.split_at(cut.min(terms.len()));
            let (mut a, mut b) = (ExactSum::default(), ExactSum::default());
            right.iter().rev().for_each(|&t| a.add(t));
            left.iter().rev().for_each(|&t| b.add(t));
            a.merge(b);
            prop_assert_eq!(a, forward);
            let plain: f64 = terms.iter().sum();
            prop_assert!((forward.value() - plain).abs() < 1e-6);
        }
    }

    #[test]
    fn cancellation_is_exact() {
        let mut sum = ExactSum::default();
        sum.add(1e12);
        sum.add(0.25);
        sum.add(-1e12);
        assert_eq!(sum.value(), 0.25);
        sum.add_times(0.5, 3);
        assert_eq!(sum.value(), 1.75);
    }
}
