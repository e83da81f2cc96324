//! Random choices as functions of what they are for: the same words give the same choices on any machine, for ever.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// A generator addressed by words instead of carried along.
#[derive(Debug)]
pub(crate) struct KeyedRng(ChaCha8Rng);

impl KeyedRng {
    /// The generator of a purpose and some numbers. Other words give unrelated streams.
    pub(crate) fn new(purpose: &str, words: &[u64]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("jmp stream 2026 v1");
        hasher.update(purpose.as_bytes());
        hasher.update(&[0]);
        for word in words {
            hasher.update(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()))
    }

    /// Uniform in `0..bound` without bias (multiplication with rejection). `bound` must not be 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let reject_below = bound.wrapping_neg() % bound;
        loop {
            let wide = u128::from(self.0.next_u64()) * u128::from(bound);
            if wide as u64 >= reject_below {
                return (wide >> 64) as u64;
            }
        }
    }

    /// Uniform in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Shuffles in place.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u64 + 1) as usize;
            items.swap(i, j);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::KeyedRng;

    #[test]
    fn the_algorithm_is_frozen() {
        // A change here changes the order of everyone's training data: it needs a new format version.
        let mut order: Vec<u32> = (0..10).collect();
        KeyedRng::new("test", &[1, 2]).shuffle(&mut order);
        assert_eq!(order, FROZEN);
        let mut other: Vec<u32> = (0..10).collect();
        KeyedRng::new("test", &[2, 1]).shuffle(&mut other);
        assert_ne!(order, other);
    }

    const FROZEN: [u32; 10] = [9, 6, 4, 3, 1, 5, 7, 8, 2, 0];

    #[test]
    fn bounded_numbers_are_uniform() {
        let mut rng = KeyedRng::new("uniform", &[]);
        let mut counts = [0u32; 7];
        (0..70_000).for_each(|_| counts[rng.below(7) as usize] += 1);
        // Five standard deviations of a binomial with p = 1/7.
        assert!(counts.iter().all(|&c| c.abs_diff(10_000) < 463), "{counts:?}");
        let mean = (0..10_000).map(|_| rng.unit()).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.0145, "{mean}");
    }
}
