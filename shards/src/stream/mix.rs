//! How often each dataset appears in an epoch, and in which order datasets take turns.

use crate::stream::StreamError;

/// Temperature of the mix: p_i ∝ (n_i / Σn)^(1/T) (paper §3.1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Temperature {
    /// A finite T ≥ 1; 1 keeps the sizes' own proportions.
    Finite(f64),
    /// All datasets alike.
    Infinite,
}

/// Structures that each dataset contributes to one epoch: the smallest factor is 1, so that no row is left out.
///
/// The order of operations is the reference's, since a ceiling stands at the end and rounding shows.
pub fn expanded_sizes(sizes: &[u64], temperature: Temperature) -> Result<Vec<u64>, StreamError> {
    if let Some(index) = sizes.iter().position(|&n| n == 0) {
        return Err(StreamError::EmptyDataset { index });
    }
    let power = match temperature {
        Temperature::Finite(t) if t.is_finite() && t >= 1.0 => 1.0 / t,
        Temperature::Finite(found) => return Err(StreamError::Temperature { found }),
        Temperature::Infinite => 0.0,
    };
    let total: f64 = sizes.iter().map(|&n| n as f64).sum();
    let weights: Vec<f64> =
        sizes.iter().map(|&n| if power == 0.0 { 1.0 } else { (n as f64 / total).powf(power) }).collect();
    let weight: f64 = weights.iter().sum();
    let ratios: Vec<f64> = weights.iter().map(|w| w / weight).collect();
    let target = total / ratios.iter().sum::<f64>();
    let mut factors: Vec<f64> = ratios.iter().zip(sizes).map(|(r, &n)| target * r / n as f64).collect();
    for _ in 0..2 {
        let least = factors.iter().copied().fold(f64::INFINITY, f64::min);
        factors.iter_mut().for_each(|f| *f /= least);
    }
    Ok(sizes.iter().zip(&factors).map(|(&n, f)| (n as f64 * f).ceil() as u64).collect())
}

/// Turns of the datasets within an epoch: how many of the first `t` structures come from each.
///
/// Each count follows its share to within the number of datasets, never decreases, and is exact at the end; so a
/// position far into an epoch is found without walking to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interleave {
    expanded: Vec<u64>,
}

impl Interleave {
    /// Turns for the given numbers of structures.
    pub fn new(expanded: Vec<u64>) -> Self {
        Self { expanded }
    }

    /// Structures of an epoch.
    pub fn total(&self) -> u64 {
        self.expanded.iter().sum()
    }

    /// Structures that each dataset contributes.
    pub fn expanded(&self) -> &[u64] {
        &self.expanded
    }

    /// How many of the first `t` structures each dataset contributes. `t` is at most [`Interleave::total`].
    ///
    /// Each dataset takes its share, rounded down, of what the ones before it left; both the share and the rest grow with
    /// `t`, hence so does every count.
    pub fn counts(&self, t: u64) -> Vec<u64> {
        let mut left = t;
        let mut rest = self.total();
        let mut counts = Vec::with_capacity(self.expanded.len());
        for &size in &self.expanded {
            let take =
                if rest == 0 { 0 } else { (u128::from(left) * u128::from(size) / u128::from(rest)) as u64 };
            counts.push(take);
            left -= take;
            rest -= size;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn smallest_factor_is_one() {
        let sizes = [100_000_000, 8_000_000, 2_000_000, 10_000_000];
        let got = expanded_sizes(&sizes, Temperature::Finite(2.0)).unwrap();
        assert_eq!(got[0], sizes[0]);
        // n · √(n_max / n), to rounding.
        for (&n, &e) in sizes.iter().zip(&got) {
            let expected = (n as f64 * 1e8).sqrt();
            assert!((e as f64 - expected).abs() <= 1.0 + 1e-7 * expected, "{e} for {n}");
        }
        assert_eq!(expanded_sizes(&[5, 7, 3], Temperature::Infinite).unwrap(), [7, 7, 7]);
    }

    #[test]
    fn bad_mixes_are_refused() {
        assert!(expanded_sizes(&[3, 0], Temperature::Infinite).unwrap_err().to_string().contains("number 1"));
        assert!(expanded_sizes(&[3], Temperature::Finite(0.5)).is_err());
        assert!(expanded_sizes(&[3], Temperature::Finite(f64::NAN)).is_err());
    }

    proptest! {
        #[test]
        fn counts_are_monotone_exact_and_near_their_share(sizes in prop::collection::vec(1u64..500, 1..6)) {
            let mix = Interleave::new(sizes.clone());
            let total = mix.total();
            let mut before = vec![0; sizes.len()];
            for t in 0..=total {
                let counts = mix.counts(t);
                prop_assert_eq!(counts.iter().sum::<u64>(), t);
                for i in 0..sizes.len() {
                    prop_assert!(counts[i] >= before[i]);
                    let share = t as f64 * sizes[i] as f64 / total as f64;
                    prop_assert!((counts[i] as f64 - share).abs() <= sizes.len() as f64);
                }
                before = counts;
            }
            prop_assert_eq!(before, sizes);
        }
    }
}
