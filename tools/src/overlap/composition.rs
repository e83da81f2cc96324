//! Hashes of compositions: the same for the same atoms in any order.

/// What a structure is looked up by, 128 bits. Two different compositions among 10⁸ have the same key with a probability of
/// 10⁻²³ or so.
pub type Key = u128;

const ELEMENTS: usize = shards::element::MAX_ATOMIC_NUMBER as usize + 1;

/// Adds up one random number for each atom, so that order does not matter and no atom costs more than an addition.
#[derive(Debug, Clone)]
pub struct Hasher {
    numbers: [Key; ELEMENTS],
}

impl Default for Hasher {
    fn default() -> Self {
        let mut state = 0x6a09_e667_f3bc_c908;
        let mut numbers = [0; ELEMENTS];
        for number in &mut numbers {
            *number = u128::from(splitmix(&mut state)) << 64 | u128::from(splitmix(&mut state));
        }
        Self { numbers }
    }
}

impl Hasher {
    /// The key of a composition: how many atoms of each element (paper, Appendix G).
    pub fn composition(&self, atomic_numbers: &[u8]) -> Key {
        atomic_numbers.iter().fold(0, |sum: Key, &z| sum.wrapping_add(self.numbers[z as usize]))
    }

    /// The key of a reduced formula: the same for Fe₂O₃ and Fe₄O₆, a crystal in any of its cells.
    pub fn formula(&self, atomic_numbers: &[u8]) -> Key {
        let mut counts = [0u32; ELEMENTS];
        atomic_numbers.iter().for_each(|&z| counts[z as usize] += 1);
        let common = counts.iter().fold(0, |common, &count| greatest_common_divisor(common, count)).max(1);
        let terms = counts.iter().zip(&self.numbers);
        terms.fold(0, |sum: Key, (&count, number)| {
            sum.wrapping_add(number.wrapping_mul(Key::from(count / common)))
        })
    }
}

/// Steele, Lea and Flood's generator (OOPSLA 2014).
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn order_does_not_matter_and_counts_do() {
        let hasher = Hasher::default();
        assert_eq!(hasher.composition(&[6, 1, 8, 1]), hasher.composition(&[1, 1, 6, 8]));
        assert_ne!(hasher.composition(&[1, 8]), hasher.composition(&[1, 1, 8]));
        assert_eq!(hasher.formula(&[26, 26, 8, 8, 8]), hasher.formula(&[8, 26, 8, 26, 8, 8, 26, 8, 26, 8]));
        assert_ne!(hasher.formula(&[1, 1, 8]), hasher.formula(&[1, 8]));
        // Reduced already: both keys are one.
        assert_eq!(hasher.formula(&[1, 1, 8]), hasher.composition(&[8, 1, 1]));
    }

    #[test]
    fn different_compositions_have_different_keys() {
        let hasher = Hasher::default();
        let mut seen = BTreeMap::new();
        for h in 0..24usize {
            for c in 0..12usize {
                for n in 0..6usize {
                    for o in 0..6usize {
                        let atoms = [vec![1; h], vec![6; c], vec![7; n], vec![8; o]].concat();
                        assert_eq!(seen.insert(hasher.composition(&atoms), (h, c, n, o)), None);
                    }
                }
            }
        }
    }
}
