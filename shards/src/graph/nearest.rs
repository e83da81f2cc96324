//! The nearest of a row of neighbours, with ties that rounding does not decide.

/// Number of equal steps of squared distance in which neighbours are counted.
const STEPS: usize = 256;

/// Distance in whole µÅ above, position in the row below: sorts nearest first with ties by (source, shift).
fn rank_key(distance2: f64, position: usize) -> u64 {
    let micro = (distance2.sqrt() * 1e6).min(f64::from(u32::MAX));
    let whole = micro as i64;
    // Rounds half up, as `f64::round` does, which is a call into libm on processors without SSE 4.1.
    let rounded = whole + i64::from(micro - whole as f64 >= 0.5);
    (rounded as u64).min(u64::from(u32::MAX)) << 32 | position as u64
}

/// Picks the nearest of a row; keeps its scratch space between rows.
#[derive(Debug, Default)]
pub(super) struct Nearest {
    keys: Vec<u64>,
}

impl Nearest {
    /// Positions of the `max` smallest distances, nearest first, ties by position.
    pub(super) fn of(&mut self, distance2: &[f64], max: usize) -> impl Iterator<Item = usize> + '_ {
        let bound = if max < distance2.len() { bound(distance2, max) } else { f64::INFINITY };
        self.keys.clear();
        let within = distance2.iter().enumerate().filter(|(_, d2)| **d2 <= bound);
        self.keys.extend(within.map(|(i, d2)| rank_key(*d2, i)));
        if self.keys.len() > 4 * max && max > 0 {
            self.keys.select_nth_unstable(max - 1);
            self.keys.truncate(max);
        }
        self.keys.sort_unstable();
        self.keys.iter().take(max).map(|key| (*key & u64::from(u32::MAX)) as usize)
    }
}

/// A squared distance that the `max` nearest, and all that tie with them, do not exceed: found by counting, so that
/// only few neighbours must be sorted.
fn bound(distance2: &[f64], max: usize) -> f64 {
    let largest = distance2.iter().copied().filter(|d2| d2.is_finite()).fold(0.0, f64::max);
    let scale = STEPS as f64 / largest;
    if !scale.is_finite() {
        return f64::INFINITY;
    }
    let mut counts = [0u32; STEPS + 1];
    for d2 in distance2 {
        counts[((d2 * scale) as u32 as usize).min(STEPS)] += 1;
    }
    let mut sum = 0;
    let step = counts.iter().position(|count| {
        sum += *count as usize;
        sum >= max
    });
    match step {
        // Rounding to µÅ makes neighbours tie that lie on either side of a step.
        Some(step) if step < STEPS => (((step + 1) as f64 / scale).sqrt() + 1e-5).powi(2),
        _ => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(distance2: &[f64], max: usize) -> Vec<usize> {
        let mut all: Vec<(u64, usize)> = distance2
            .iter()
            .enumerate()
            .map(|(i, d2)| ((d2.sqrt() * 1e6).round().min(f64::from(u32::MAX)) as u64, i))
            .collect();
        all.sort_unstable();
        all.into_iter().map(|(_, i)| i).take(max).collect()
    }

    #[test]
    fn the_nearest_are_those_of_a_full_sort() {
        // A multiplicative generator; every third distance repeats up to less than a µÅ.
        let mut state = 12_345u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        for length in [0, 1, 2, 5, 31, 200, 1_000] {
            let mut distance2: Vec<f64> = (0..length).map(|_| (0.5 + 11.0 * next()).powi(2)).collect();
            for i in (3..length).step_by(3) {
                distance2[i] = (distance2[i - 3].sqrt() + 4e-7 * next()).powi(2);
            }
            if length > 4 {
                distance2[4] = f64::INFINITY;
            }
            for max in [0, 1, 7, 30, 199, 5_000] {
                let got: Vec<usize> = Nearest::default().of(&distance2, max).collect();
                assert_eq!(got, sorted(&distance2, max), "{max} of {length}");
            }
        }
    }

    #[test]
    fn equal_and_zero_distances_go_by_position() {
        for distance2 in [[4.0; 9], [0.0; 9], [f64::INFINITY; 9]] {
            assert_eq!(Nearest::default().of(&distance2, 4).collect::<Vec<_>>(), [0, 1, 2, 3]);
        }
    }
}
