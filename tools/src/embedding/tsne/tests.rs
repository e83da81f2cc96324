use super::*;
use crate::embedding::pca::Pca;

/// Nearly normal noise: a sum of twelve even ones.
fn gaussian(random: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| random.next_u32() as f64 / 4_294_967_296.0).sum::<f64>() - 6.0
}

/// `each` points around each of three far centres in ten dimensions.
fn clusters(each: usize) -> Points {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut values = vec![];
    for cluster in 0..3 {
        for _ in 0..each {
            values.extend((0..10).map(|k| if k == cluster { 30.0 } else { 0.0 } + gaussian(&mut random)));
        }
    }
    Points::new(10, values)
}

fn settings(iterations: usize, exact: usize) -> Settings {
    Settings { perplexity: 10.0, iterations, seed: 1, exact }
}

fn made(points: &Points, settings: Settings) -> Map {
    map(points, &Pca::new(points, 2).scores, settings, |_| ())
}

/// Share of points whose nearest neighbour on the map is of their own cluster.
fn kept_together(places: &[[f64; 2]], each: usize) -> f64 {
    let nearest = |i: usize| {
        let squared =
            |j: &usize| (places[i][0] - places[*j][0]).powi(2) + (places[i][1] - places[*j][1]).powi(2);
        (0..places.len()).filter(|j| *j != i).min_by(|a, b| squared(a).total_cmp(&squared(b))).unwrap()
    };
    let together = (0..places.len()).filter(|&i| nearest(i) / each == i / each).count();
    together as f64 / places.len() as f64
}

/// Largest distance from a cluster's middle, and least distance between middles.
fn spread(places: &[[f64; 2]], each: usize) -> (f64, f64) {
    let middles: Vec<[f64; 2]> = places
        .chunks(each)
        .map(|c| [0, 1].map(|k| c.iter().map(|p| p[k]).sum::<f64>() / each as f64))
        .collect();
    let distance = |a: [f64; 2], b: [f64; 2]| ((a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)).sqrt();
    let within = places.iter().enumerate().map(|(i, p)| distance(*p, middles[i / each])).fold(0.0, f64::max);
    let between = [(0, 1), (0, 2), (1, 2)].map(|(a, b)| distance(middles[a], middles[b]));
    (within, between.into_iter().fold(f64::INFINITY, f64::min))
}

#[test]
fn far_clusters_stay_apart() {
    for exact in [1000, 0] {
        let map = made(&clusters(60), settings(600, exact));
        assert_eq!(map.exact, exact > 0);
        assert_eq!(kept_together(&map.places, 60), 1.0);
        let (within, between) = spread(&map.places, 60);
        assert!(between > 2.0 * within, "{between} {within}");
    }
}

#[test]
fn the_divergence_falls() {
    let points = clusters(40);
    let values: Vec<f64> = [1, 300, 500, 800].map(|n| made(&points, settings(n, 1000)).divergence).to_vec();
    assert!(values.windows(2).all(|w| w[1] < w[0]), "{values:?}");
    assert!(values[3] < 0.5 * values[0], "{values:?}");
}

#[test]
fn the_gradient_is_that_of_the_divergence() {
    let points = clusters(8);
    let affinities = Affinities::new(&points, 23, 5.0);
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let places: Vec<[f64; 2]> = (0..24).map(|_| [0, 1].map(|_| gaussian(&mut random))).collect();
    let gradients = gradient(&affinities, &places, 1.0, 0.0);
    for i in [0, 11, 23] {
        for k in 0..2 {
            let moved = |by: f64| {
                let mut places = places.clone();
                places[i][k] += by;
                divergence(&affinities, &places, 0.0)
            };
            let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((difference - gradients[i][k]).abs() < 1e-8, "{i} {k}: {difference} {}", gradients[i][k]);
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let points = clusters(50);
    for exact in [1000, 0] {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| made(&points, settings(60, exact)))
        };
        assert_eq!(on(1), on(3));
    }
}

#[test]
fn few_and_equal_points_are_no_fault() {
    for n in [2, 3, 5] {
        let map = made(&Points::new(4, vec![1.0; 4 * n]), settings(50, 1000));
        assert!(map.places.iter().flatten().all(|v| v.is_finite()), "{n}");
    }
}
