//! How much points belong together in the space they come from (van der Maaten and Hinton 2008).

use std::cmp::Ordering;

use rayon::prelude::*;

use super::points::Points;

/// Symmetric affinities p_ij that add up to 1; what is not stored is 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Affinities {
    /// `starts[i]..starts[i + 1]` are the entries of point i.
    starts: Vec<usize>,
    others: Vec<u32>,
    values: Vec<f64>,
}

impl Affinities {
    /// Affinities from the `neighbors` nearest points of each, at a perplexity below that number. With all other points as
    /// neighbours nothing is left out. The result does not depend on the number of threads.
    pub fn new(points: &Points, neighbors: usize, perplexity: f64) -> Self {
        let n = points.len();
        let neighbors = neighbors.min(n.saturating_sub(1));
        let conditional: Vec<Vec<(u32, f64)>> = (0..n)
            .into_par_iter()
            .map(|i| {
                let near = nearest(points, i, neighbors);
                let distances: Vec<f64> = near.iter().map(|(distance, _)| *distance).collect();
                let (probabilities, _) = conditional(&distances, perplexity);
                near.into_iter().zip(probabilities).map(|((_, j), p)| (j, p)).collect()
            })
            .collect();
        Self::symmetric(&conditional)
    }

    /// p_ij = (p_j|i + p_i|j) / 2n.
    fn symmetric(conditional: &[Vec<(u32, f64)>]) -> Self {
        let n = conditional.len();
        let mut rows: Vec<Vec<(u32, f64)>> = conditional.to_vec();
        for (i, row) in conditional.iter().enumerate() {
            for &(j, p) in row {
                rows[j as usize].push((i as u32, p));
            }
        }
        let (mut starts, mut others, mut values) = (vec![0], vec![], vec![]);
        for mut row in rows {
            // Stable: of two entries for one pair, the point's own stays first, so that sums have one order.
            row.sort_by_key(|(j, _)| *j);
            for pair in row.chunk_by(|a, b| a.0 == b.0) {
                others.push(pair[0].0);
                values.push(pair.iter().map(|(_, p)| p).sum::<f64>() / (2.0 * n as f64));
            }
            starts.push(others.len());
        }
        Self { starts, others, values }
    }

    /// How many points there are.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The stored affinities of a point: the other point, the value.
    pub fn of(&self, point: usize) -> impl Iterator<Item = (usize, f64)> {
        let range = self.starts[point]..self.starts[point + 1];
        self.others[range.clone()].iter().map(|j| *j as usize).zip(self.values[range].iter().copied())
    }
}

/// The nearest points with squared distances, nearest first; equal distances by index.
fn nearest(points: &Points, of: usize, count: usize) -> Vec<(f64, u32)> {
    let own = points.point(of);
    let squared = |other: &[f64]| own.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
    let mut all: Vec<(f64, u32)> = points
        .iter()
        .enumerate()
        .filter(|(j, _)| *j != of)
        .map(|(j, other)| (squared(other), j as u32))
        .collect();
    let by_distance =
        |a: &(f64, u32), b: &(f64, u32)| -> Ordering { a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)) };
    if count < all.len() {
        all.select_nth_unstable_by(count, by_distance);
        all.truncate(count);
    }
    all.sort_by(by_distance);
    all
}

/// Halvings of the interval that the precision lies in: enough for all digits.
const HALVINGS: usize = 200;

/// Probabilities ∝ exp(−β d²) whose perplexity exp(−Σ p ln p) is as asked, and β. A perplexity that cannot be reached (at or above
/// the number of neighbours) gives equal probabilities.
pub fn conditional(squared_distances: &[f64], perplexity: f64) -> (Vec<f64>, f64) {
    let Some(least) = squared_distances.iter().copied().min_by(f64::total_cmp) else { return (vec![], 0.0) };
    let weights =
        |beta: f64| -> Vec<f64> { squared_distances.iter().map(|d| (-beta * (d - least)).exp()).collect() };
    let wanted = perplexity.ln();
    let (mut low, mut high, mut beta) = (0.0, f64::INFINITY, 1.0);
    if wanted >= (squared_distances.len() as f64).ln() {
        beta = 0.0;
    } else {
        for _ in 0..HALVINGS {
            let entropy = entropy(&weights(beta));
            if (entropy - wanted).abs() < 1e-12 {
                break;
            }
            if entropy > wanted {
                low = beta;
                beta = if high.is_finite() { f64::midpoint(low, high) } else { 2.0 * beta };
            } else {
                high = beta;
                beta = f64::midpoint(low, high);
            }
        }
    }
    let weights = weights(beta);
    let sum: f64 = weights.iter().sum();
    (weights.iter().map(|w| w / sum).collect(), beta)
}

/// −Σ p ln p of weights, normalised.
fn entropy(weights: &[f64]) -> f64 {
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| w / sum).filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(i: usize) -> f64 {
        ((i * 7919 + 104_729) % 10_007) as f64 / 10_007.0
    }

    #[test]
    fn the_perplexity_is_as_asked() {
        for scale in [1e-6, 1.0, 1e6] {
            let distances: Vec<f64> = (0..90).map(|i| scale * (0.1 + noise(i))).collect();
            for perplexity in [2.0, 5.0, 30.0, 80.0] {
                let (p, _) = conditional(&distances, perplexity);
                let got = (-p.iter().map(|p| if *p > 0.0 { p * p.ln() } else { 0.0 }).sum::<f64>()).exp();
                assert!((got - perplexity).abs() < 1e-8 * perplexity, "{scale} {perplexity} {got}");
            }
        }
        // What cannot be reached: all alike.
        assert_eq!(conditional(&[1.0, 2.0], 5.0).0, [0.5, 0.5]);
        // Equal distances have no other answer.
        assert_eq!(conditional(&[3.0; 4], 2.0).0, [0.25; 4]);
    }

    #[test]
    fn affinities_are_symmetric_and_add_up_to_one() {
        let points = Points::new(3, (0..150).map(noise).collect());
        for neighbors in [12, 49] {
            let affinities = Affinities::new(&points, neighbors, 4.0);
            let total: f64 = (0..50).flat_map(|i| affinities.of(i)).map(|(_, p)| p).sum();
            assert!((total - 1.0).abs() < 1e-12);
            for i in 0..50 {
                for (j, p) in affinities.of(i) {
                    assert_ne!(i, j);
                    let back = affinities.of(j).find(|(k, _)| *k == i).unwrap().1;
                    assert!((back - p).abs() < 1e-15, "{i} {j}");
                }
            }
        }
    }

    #[test]
    fn nearest_is_what_sorting_all_finds() {
        let points = Points::new(2, (0..80).map(|i| (noise(i) * 6.0).round()).collect());
        for i in 0..40 {
            let mut all: Vec<(f64, u32)> = (0..40u32)
                .filter(|j| *j as usize != i)
                .map(|j| {
                    let (a, b) = (points.point(i), points.point(j as usize));
                    ((a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2), j)
                })
                .collect();
            all.sort_by(|a, b| a.partial_cmp(b).unwrap());
            assert_eq!(nearest(&points, i, 7), all[..7]);
        }
    }
}
