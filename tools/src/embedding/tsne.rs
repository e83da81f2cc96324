//! t-SNE: a map on which points that belong together lie together (van der Maaten and Hinton 2008).
//!
//! Exact up to [`EXACT`] points, Barnes–Hut beyond. The same points and settings give the same map to the bit, on any number
//! of threads.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rayon::prelude::*;

use super::affinity::Affinities;
use super::points::Points;
use super::quadtree::{QuadTree, Repulsion};

/// Up to so many points all pairs are summed.
pub const EXACT: usize = 2000;
/// Accuracy of the approximation beyond: van der Maaten's choice.
const THETA: f64 = 0.5;
/// Iterations in which affinities are exaggerated, and by how much.
const EARLY: usize = 250;
const EXAGGERATION: f64 = 12.0;

/// How a map is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// About how many neighbours a point has.
    pub perplexity: f64,
    /// Steps of gradient descent.
    pub iterations: usize,
    /// Of the small noise that parts equal points.
    pub seed: u64,
    /// Points up to which all pairs are summed.
    pub exact: usize,
}

/// A finished map.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// Where each point lies.
    pub places: Vec<[f64; 2]>,
    /// Kullback–Leibler divergence of the map from the affinities: the smaller, the truer.
    pub divergence: f64,
    /// The perplexity used: at most a third of the points.
    pub perplexity: f64,
    /// Whether all pairs were summed.
    pub exact: bool,
}

/// Makes a map of points; `start` are their first two principal components. `each` is called after every iteration.
pub fn map(points: &Points, start: &Points, settings: Settings, mut each: impl FnMut(usize)) -> Map {
    let n = points.len();
    let perplexity = settings.perplexity.min((n.saturating_sub(1) as f64 / 3.0).max(1.0));
    let exact = n <= settings.exact;
    let neighbors = if exact { n } else { (3.0 * perplexity).ceil() as usize };
    let affinities = Affinities::new(points, neighbors, perplexity);
    let theta = if exact { 0.0 } else { THETA };
    let mut descent = Descent::new(beginning(start, settings.seed), theta);
    for iteration in 0..settings.iterations {
        // The early phase is at most half of a short run.
        let early = iteration < EARLY.min(settings.iterations / 2);
        descent.step(&affinities, if early { (EXAGGERATION, 0.5) } else { (1.0, 0.8) });
        each(iteration + 1);
    }
    let divergence = divergence(&affinities, &descent.places, theta);
    Map { places: descent.places, divergence, perplexity, exact }
}

/// The first principal components, made small, with a little noise.
fn beginning(start: &Points, seed: u64) -> Vec<[f64; 2]> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut noise = || (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
    let variance = start.iter().map(|p| p[0] * p[0]).sum::<f64>() / start.len().max(1) as f64;
    let scale = if variance > 0.0 { 1e-4 / variance.sqrt() } else { 0.0 };
    let place = |p: &[f64]| [0, 1].map(|k| p.get(k).map_or(0.0, |v| v * scale) + 1e-6 * noise());
    start.iter().map(place).collect()
}

struct Descent {
    places: Vec<[f64; 2]>,
    speeds: Vec<[f64; 2]>,
    gains: Vec<[f64; 2]>,
    rate: f64,
    theta: f64,
}

impl Descent {
    fn new(places: Vec<[f64; 2]>, theta: f64) -> Self {
        let n = places.len();
        // Belkina et al. 2019: a rate that grows with the number of points.
        let rate = (n as f64 / EXAGGERATION / 4.0).max(50.0);
        Self { speeds: vec![[0.0; 2]; n], gains: vec![[1.0; 2]; n], places, rate, theta }
    }

    fn step(&mut self, affinities: &Affinities, (exaggeration, momentum): (f64, f64)) {
        let gradients = gradient(affinities, &self.places, exaggeration, self.theta);
        for (i, gradient) in gradients.iter().enumerate() {
            for (k, slope) in gradient.iter().enumerate() {
                let (gain, speed) = (&mut self.gains[i][k], &mut self.speeds[i][k]);
                // Faster where the direction keeps, slower where it turns.
                *gain = if slope * *speed < 0.0 { *gain + 0.2 } else { (*gain * 0.8).max(0.01) };
                *speed = momentum * *speed - self.rate * *gain * slope;
                self.places[i][k] += *speed;
            }
        }
        let n = self.places.len().max(1) as f64;
        let mean = [0, 1].map(|k| self.places.iter().map(|p| p[k]).sum::<f64>() / n);
        self.places.iter_mut().for_each(|p| (0..2).for_each(|k| p[k] -= mean[k]));
    }
}

/// Repulsion on every point, and the sum of the normalisers, added in the points' order.
fn repulsions(places: &[[f64; 2]], theta: f64) -> (Vec<Repulsion>, f64) {
    let all: Vec<Repulsion> = if theta > 0.0 {
        let tree = QuadTree::new(places);
        places.par_iter().map_init(Vec::new, |stack, p| tree.repulsion(*p, theta, stack)).collect()
    } else {
        places.par_iter().map(|p| all_pairs(places, *p)).collect()
    };
    let sum = all.iter().map(|r| r.normaliser).sum();
    (all, sum)
}

fn all_pairs(places: &[[f64; 2]], point: [f64; 2]) -> Repulsion {
    // The point itself is among them and adds 1.
    let mut sum = Repulsion { normaliser: -1.0, ..Repulsion::default() };
    for other in places {
        let apart = [point[0] - other[0], point[1] - other[1]];
        let kernel = 1.0 / (1.0 + apart[0] * apart[0] + apart[1] * apart[1]);
        sum.normaliser += kernel;
        sum.force[0] += kernel * kernel * apart[0];
        sum.force[1] += kernel * kernel * apart[1];
    }
    sum
}

/// ∂KL/∂y_i = 4 Σ_j (e p_ij − q_ij) (1 + |y_i − y_j|²)⁻¹ (y_i − y_j), with affinities exaggerated by e.
fn gradient(affinities: &Affinities, places: &[[f64; 2]], exaggeration: f64, theta: f64) -> Vec<[f64; 2]> {
    let (repulsions, normaliser) = repulsions(places, theta);
    let one = |(i, repulsion): (usize, &Repulsion)| {
        let mut attraction = [0.0; 2];
        for (j, p) in affinities.of(i) {
            let apart = [places[i][0] - places[j][0], places[i][1] - places[j][1]];
            let weight = p / (1.0 + apart[0] * apart[0] + apart[1] * apart[1]);
            attraction[0] += weight * apart[0];
            attraction[1] += weight * apart[1];
        }
        [0, 1].map(|k| 4.0 * (exaggeration * attraction[k] - repulsion.force[k] / normaliser))
    };
    repulsions.par_iter().enumerate().map(one).collect()
}

/// Σ p_ij ln(p_ij / q_ij) over the stored affinities.
fn divergence(affinities: &Affinities, places: &[[f64; 2]], theta: f64) -> f64 {
    let (_, normaliser) = repulsions(places, theta);
    let mut sum = 0.0;
    for i in 0..places.len() {
        for (j, p) in affinities.of(i).filter(|(_, p)| *p > 0.0) {
            let squared = (places[i][0] - places[j][0]).powi(2) + (places[i][1] - places[j][1]).powi(2);
            sum += p * (p * (1.0 + squared) * normaliser).ln();
        }
    }
    sum
}

#[cfg(test)]
mod tests;
