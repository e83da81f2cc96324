//! A few of many, by a seed.

use std::collections::BTreeSet;

/// `count` different numbers below `of`, ascending; all of them if there are no more. The same seed gives the same ones,
/// and each set is as likely as any other (Floyd's algorithm).
pub fn sample(of: u64, count: u64, seed: u64) -> Vec<u64> {
    if count >= of {
        return (0..of).collect();
    }
    let mut state = seed;
    let mut chosen = BTreeSet::new();
    for last in of - count..of {
        let candidate = below(last + 1, &mut state);
        if !chosen.insert(candidate) {
            chosen.insert(last);
        }
    }
    chosen.into_iter().collect()
}

/// A number below `bound`, unbiased: what does not fill the last whole multiple is drawn again.
fn below(bound: u64, state: &mut u64) -> u64 {
    let limit = u64::MAX - u64::MAX % bound;
    loop {
        let drawn = next(state);
        if drawn < limit {
            return drawn % bound;
        }
    }
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_different_repeatable_and_even() {
        assert_eq!(sample(5, 9, 0), [0, 1, 2, 3, 4]);
        assert_eq!(sample(0, 3, 0), Vec::<u64>::new());
        assert_eq!(sample(1000, 10, 7), sample(1000, 10, 7));
        assert_ne!(sample(1000, 10, 7), sample(1000, 10, 8));
        let mut hits = [0u32; 20];
        for seed in 0..4000 {
            let chosen = sample(20, 5, seed);
            assert!(chosen.len() == 5 && chosen.is_sorted_by(|a, b| a < b) && chosen[4] < 20);
            chosen.iter().for_each(|&i| hits[i as usize] += 1);
        }
        // 1000 expected each, with a standard deviation of 27.
        assert!(hits.iter().all(|&h| (880..1120).contains(&h)), "{hits:?}");
    }

    /// The first numbers of SplitMix64 from seed 1234567, as its author's code gives them.
    #[test]
    fn the_generator_is_splitmix64() {
        let mut state = 1_234_567;
        let got = [(); 3].map(|()| next(&mut state));
        assert_eq!(got, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }
}
