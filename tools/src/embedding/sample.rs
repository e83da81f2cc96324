//! A part of each dataset, so that a map stays light and no dataset hides the others.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// At most `most` rows of each dataset, each subset as likely as any other, in rising order: a function of the datasets'
/// names and the seed.
pub fn rows(datasets: &[String], most: usize, seed: u64) -> Vec<usize> {
    let mut by_dataset: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (row, dataset) in datasets.iter().enumerate() {
        by_dataset.entry(dataset).or_default().push(row);
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut chosen = vec![];
    for rows in by_dataset.values_mut() {
        let kept = most.min(rows.len());
        if kept < rows.len() {
            // The first steps of Fisher and Yates' shuffle.
            for at in 0..kept {
                let other = at + below(&mut random, (rows.len() - at) as u64) as usize;
                rows.swap(at, other);
            }
        }
        chosen.extend_from_slice(&rows[..kept]);
    }
    chosen.sort_unstable();
    chosen
}

/// An even whole number below `bound`: draws that would favour small ones are thrown away.
fn below(random: &mut ChaCha8Rng, bound: u64) -> u64 {
    let limit = u64::MAX - u64::MAX % bound;
    loop {
        let drawn = random.next_u64();
        if drawn < limit {
            return drawn % bound;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_datasets_are_whole_and_large_ones_evenly_thinned() {
        let names: Vec<String> = (0..1010).map(|i| if i < 1000 { "big" } else { "small" }.into()).collect();
        let chosen = rows(&names, 100, 7);
        assert_eq!(chosen.len(), 110);
        assert!((1000..1010).all(|row| chosen.contains(&row)));
        assert!(chosen.windows(2).all(|w| w[0] < w[1]));
        // The mean of 100 even draws of 0..1000 lies within four standard errors (28.9) of 499.5.
        let mean = chosen[..100].iter().sum::<usize>() as f64 / 100.0;
        assert!((mean - 499.5).abs() < 116.0, "{mean}");
        assert_eq!(chosen, rows(&names, 100, 7));
        assert_ne!(chosen, rows(&names, 100, 8));
        assert_eq!(rows(&names, 5000, 7).len(), 1010);
    }
}
